//! The result of an evaluation, as JSON and as text.

use std::fmt::Display;

use serde::Serialize;

use crate::evaluate::{Comparison, Distribution, Divergence, Estimate, Perplexity};
use crate::text::Chunks;

/// The result of an evaluation. In JSON, numbers that could not be computed are null, and the keys of a comparison stand
/// next to the others.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Tokens per chunk.
    pub context: usize,
    /// Number of chunks.
    pub chunks: usize,
    /// Number of tokens that the statistics cover.
    pub tokens_scored: u64,
    /// Perplexity of the model.
    pub perplexity: Estimate,
    /// Comparison with the base, if there was one.
    #[serde(flatten)]
    pub comparison: Option<Comparison>,
}

impl Report {
    /// Makes the report of a model alone.
    pub fn new(chunks: &Chunks, perplexity: &Perplexity) -> Self {
        Self {
            context: chunks.context(),
            chunks: chunks.len(),
            tokens_scored: perplexity.count(),
            perplexity: perplexity.estimate(),
            comparison: None,
        }
    }

    /// Makes the report of a model and a base.
    pub fn compared(chunks: &Chunks, divergence: &Divergence) -> Self {
        Self { comparison: Some(divergence.comparison()), ..Self::new(chunks, divergence.perplexity()) }
    }

    /// Returns the report as lines of text, each ending with a line feed.
    pub fn text(&self) -> String {
        let Self { context, chunks, tokens_scored, .. } = self;
        let mut out = Lines::default();
        out.line("tokens scored", format_args!("{tokens_scored} in {chunks} chunks of {context}"));
        out.line("perplexity", plus_minus(self.perplexity.value, self.perplexity.stderr, 4, ""));
        if let Some(comparison) = &self.comparison {
            comparison_lines(&mut out, comparison);
        }
        out.0
    }
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn line(&mut self, label: &str, value: impl Display) {
        self.0 += &format!("{label:<22} {value}\n");
    }
}

fn comparison_lines(out: &mut Lines, c: &Comparison) {
    let estimate = |e: Estimate, digits| plus_minus(e.value, e.stderr, digits, "");
    out.line("perplexity of the base", estimate(c.base.perplexity, 4));
    out.line("ratio", estimate(c.ratio, 6));
    out.line("ln of the ratio", plus_minus(c.ln_ratio.mean, c.ln_ratio.stderr, 6, ""));
    out.line("difference", estimate(c.difference, 6));
    out.line("correlation of ln", percent(100.0 * c.correlation));
    out.line("KL divergence", plus_minus(c.kl.mean, c.kl.stderr, 6, ""));
    quantile_lines(out, &c.kl, |v| format!("{v:.6}"));
    out.line("same top token", plus_minus(c.same_top, c.same_top_stderr, 3, " %"));
    out.line(
        "change of probability",
        plus_minus(c.delta_p.distribution.mean, c.delta_p.distribution.stderr, 3, " %"),
    );
    out.line("  root mean square", plus_minus(c.delta_p.rms, c.delta_p.rms_stderr, 3, " %"));
    quantile_lines(out, &c.delta_p.distribution, percent);
}

fn quantile_lines(out: &mut Lines, d: &Distribution, show: impl Fn(f64) -> String) {
    let high = [("maximum", d.max), ("99.9 %", d.p99_9), ("99 %", d.p99), ("95 %", d.p95), ("90 %", d.p90)];
    let middle = [("75 %", d.p75), ("median", d.median), ("25 %", d.p25)];
    let low = [("10 %", d.p10), ("5 %", d.p5), ("1 %", d.p1), ("0.1 %", d.p0_1), ("minimum", d.min)];
    for (label, value) in high.into_iter().chain(middle).chain(low) {
        out.line(&format!("  {label}"), show(value));
    }
}

fn percent(value: f64) -> String {
    format!("{value:.3} %")
}

fn plus_minus(value: f64, error: f64, digits: usize, unit: &str) -> String {
    format!("{value:.digits$} ± {error:.digits$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::super::TokenStats;
    use super::*;

    fn chunks() -> Chunks {
        Chunks::new((0..12).collect(), 6, None, None).unwrap()
    }

    #[test]
    fn a_model_alone() {
        let mut perplexity = Perplexity::default();
        perplexity.extend([2f64.ln(), 8f64.ln(), 4f64.ln(), 4f64.ln()]);
        let report = Report::new(&chunks(), &perplexity);
        let text = report.text();
        assert_eq!(
            text,
            "tokens scored          4 in 2 chunks of 6\nperplexity             4.0000 ± 1.1319\n"
        );
        let json = serde_json::to_value(&report).unwrap();
        let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["context", "chunks", "tokens_scored", "perplexity"]);
    }

    #[test]
    fn a_comparison_has_the_promised_keys() {
        let mut divergence = Divergence::default();
        let token = |kl, same_top| TokenStats { nll: 1.0 + kl, base_nll: 1.0 - kl, kl, same_top };
        divergence.extend([token(0.5, true), token(0.25, false), token(0.0, true), token(0.0, true)]);
        let report = Report::compared(&chunks(), &divergence);
        let json = serde_json::to_value(&report).unwrap();
        for (key, value) in [
            ("/context", 6.0),
            ("/chunks", 2.0),
            ("/tokens_scored", 4.0),
            ("/kl/mean", 0.1875),
            ("/kl/median", 0.125),
            ("/kl/max", 0.5),
            ("/same_top", 75.0),
            ("/same_top_stderr", 25.0),
        ] {
            assert_eq!(json.pointer(key).and_then(|v| v.as_f64()), Some(value), "{key}");
        }
        for key in
            ["perplexity/value", "perplexity/stderr", "base/perplexity/value", "base/perplexity/stderr"]
                .into_iter()
                .chain(["kl/stderr", "kl/p99_9", "ln_ratio/mean", "delta_p/p0_1", "delta_p/rms_stderr"])
        {
            assert!(json.pointer(&format!("/{key}")).is_some_and(|v| v.is_f64()), "{key}");
        }
        let text = report.text();
        assert!(text.contains("KL divergence          0.187500 ± 0.119"), "{text}");
        assert!(text.contains("\n  median               0.125000\n"), "{text}");
        assert!(text.contains("same top token         75.000 ± 25.000 %\n"), "{text}");
    }

    #[test]
    fn errors_of_one_token_are_null() {
        let mut divergence = Divergence::default();
        divergence.push(&TokenStats { nll: 1.0, base_nll: 2.0, kl: 0.5, same_top: true });
        let json = serde_json::to_value(Report::compared(&chunks(), &divergence)).unwrap();
        for key in ["perplexity", "base/perplexity", "ln_ratio", "ratio", "difference", "kl", "delta_p"] {
            assert!(json.pointer(&format!("/{key}/stderr")).is_some_and(|v| v.is_null()), "{key}");
        }
        assert!(json["correlation"].is_null() && json["same_top_stderr"].is_null());
        assert_eq!(json["kl"]["p99_9"], 0.5);
    }
}
