//! A calibration as part of a job: the model and what is known of its inputs.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use kquant_formats::imatrix::Imatrix;

use super::{CalibratedError, OneShot, Provenance, Report, Sequential, Stash};
use crate::calibrate::HessianFile;
use crate::encode::{Encoder, gptq};
use crate::evaluate::Chunks;
use crate::model::{Model, Products};
use crate::plan::Plan;
use crate::progress::Progress;

/// What is needed to encode with feedback.
pub struct Calibration {
    /// The original, open.
    pub model: Model,
    /// Where statistics come from.
    pub source: Source,
    /// How tensors are rounded.
    pub options: gptq::Options,
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

/// What a calibration gave.
pub struct Calibrated {
    /// The encoded tensors.
    pub stash: Stash,
    /// What was done to each.
    pub report: Report,
}

/// How much the Hessians are damped: [`gptq::Damping::for_tokens`].
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
            Source::Text { path, sha256, chunks } => {
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
            Source::Text { chunks, .. } => Sequential::work(&self.model, chunks),
            Source::Statistics { file, .. } => OneShot::work(&self.model, file),
        }
    }

    /// Encodes what `plan` asks for.
    ///
    /// # Errors
    /// As [`Sequential::run`] and [`OneShot::run`].
    pub fn run(
        &self,
        plan: &Plan,
        encoder: &'static dyn Encoder,
        memory: u64,
        cancel: &AtomicBool,
        progress: &dyn Progress,
    ) -> Result<Calibrated, CalibratedError> {
        let (model, options) = (&self.model, &self.options);
        let (stash, report) = match &self.source {
            Source::Text { chunks, .. } => {
                let with_output = self.with_output;
                let pass = Sequential {
                    model,
                    plan,
                    chunks,
                    encoder,
                    options,
                    with_output,
                    memory,
                    cancel,
                    progress,
                };
                pass.run()
            }
            Source::Statistics { file, .. } => {
                OneShot { model, plan, file, encoder, options, memory, cancel, progress }.run()
            }
        }?;
        Ok(Calibrated { stash, report })
    }
}
