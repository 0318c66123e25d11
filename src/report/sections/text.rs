//! What a comparison on a text found: figures, divergence by position, the worst passages.

use std::fmt::Write;

use super::{drawn, figure};
use crate::chart::{Chart, Mark, Point, Series};
use crate::evaluate::{Comparison, Distribution, Estimate};
use crate::report::html::{HtmlTable, escaped};
use crate::report::{Passage, PassageToken, PositionSpan, Section, TextFindings};

/// Returns the section on text number `number`; `names` are those of the base and of the model.
pub fn text_section(names: [&str; 2], number: usize, findings: &TextFindings) -> Section {
    let report = &findings.report;
    let mut body = format!(
        "<p>{} tokens of the text {} were scored, in {} chunks of {} tokens: the second half of each.</p>\n",
        report.tokens_scored,
        escaped(&findings.text),
        report.chunks,
        report.context
    );
    body += &figures(names, findings);
    if let Some(comparison) = &report.comparison {
        body += "<h3>KL divergence of single tokens</h3>\n";
        body += &quantiles(&comparison.kl);
        body += "<h3>KL divergence by position in a chunk</h3>\n";
        body += &positions(&findings.positions);
        body += &format!("<h3>The {} worst passages</h3>\n", findings.passages.len());
        body += &passages(names, &findings.passages);
    }
    Section { anchor: format!("text-{number}"), title: format!("On the text {}", findings.name()), body }
}

fn figures([base, model]: [&str; 2], findings: &TextFindings) -> String {
    let report = &findings.report;
    let mut table =
        HtmlTable::new("plain", "What was measured", &["What", "Value", "Standard error"], &[1, 2]);
    let mut line = |name: &str, value: String, error: String| table.row(&[escaped(name), value, error]);
    let estimate = |e: Estimate| (figure(e.value), figure(e.stderr));
    let (value, error) = estimate(report.perplexity);
    line(&format!("Perplexity of {model}"), value, error);
    if let Some(Comparison { base: alone, ratio, kl, same_top, same_top_stderr, delta_p, .. }) =
        &report.comparison
    {
        let (value, error) = estimate(alone.perplexity);
        line(&format!("Perplexity of {base}"), value, error);
        let (value, error) = estimate(*ratio);
        line("Ratio of the perplexities", value, error);
        line("KL divergence, nats per token", figure(kl.mean), figure(kl.stderr));
        line("Same likeliest token", format!("{same_top:.2} %"), format!("{same_top_stderr:.2} %"));
        line(
            "Change of the right token's probability, root of the mean square",
            format!("{:.3} %", delta_p.rms),
            format!("{:.3} %", delta_p.rms_stderr),
        );
    }
    table.end()
}

fn quantiles(kl: &Distribution) -> String {
    let head = ["Share of the tokens", "KL divergence at most, nats"];
    let mut table = HtmlTable::new("plain", "How divergence is spread over tokens", &head, &[1]);
    let all = [
        ("half", kl.median),
        ("75 %", kl.p75),
        ("90 %", kl.p90),
        ("95 %", kl.p95),
        ("99 %", kl.p99),
        ("99.9 %", kl.p99_9),
        ("all", kl.max),
    ];
    all.into_iter().for_each(|(share, value)| table.row(&[share.into(), figure(value)]));
    table.end()
}

fn positions(spans: &[PositionSpan]) -> String {
    if !spans.iter().any(|span| span.kl > 0.0) {
        return "<p>No position diverges.</p>\n".into();
    }
    let point = |span: &PositionSpan| Point {
        x: (span.first + span.last) as f64 / 2.0,
        y: span.kl,
        label: String::new(),
    };
    let series = Series {
        name: "mean over the chunks".into(),
        mark: Mark::Line,
        points: spans.iter().map(point).collect(),
    };
    let chart = Chart {
        title: "KL divergence by position".into(),
        x_axis: "position in the chunk, tokens".into(),
        y_axis: "KL divergence, nats per token".into(),
        series: vec![series],
    };
    let head = ["Positions", "Mean KL divergence, nats per token"];
    let mut table = HtmlTable::new("plain", "Divergence by position", &head, &[1]);
    for span in spans {
        table.row(&[format!("{} to {}", span.first, span.last), figure(span.kl)]);
    }
    let table = table.end();
    format!("{}<details>\n<summary>The same as figures</summary>\n{table}</details>\n", drawn(&chart))
}

fn passages([base, model]: [&str; 2], passages: &[Passage]) -> String {
    let mut out = String::from(
        "<p>Underlined is where the two models expect different tokens. A space within a token is shown as \u{2423}, the end of a line as \
         \u{21b5}.</p>\n",
    );
    for passage in passages {
        let _ = write!(
            out,
            "<p>Chunk {}, from token {} on: {} nats per token</p>\n<p class=\"text\"><span class=\"before\">{}</span>",
            passage.chunk + 1,
            passage.position,
            figure(passage.kl),
            escaped(&passage.before)
        );
        for token in &passage.tokens {
            let text = escaped(&token.text);
            let _ = if token.same_top { write!(out, "{text}") } else { write!(out, "<mark>{text}</mark>") };
        }
        out += "</p>\n";
        out += &changed([base, model], passage);
    }
    out
}

/// Returns the table of the tokens of a passage at which the models expect different ones.
fn changed([base, model]: [&str; 2], passage: &Passage) -> String {
    let tokens: Vec<&PassageToken> = passage.tokens.iter().filter(|token| !token.same_top).collect();
    if tokens.is_empty() {
        return "<p>Both expect the same tokens here, with other probabilities.</p>\n".into();
    }
    let (base, model) = (format!("{base} expects"), format!("{model} expects"));
    let head =
        ["The text has", &base, &model, "Probability of the text's token, before and after", "KL, nats"];
    let mut table = HtmlTable::new("plain", "Tokens that changed", &head, &[4]);
    for token in tokens {
        let expected =
            |p: &crate::report::Prediction| format!("{} {}", shown(&p.text), percent(p.probability));
        table.row(&[
            shown(&token.text),
            expected(&token.base_expects),
            expected(&token.model_expects),
            format!("{}, {}", percent(token.base_probability), percent(token.model_probability)),
            figure(token.kl),
        ]);
    }
    table.end()
}

/// Returns a token with its spaces made visible.
fn shown(token: &str) -> String {
    let visible = token.replace(' ', "\u{2423}").replace('\n', "\u{21b5}").replace('\t', "\u{21e5}");
    format!("<span class=\"token\">{}</span>", escaped(&visible))
}

fn percent(probability: f64) -> String {
    match 100.0 * probability {
        small if small < 0.01 => "below 0.01 %".into(),
        percent => format!("{percent:.2} %"),
    }
}
