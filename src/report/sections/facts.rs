//! What was made of what.

use std::fmt::Write;

use super::{bytes, figure, grouped};
use crate::report::html::{HtmlTable, escaped};
use crate::report::{ModelSummary, Section};

/// Returns the section on models, each with what it is to the others.
pub fn facts_section(models: &[(&str, &ModelSummary)]) -> Section {
    let mut body = "<div class=\"cards\">\n".to_owned();
    for (role, model) in models {
        body += &card(role, model);
    }
    body += "</div>\n";
    for (role, model) in models {
        body += &files(role, model);
    }
    Section { anchor: "made".into(), title: "What was made of what".into(), body }
}

/// Returns a model in a few lines.
fn card(role: &str, model: &ModelSummary) -> String {
    let mut out =
        format!("<div class=\"card\">\n<h3>{}: {}</h3>\n<dl>\n", escaped(role), escaped(&model.name));
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "<dt>{}</dt><dd>{}</dd>", escaped(name), escaped(value));
    };
    line("Path", &model.path);
    line("Format", model.format);
    line("Architecture", model.architecture.as_deref().unwrap_or("not told"));
    line("Size", &bytes(model.bytes));
    line("Bits per weight", &figure(model.bits_per_weight));
    line("Weights", &format!("{} in {} tensors", grouped(model.weights), model.tensors));
    let share =
        |bytes: u64| 100.0 * bytes as f64 / model.types.iter().map(|t| t.bytes).sum::<u64>().max(1) as f64;
    let types: Vec<String> = model
        .types
        .iter()
        .map(|t| format!("{} ({} tensors, {:.1} % of the data)", t.kind, t.tensors, share(t.bytes)))
        .collect();
    line("Types", &types.join(", "));
    for (key, value) in &model.made {
        line(key, value);
    }
    out + "</dl>\n</div>\n"
}

/// Returns the table of a model's files.
fn files(role: &str, model: &ModelSummary) -> String {
    let caption = format!("Files of {}: {}", role.to_lowercase(), model.name);
    let mut table = HtmlTable::new("plain", &caption, &["File", "Bytes", "SHA-256"], &[1]);
    for file in &model.files {
        table.row(&[
            format!("<span class=\"token\">{}</span>", escaped(&file.name)),
            grouped(file.bytes),
            format!("<span class=\"hash\">{}</span>", escaped(&file.sha256)),
        ]);
    }
    table.end()
}
