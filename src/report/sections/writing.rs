//! What both models write, side by side.

use std::fmt::Write;

use crate::report::html::escaped;
use crate::report::{SamplePair, Section};

/// Returns the section on `samples` of the models called `names`, the base first.
pub fn samples_section(names: [&str; 2], samples: &[SamplePair]) -> Section {
    let mut body = String::from(
        "<p>Both models continue beginnings of the text's chunks; each token is the likeliest one. One changed token changes all that \
         follows, so that late differences mean little.</p>\n",
    );
    if samples.is_empty() {
        body += "<p>Left out: these models are so large that writing would take long. <code>kquant generate MODEL --prompt TEXT</code> \
                 writes with one of them.</p>\n";
    }
    for sample in samples {
        let _ = write!(
            body,
            "<h3>After the beginning</h3>\n<p class=\"text\">{}</p>\n<p>The first {} of {} tokens are the same.</p>\n<div class=\"cards\">\n",
            escaped(&sample.prompt),
            sample.same,
            sample.tokens
        );
        for (name, text) in names.into_iter().zip([&sample.base, &sample.model]) {
            let _ = write!(
                body,
                "<div class=\"card\">\n<h3>{}</h3>\n<p class=\"text\">{}</p>\n</div>\n",
                escaped(name),
                escaped(text)
            );
        }
        body += "</div>\n";
    }
    Section { anchor: "samples".into(), title: "What both write".into(), body }
}
