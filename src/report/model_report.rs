//! All that is known of a model and of the model that it was made of, as data, as a page and as lines.

use std::fmt::Write;

use serde::Serialize;

use super::sections::{
    SizePoint, errors_section, facts_section, samples_section, size_section, text_section, types_section,
};
use super::{
    Inspected, ModelSummary, ReportError, SamplePair, Section, TensorError, TextFindings, TypeMap, only_in,
    related, tensor_errors,
};
use crate::context::Context;

/// A model, and how it differs from its base.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelReport {
    /// The model that it was made of, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<ModelSummary>,
    /// The model.
    pub model: ModelSummary,
    /// Types of its matrices.
    pub types: TypeMap,
    /// Errors of its tensors; nothing where shapes differ, or there is no base.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tensors: Option<Vec<TensorError>>,
    /// Tensors that only the base has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only_in_base: Vec<String>,
    /// Tensors that only the model has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only_in_model: Vec<String>,
    /// What was found on texts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub texts: Vec<TextFindings>,
    /// What both write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<Vec<SamplePair>>,
}

impl ModelReport {
    /// Reads what files tell: hashes, types and, where `base` has the same shapes, the errors of all tensors. Texts and samples can be set
    /// afterwards.
    ///
    /// # Errors
    /// Fails when a file or a tensor cannot be read, or the run is stopped.
    pub fn read(base: Option<&Inspected>, model: &Inspected, run: &Context) -> Result<Self, ReportError> {
        let comparable = base.filter(|base| related(base, model).is_ok());
        let [only_in_base, only_in_model] = comparable
            .map_or_else(Default::default, |base| only_in(base, model))
            .map(|names: Vec<&str>| names.into_iter().map(str::to_owned).collect());
        Ok(Self {
            base: base.map(ModelSummary::read).transpose()?,
            model: ModelSummary::read(model)?,
            types: TypeMap::of(model),
            tensors: comparable.map(|base| tensor_errors(base, model, run)).transpose()?,
            only_in_base,
            only_in_model,
            texts: Vec::new(),
            samples: None,
        })
    }

    /// Returns the sections of the page that have data.
    pub fn sections(&self) -> Vec<Section> {
        let base = self.base.as_ref();
        let names = [base.map_or("the base", |base| &base.name), self.model.name.as_str()];
        let facts: Vec<(&str, &ModelSummary)> =
            base.map(|base| ("Base", base)).into_iter().chain([("Model", &self.model)]).collect();
        let mut all = vec![facts_section(&facts)];
        all.extend(self.size_section());
        all.push(types_section(&self.model.name, &self.types));
        if let Some(errors) = &self.tensors {
            let alone = [&self.only_in_base, &self.only_in_model]
                .map(|names| names.iter().map(String::as_str).collect::<Vec<_>>());
            all.push(errors_section(errors, [&alone[0], &alone[1]]));
        }
        all.extend(self.texts.iter().enumerate().map(|(i, text)| text_section(names, i + 1, text)));
        all.extend(self.samples.as_ref().map(|samples| samples_section(names, samples)));
        all
    }

    /// Returns sizes with the divergence on the worst text, if there is a base and a text.
    fn size_section(&self) -> Option<Section> {
        let (base, (worst, kl)) = (self.base.as_ref()?, self.worst()?);
        let point = |of: &ModelSummary, kl| SizePoint {
            name: of.name.clone(),
            bytes: of.bytes,
            bits_per_weight: of.bits_per_weight,
            kl,
        };
        Some(size_section(&point(base, 0.0), &[point(&self.model, kl)], &worst.name()))
    }

    /// Returns the text with the largest mean divergence, and that divergence.
    fn worst(&self) -> Option<(&TextFindings, f64)> {
        let compared = self.texts.iter().filter_map(|t| Some((t, t.report.comparison.as_ref()?.kl.mean)));
        compared.reduce(|worst, next| if next.1.total_cmp(&worst.1).is_gt() { next } else { worst })
    }

    /// Returns the tensor with the largest error, and the number of tensors that changed.
    fn changed(&self) -> Option<(usize, &TensorError)> {
        let changed = || self.tensors.iter().flatten().filter(|t| t.relative_squared_error != 0.0);
        let worst = changed().max_by(|a, b| a.relative_squared_error.total_cmp(&b.relative_squared_error))?;
        Some((changed().count(), worst))
    }

    /// Returns the findings in a sentence or two.
    pub fn lead(&self) -> String {
        let mut out = String::new();
        if let Some(base) = &self.base {
            let share = 100.0 * self.model.bytes as f64 / base.bytes.max(1) as f64;
            let _ = write!(out, "{} has {share:.1} % of the size of {}. ", self.model.name, base.name);
        }
        if let Some((text, kl)) = self.worst() {
            let same = text.report.comparison.as_ref().map_or(f64::NAN, |c| c.same_top);
            let _ = write!(
                out,
                "On {} it diverges by {kl:.6} nats per token, and both expect the same token at {same:.2} % of the places. ",
                text.name()
            );
        } else if let [text, ..] = self.texts.as_slice() {
            let _ = write!(out, "Its perplexity on {} is {:.4}. ", text.name(), text.report.perplexity.value);
        }
        if let (Some((count, _)), Some(all)) = (self.changed(), &self.tensors) {
            let _ = write!(out, "{count} of {} tensors changed.", all.len());
        } else if self.tensors.is_some() {
            out += "All tensors are the same.";
        }
        out.trim_end().to_owned()
    }

    /// Returns the findings as lines of text, each ending with a line feed.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let models = self.base.iter().map(|base| ("base", base)).chain([("model", &self.model)]);
        for (role, of) in models {
            let _ = writeln!(
                out,
                "{role:<6} {}: {} bytes, {:.4} bits per weight, {} tensors",
                of.path, of.bytes, of.bits_per_weight, of.tensors
            );
        }
        match (self.changed(), &self.tensors) {
            (Some((count, worst)), Some(all)) => {
                let _ = writeln!(
                    out,
                    "{count} of {} tensors changed; the largest relative squared error is {:.6} of {} ({} to {})",
                    all.len(),
                    worst.relative_squared_error,
                    worst.name,
                    worst.types.from,
                    worst.types.to
                );
            }
            (None, Some(all)) => {
                let _ = writeln!(out, "all {} tensors have the same weights", all.len());
            }
            _ => {}
        }
        for text in &self.texts {
            let _ = writeln!(out, "{}", text.text);
            if let Some(c) = &text.report.comparison {
                let _ = writeln!(
                    out,
                    "  KL divergence {:.6} \u{b1} {:.6} nats per token, 99.9 % {:.6}; same likeliest token {:.2} %",
                    c.kl.mean, c.kl.stderr, c.kl.p99_9, c.same_top
                );
                let _ = writeln!(
                    out,
                    "  perplexity {:.4}, of the base {:.4}",
                    text.report.perplexity.value, c.base.perplexity.value
                );
            }
        }
        out
    }
}
