//! A calibration as part of a job: the model and what is known of its inputs.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use kquant_formats::imatrix::Imatrix;

use super::range::check_outside_of_layers;
use crate::context::{After, Progress};
use crate::encode::feedback;
use crate::layerwise::{CalibratedError, OneShot, Outputs, Report, Sequential};
use crate::model::{Model, Products};
use crate::plan::Plan;
use crate::plan::Provenance;
use crate::statistics::{Fishers, HessianFile};
use crate::tensor::Stash;
use crate::text::Chunks;

/// What is needed to encode with feedback.
pub struct Calibration {
    /// The original, open.
    pub model: Model,
    /// Where statistics come from.
    pub source: Source,
    /// How tensors are rounded.
    pub options: feedback::Options,
    /// Where Fisher matrices come from, by which errors of outputs are fed back over rows as well; without, rows do not see each
    /// other.
    pub both_sides: Option<FisherSource>,
    /// Whether the output projection gets feedback, too.
    pub with_output: bool,
}

/// Where statistics come from.
pub enum Source {
    /// From a text, while the layers are encoded.
    Text {
        /// The file.
        path: PathBuf,
        /// Its SHA-256.
        sha256: String,
        /// Its size.
        bytes: u64,
        /// Its tokens.
        chunks: Chunks,
    },
    /// From a file that was made of the original model.
    Statistics {
        /// The file.
        path: PathBuf,
        /// The same, open.
        file: HessianFile,
    },
}

/// Where Fisher matrices of outputs come from.
pub enum FisherSource {
    /// From the statistics file that the Hessians come from.
    Statistics,
    /// From a backward pass before the layers are encoded.
    Pass {
        /// What its labels are drawn by.
        seed: u64,
    },
    /// From a statistics file of the same text.
    File(HessianFile),
}

/// What a calibration gave.
pub struct Calibrated {
    /// The encoded tensors.
    pub stash: Stash,
    /// What was done to each.
    pub report: Report,
}

/// How much the Hessians are damped: [`feedback::Damping::for_tokens`].
const DAMPING: &str = "0.15 columns / tokens of the mean diagonal, 0.01 to 0.3";

impl Calibration {
    /// The file that statistics come from.
    pub fn path(&self) -> &PathBuf {
        match &self.source {
            Source::Text { path, .. } | Source::Statistics { path, .. } => path,
        }
    }

    /// The importance of all columns, where it is known beforehand.
    pub fn importance(&self) -> Option<&Imatrix> {
        match &self.source {
            Source::Text { .. } => None,
            Source::Statistics { file, .. } => Some(file.importance()),
        }
    }

    /// Tokens that the statistics come from.
    pub fn tokens(&self) -> u64 {
        match &self.source {
            Source::Text { chunks, .. } => chunks.tokens().len() as u64,
            Source::Statistics { file, .. } => {
                let description = file.description();
                u64::from(description.chunks) * u64::from(description.cut.context)
            }
        }
    }

    /// What the result will say of it.
    pub fn provenance(&self) -> Provenance {
        let (text, sha256, context, method) = match &self.source {
            Source::Text { path, sha256, chunks, .. } => {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let method = match self.model.products() {
                    Products::F32 => "sequential, corrected targets",
                    Products::Bf16 => "sequential, corrected targets, products in bf16",
                };
                (name, sha256.clone(), chunks.context() as u32, method)
            }
            Source::Statistics { file, .. } => {
                let description = file.description();
                let hashes: Vec<&str> = description.blocks.by_text().keys().map(String::as_str).collect();
                (description.datasets.join(", "), hashes.join(", "), description.cut.context, "one-shot")
            }
        };
        Provenance {
            text,
            text_sha256: sha256,
            tokens: self.tokens(),
            context,
            method: method.into(),
            damping: DAMPING.into(),
        }
    }

    /// Units of work, as progress is told them.
    pub fn work(&self) -> u64 {
        match &self.source {
            Source::Text { chunks, .. } => self.fisher_work(chunks) + Sequential::work(&self.model, chunks),
            Source::Statistics { file, .. } => OneShot::work(&self.model, file),
        }
    }

    fn fisher_work(&self, chunks: &Chunks) -> u64 {
        match &self.both_sides {
            Some(FisherSource::Pass { .. }) => Fishers::work(&self.model, chunks),
            _ => 0,
        }
    }

    /// Encodes what `plan` asks for.
    ///
    /// # Errors
    /// As [`Sequential::run`] and [`OneShot::run`].
    pub fn run(
        &self,
        plan: &Plan,
        memory: u64,
        cancel: &AtomicBool,
        progress: &dyn Progress,
    ) -> Result<Calibrated, CalibratedError> {
        let (model, options) = (&self.model, &self.options);
        check_outside_of_layers(model, plan)?;
        let (stash, report) = match &self.source {
            Source::Text { chunks, .. } => {
                let pass = Sequential {
                    model,
                    plan,
                    chunks,
                    options,
                    outputs: match &self.both_sides {
                        Some(FisherSource::File(file)) => Outputs::File(file),
                        _ => Outputs::Unknown,
                    },
                    with_output: self.with_output,
                    memory,
                    cancel,
                    progress,
                };
                match self.both_sides {
                    Some(FisherSource::Pass { seed }) => after_backward_pass(pass, seed),
                    _ => pass.run(),
                }
            }
            Source::Statistics { file, .. } => {
                let outputs = self.both_sides.as_ref().map_or(Outputs::Unknown, |_| Outputs::File(file));
                OneShot { model, plan, file, options, outputs, memory, cancel, progress }.run()
            }
        }?;
        Ok(Calibrated { stash, report })
    }
}

/// A backward pass with labels drawn by `seed`, then `pass` with what it found.
fn after_backward_pass(pass: Sequential, seed: u64) -> Result<(Stash, Report), CalibratedError> {
    let Sequential { model, chunks, memory, cancel, progress, .. } = pass;
    // A quarter holds what is collected.
    let left = memory - memory / 4;
    let of_all = |error| match error {
        CalibratedError::Memory { what, needed } => {
            CalibratedError::Memory { what, needed: needed + needed.div_ceil(3) }
        }
        other => other,
    };
    Sequential { memory: left, ..pass }.check_memory(true).map_err(of_all)?;
    let start = Instant::now();
    let fishers = Fishers::collect(model, chunks, memory, seed, cancel, progress)?;
    let seconds = start.elapsed().as_secs_f64();
    let progress = &After { before: Fishers::work(model, chunks), whole: progress };
    let outputs = Outputs::Collected(&fishers);
    let (stash, mut report) = Sequential { outputs, memory: left, progress, ..pass }.run().map_err(of_all)?;
    report.steps.backward.seconds = seconds;
    Ok((stash, report))
}
