//! Calibration as part of a job: the model, and the source of its statistics.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use kquant_formats::imatrix::Imatrix;

use super::journal::Journal;
use super::range::check_outside_of_layers;
use crate::context::{After, Progress};
use crate::encode::LayerMethod;
use crate::layerwise::{CalibratedError, CalibrationReport, OneShot, OutputFishers, Sequential};
use crate::model::{Model, Products};
use crate::plan::Plan;
use crate::plan::Provenance;
use crate::statistics::{Fishers, HessianFile};
use crate::tensor::Stash;
use crate::text::{Chunks, OwnText, TextOrigin};

/// What encoding with feedback needs.
pub struct Calibration {
    /// The original model.
    pub model: Model,
    /// The source of the statistics.
    pub source: CalibrationSource,
    /// Options of rounding.
    pub layers: Arc<dyn LayerMethod>,
    /// The source of Fisher matrices, by which the errors of outputs are compensated over rows as well; without one, rows
    /// are rounded independently.
    pub both_sides: Option<FisherSource>,
    /// True if the output projection gets feedback as well.
    pub with_output: bool,
}

/// The source of statistics.
pub enum CalibrationSource {
    /// The statistics are gathered from a text while the layers are encoded.
    Text {
        /// What identifies the text.
        origin: TextOrigin,
        /// Tokens of the text, in chunks.
        chunks: Chunks,
    },
    /// The statistics come from a file that was made of the original model.
    Statistics {
        /// Path of the file.
        path: PathBuf,
        /// The opened file.
        file: HessianFile,
    },
}

/// The source of the Fisher matrices of outputs.
pub enum FisherSource {
    /// The Fisher matrices come from the same statistics file as the Hessians.
    Statistics,
    /// The Fisher matrices come from a backward pass before the layers are encoded.
    Pass {
        /// Seed of the labels that the pass draws.
        seed: u64,
    },
    /// The Fisher matrices come from a statistics file of the same text.
    File(Box<HessianFile>),
}

/// The result of a calibration.
pub struct Calibrated {
    /// The encoded tensors.
    pub stash: Stash,
    /// The report on each tensor.
    pub report: CalibrationReport,
}

/// The damping of the Hessians, as described in the output: [`Damping::for_tokens`](crate::encode::feedback::Damping::for_tokens).
const DAMPING: &str = "0.15 columns / tokens of the mean diagonal, 0.01 to 0.3";

impl Calibration {
    /// Returns the path of the file that statistics come from, which a text that the model wrote has not.
    pub fn path(&self) -> Option<&PathBuf> {
        match &self.source {
            CalibrationSource::Text { origin, .. } => origin.file.as_ref().map(|file| &file.path),
            CalibrationSource::Statistics { path, .. } => Some(path),
        }
    }

    /// Returns true if each tensor is encoded by itself, whatever became of the layers before it.
    pub fn is_one_shot(&self) -> bool {
        matches!(self.source, CalibrationSource::Statistics { .. })
    }

    /// Returns the name of what statistics come from, as importance matrices record it.
    pub fn name(&self) -> String {
        match &self.source {
            CalibrationSource::Text { origin, .. } => origin.path_name(),
            CalibrationSource::Statistics { path, .. } => path.to_string_lossy().into_owned(),
        }
    }

    /// Returns the importance of all columns, if it is known beforehand.
    pub fn importance(&self) -> Option<&Imatrix> {
        match &self.source {
            CalibrationSource::Text { .. } => None,
            CalibrationSource::Statistics { file, .. } => Some(file.importance()),
        }
    }

    /// Returns the number of tokens that the statistics come from.
    pub fn tokens(&self) -> u64 {
        match &self.source {
            CalibrationSource::Text { chunks, .. } => chunks.tokens().len() as u64,
            CalibrationSource::Statistics { file, .. } => {
                let description = file.description();
                u64::from(description.chunks) * u64::from(description.cut.context)
            }
        }
    }

    /// Returns all options of the rounding, in no particular form: two calibrations of the same text with the same options encode alike.
    pub fn options(&self) -> String {
        let fishers = match &self.both_sides {
            None => "no Fisher matrices".into(),
            Some(FisherSource::Pass { seed }) => format!("labels by seed {seed}"),
            Some(FisherSource::File(_) | FisherSource::Statistics) => "Fisher matrices of a file".into(),
        };
        let model = (self.model.products(), self.with_output);
        format!("{:?}, {fishers}, {model:?}", self.layers)
    }

    /// Returns what the output's metadata says of the calibration.
    pub fn provenance(&self) -> Provenance {
        let (text, sha256, context, method) = match &self.source {
            CalibrationSource::Text { origin, chunks } => {
                let method = match self.model.products() {
                    Products::F32 => "sequential, corrected targets",
                    Products::Bf16 => "sequential, corrected targets, products in bf16",
                };
                (origin.name(), origin.sha256.clone(), chunks.context() as u32, method)
            }
            CalibrationSource::Statistics { file, .. } => {
                let description = file.description();
                let hashes: Vec<&str> = description.blocks.by_text().keys().map(String::as_str).collect();
                (description.datasets.join(", "), hashes.join(", "), description.cut.context, "one-shot")
            }
        };
        Provenance {
            text,
            text_sha256: sha256,
            tokens: self.tokens(),
            own_text: self.own_text().cloned(),
            context,
            method: method.into(),
            damping: DAMPING.into(),
        }
    }

    /// Returns what the model wrote of the text itself, if anything.
    fn own_text(&self) -> Option<&OwnText> {
        match &self.source {
            CalibrationSource::Text { origin, .. } => origin.own.as_ref(),
            CalibrationSource::Statistics { .. } => None,
        }
    }

    /// Returns the largest number of bytes that the journal of the run takes on the disk: the encoded tensors and, twice while they are
    /// replaced, the hidden states of both streams. The Fisher matrices of a backward pass come on top.
    pub fn journal_bytes(&self, plan: &Plan) -> u64 {
        let encoded: u64 = plan.tensors.iter().filter(|tensor| !tensor.copy).map(|tensor| tensor.bytes).sum();
        match &self.source {
            CalibrationSource::Text { chunks, .. } => {
                let hyper = &self.model.hyper;
                let beside = (0..=hyper.layers).map(|layer| hyper.carried_width(layer)).max().unwrap_or(0);
                let states = 2 * chunks.tokens().len() * (hyper.hidden + beside);
                encoded + 2 * 4 * states as u64
            }
            CalibrationSource::Statistics { .. } => encoded,
        }
    }

    /// Returns the units of work that progress of encoding what `plan` asks for is reported in.
    pub fn work(&self, plan: &Plan) -> u64 {
        match &self.source {
            CalibrationSource::Text { chunks, .. } => {
                self.fisher_work(chunks) + Sequential::work(&self.model, chunks)
            }
            CalibrationSource::Statistics { file, .. } => OneShot::work(plan, file),
        }
    }

    fn fisher_work(&self, chunks: &Chunks) -> u64 {
        match &self.both_sides {
            Some(FisherSource::Pass { .. }) => Fishers::work(&self.model, chunks),
            _ => 0,
        }
    }

    /// Encodes the tensors that `plan` asks for. What a `journal` holds is not done again, and what is done is kept in it.
    ///
    /// # Errors
    /// Fails as [`Sequential::run`] and [`OneShot::run`] do.
    pub fn run(
        &self,
        plan: &Plan,
        memory: u64,
        cancel: &AtomicBool,
        progress: &dyn Progress,
        journal: Option<&Journal>,
    ) -> Result<Calibrated, CalibratedError> {
        let (model, layers) = (&self.model, self.layers.as_ref());
        check_outside_of_layers(model, plan)?;
        let (stash, report) = match &self.source {
            CalibrationSource::Text { chunks, .. } => {
                let pass = Sequential {
                    model,
                    plan,
                    chunks,
                    layers,
                    outputs: match &self.both_sides {
                        Some(FisherSource::File(file)) => OutputFishers::File(file),
                        _ => OutputFishers::Unknown,
                    },
                    with_output: self.with_output,
                    last_layer: usize::MAX,
                    memory,
                    cancel,
                    progress,
                    journal,
                };
                match self.both_sides {
                    Some(FisherSource::Pass { seed }) => after_backward_pass(pass, seed),
                    _ => pass.run(),
                }
            }
            CalibrationSource::Statistics { file, .. } => {
                let outputs =
                    self.both_sides.as_ref().map_or(OutputFishers::Unknown, |_| OutputFishers::File(file));
                OneShot { model, plan, file, layers, outputs, memory, cancel, progress, journal }.run()
            }
        }?;
        Ok(Calibrated { stash, report })
    }
}

/// Runs a backward pass with labels drawn by `seed`, then `pass` with the Fisher matrices that it gathered.
fn after_backward_pass(pass: Sequential, seed: u64) -> Result<(Stash, CalibrationReport), CalibratedError> {
    let Sequential { model, chunks, memory, cancel, progress, journal, .. } = pass;
    // A quarter of the memory holds the Fisher matrices.
    let left = memory - memory / 4;
    let of_all = |error| match error {
        CalibratedError::Memory { what, needed } => {
            CalibratedError::Memory { what, needed: needed + needed.div_ceil(3) }
        }
        other => other,
    };
    Sequential { memory: left, ..pass }.check_memory(true).map_err(of_all)?;
    let start = Instant::now();
    let fishers = match journal.map(|journal| journal.gradients(memory / 4)).transpose()?.flatten() {
        Some(fishers) => {
            progress.resume(Fishers::work(model, chunks));
            fishers
        }
        None => {
            let fishers = Fishers::collect(model, chunks, memory, seed, cancel, progress)?;
            journal.inspect(|journal| journal.keep_gradients(&fishers));
            fishers
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    let progress = &After { before: Fishers::work(model, chunks), whole: progress };
    let outputs = OutputFishers::Collected(&fishers);
    let (stash, mut report) = Sequential { outputs, memory: left, progress, ..pass }.run().map_err(of_all)?;
    report.steps.backward.seconds = seconds;
    Ok((stash, report))
}
