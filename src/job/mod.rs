//! The main job: a checkpoint in, one quantized GGUF out, hashed on the way.

mod allocated;
mod distill;
mod error;
mod folder;
mod manifest;
mod method;
mod own_text;
mod part;
mod prices;
mod prune_channels;
mod prune_experts;
mod prune_heads;
mod prune_layers;
mod prune_vocab;
mod pruned;
mod statistics;
mod sweep;
mod teach;
mod text;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use kquant_formats::gguf::Metadata;
use kquant_formats::imatrix::Imatrix;
use kquant_formats::partial::{PartialFile, check_room};
use serde::Serialize;

use crate::checkpoint::{self, Opened};
use crate::context::{Progress, Unit};
use crate::convert::{Converted, convert};
use crate::encode::Encoder;
use crate::hash::{Digest, Manifest};
use crate::layerwise::{Calibrated, Calibration, Estimate, Journal};
use crate::outputs;
use crate::pipeline;
use crate::pipeline::PipelineError;
use crate::plan;
use crate::plan::{Division, ImportanceMap, Inventory, KeyOverride, Plan, PlanError};
use crate::recipe::{self, Allocated, Allocation};
use crate::statistics::Unreached;
use crate::statistics::pool::pool_importance;
use crate::tensor::MappedTensor;

use allocated::allocated;

pub use distill::{DistillJobError, DistillRequest, Judges, Student, TaughtBy, TrainingLength, distill};
pub use error::QuantizeError;
pub use folder::{FolderJob, check_folder};
pub use method::{Known, Method, MethodError, MethodOptions, Quality};
pub use own_text::{CalibrationText, OWN_TOKENS, OwnShare, TextSource};
pub use part::{PreparedPart, prepare_part};
pub use prices::{PriceRequest, PricesError, prices, read_prices};
pub use prune_channels::{
    ChannelsReport, ChannelsRequest, PruneChannelsError, kept_channels, prune_channels,
};
pub use prune_experts::{ExpertsReport, ExpertsRequest, PruneExpertsError, prune_experts};
pub use prune_heads::{HeadsReport, HeadsRequest, prune_heads};
pub use prune_layers::{LayersReport, LayersRequest, PruneLayersError, drop_layers, prune_layers};
pub use prune_vocab::{
    Fertility, PruneVocabError, PruneVocabReport, ScriptTokens, VocabRequest, VocabSize, fertility,
    prune_vocab,
};
pub use pruned::Pruned;
pub use statistics::{
    PreparedStatistics, PricedBy, Statistics, StatisticsError, StatisticsRequest, StatisticsSource,
    importance, statistics,
};
pub use sweep::{Measurement, Sweep, SweepPoint, SweepRequest, measure, sweep};
pub use teach::{TeachError, TeachRequest, teach};
pub use text::{Cut, TextError, TextFile, default_context};

/// What to make of which model.
pub struct Job {
    /// A Hugging Face folder, a safetensors file or a GGUF.
    pub model: PathBuf,
    /// How the types of the tensors are chosen.
    pub types: Types,
    /// Where importance comes from.
    pub statistics: Statistics,
    /// How rows are encoded.
    pub encoder: &'static dyn Encoder,
    /// A file of `general.*` keys that the user sets, as llama.cpp's converter takes it.
    pub metadata: Option<PathBuf>,
    /// Metadata that the user sets.
    pub overrides: Vec<KeyOverride>,
    /// Whether the output is split as the input is.
    pub keep_split: bool,
    /// Name of the pre-tokenizer, when it is not recognised.
    pub pre: Option<String>,
}

/// How the types of the tensors are chosen.
#[derive(Debug, Clone)]
pub enum Types {
    /// By a file type of llama-quantize.
    FileType(recipe::Options),
    /// By what each tensor costs at each type.
    Prices(Box<Allocation>),
    /// As they were chosen before, tensor by tensor in the order of the output.
    Chosen(Box<Allocated>),
}

/// How to run a job. Nothing here changes a byte of the output.
pub struct Resources {
    /// Bytes of buffers.
    pub memory: u64,
    /// Threads, as [`crate::threads::pool`] takes them.
    pub threads: usize,
}

/// Where the results go.
pub struct Outputs {
    /// The GGUF.
    pub model: PathBuf,
    /// The manifest, if one is wanted.
    pub manifest: Option<PathBuf>,
    /// What calibration did, as JSON, if it is wanted and there is a calibration.
    pub report: Option<PathBuf>,
    /// Whether existing files are replaced.
    pub force: bool,
}

/// A job that has been checked: everything but the tensor data is read.
pub struct Prepared {
    job: Job,
    opened: Opened,
    importance: ImportanceMap,
    /// What will be written.
    pub plan: Plan,
    /// How the types were chosen, where it was by prices.
    pub allocated: Option<Allocated>,
}

/// What a run did.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The files written.
    pub files: Vec<Digest>,
    /// What only showed while they were written.
    pub warnings: Vec<String>,
    /// Hash of the plan.
    pub plan_sha256: String,
    /// Bytes of the input files.
    pub source_bytes: u64,
    /// Weights encoded.
    pub weights: u64,
    /// Of the tensor data.
    pub bits_per_weight: f64,
    /// From the first read to the last rename.
    #[serde(serialize_with = "seconds")]
    pub elapsed: Duration,
}

fn seconds<S: serde::Serializer>(elapsed: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(elapsed.as_secs_f64())
}

/// Opens the input, reads configuration, vocabulary and statistics, decides every type. Takes seconds whatever the size.
///
/// # Errors
/// [`QuantizeError`]: everything that can be known without reading tensor data.
pub fn prepare(job: Job) -> Result<Prepared, QuantizeError> {
    prepare_changed(job, |input| input)
}

/// Prepares `job` as [`prepare`] does, for what `change` makes of the converted model.
///
/// # Errors
/// [`QuantizeError`], as [`prepare`].
pub fn prepare_changed(
    job: Job,
    change: impl FnOnce(Converted) -> Converted,
) -> Result<Prepared, QuantizeError> {
    let division = if job.keep_split { Division::AsInput } else { Division::OneFile };
    prepare_divided(job, change, division)
}

fn prepare_divided(
    job: Job,
    change: impl FnOnce(Converted) -> Converted,
    division: Division,
) -> Result<Prepared, QuantizeError> {
    let opened = checkpoint::open(&job.model)?;
    let read = match &job.statistics {
        Statistics::File(path) => Some(Imatrix::open(path)?),
        _ => None,
    };
    let imatrix = match &job.statistics {
        Statistics::Collected { matrix, .. } => Some(matrix),
        Statistics::Calibration(calibration) => calibration.importance(),
        _ => read.as_ref(),
    };
    let input = convert(&opened, job.pre.as_deref(), job.metadata.as_deref())
        .map_err(|source| QuantizeError::Input { path: job.model.clone(), source })?;
    let input = change(input);
    let experts = |name: &str| input.tensors.iter().find(|t| t.name == name).map(MappedTensor::matrices);
    let unreached = imatrix.and_then(|matrix| Unreached::of(matrix, experts).told());
    let pooled = imatrix.filter(|_| job.encoder.pools_experts()).map(pool_importance);
    let imatrix = pooled.as_deref().or(imatrix);
    let (mut plan, importance, allocated) = plan_job(&job, (&opened, &input), imatrix, division)
        .map_err(|source| QuantizeError::Plan { path: job.model.clone(), source })?;
    plan.warnings.extend(unreached);
    Ok(Prepared { job, opened, importance, plan, allocated })
}

fn plan_job(
    job: &Job,
    (opened, input): (&Opened, &Converted),
    imatrix: Option<&Imatrix>,
    division: Division,
) -> Result<(Plan, ImportanceMap, Option<Allocated>), PlanError> {
    let name = job.statistics.name();
    let calibration = job.statistics.calibration();
    let mut provenance = Metadata::new();
    if let Some(calibration) = calibration {
        calibration.provenance().record(&mut provenance);
    }
    let inventory = Inventory::new(opened, input, division)?;
    let model = inventory.model_facts(imatrix.is_some() || calibration.is_some());
    let request = plan::Request {
        opened,
        input,
        inventory: &inventory,
        choices: &[],
        file_type: &recipe::FILE_TYPES[0],
        encoder: job.encoder,
        imatrix: name.as_deref().zip(imatrix),
        provenance: &provenance,
        calibrated: calibration.is_some(),
        overrides: &job.overrides,
        division,
    };
    match &job.types {
        Types::FileType(options) => {
            let choices = recipe::assign(options, &model, &inventory.facts())?;
            let request = plan::Request { choices: &choices, file_type: options.file_type, ..request };
            let (plan, importance) = plan::build(&request)?;
            Ok((plan, importance, None))
        }
        Types::Chosen(chosen) => {
            let Allocated { choices, file_type, .. } = chosen.as_ref();
            let (plan, importance) = plan::build(&plan::Request { choices, file_type, ..request })?;
            Ok((plan, importance, Some(chosen.as_ref().clone())))
        }
        Types::Prices(allocation) => allocated(allocation, &model, &request),
    }
}

impl Prepared {
    /// The plan as data, to print or store.
    pub fn view(&self) -> plan::PlanView<'_> {
        let view = self.plan.view(self.opened.checkpoint.as_ref(), self.job.encoder);
        match &self.allocated {
            Some(allocated) => view.with_prices(allocated),
            None => view,
        }
    }

    /// Returns the statistics of the job, for the next one of the same model.
    pub fn into_statistics(self) -> Statistics {
        self.job.statistics
    }

    /// Bytes of tensor data to write.
    pub fn tensor_bytes(&self) -> u64 {
        self.plan.tensors.iter().map(|t| t.bytes).sum()
    }

    /// The calibration that [`Prepared::calibrate`] will run, if the job has one.
    pub fn calibration(&self) -> Option<&Calibration> {
        self.job.statistics.calibration()
    }

    /// Encodes what is encoded with feedback from a text; to be given to [`Prepared::run`]. What `journal`, that of this run, holds is
    /// not done again.
    ///
    /// # Errors
    /// [`QuantizeError::Calibrated`].
    pub fn calibrate(
        &self,
        memory: u64,
        cancel: &AtomicBool,
        progress: &dyn Progress,
        journal: Option<&Journal>,
    ) -> Result<Option<Calibrated>, QuantizeError> {
        let Some(calibration) = self.calibration() else { return Ok(None) };
        progress.begin(calibration.work(&self.plan), Unit::Work);
        calibration.run(&self.plan, memory, cancel, progress, journal).map(Some).map_err(|source| {
            QuantizeError::Calibrated { path: self.job.model.clone(), source: Box::new(source) }
        })
    }

    /// Says how long [`Prepared::calibrate`] will take, by seconds of its work; `None` where there is no text, or that says little.
    ///
    /// # Errors
    /// [`QuantizeError::Calibrated`], above all when `memory` is too little.
    pub fn estimate(&self, memory: u64, cancel: &AtomicBool) -> Result<Option<Estimate>, QuantizeError> {
        let Some(calibration) = self.calibration() else { return Ok(None) };
        calibration.estimate(&self.plan, memory, cancel).map_err(|source| QuantizeError::Calibrated {
            path: self.job.model.clone(),
            source: Box::new(source),
        })
    }

    /// Checks that `outputs` can be written and destroy no input, so that a bad path costs no work.
    ///
    /// # Errors
    /// [`QuantizeError::Output`].
    pub fn check_outputs(&self, outputs: &Outputs) -> Result<(), QuantizeError> {
        let models = self.output_paths(outputs);
        let all: Vec<&Path> =
            models.iter().chain(&outputs.manifest).chain(&outputs.report).map(PathBuf::as_path).collect();
        let mut inputs = outputs::model_files(&self.job.model);
        inputs.extend(self.opened.files.iter().chain(&self.job.metadata).cloned());
        inputs.extend(self.job.statistics.path().cloned());
        outputs::check(&inputs, &all)?;
        Ok(outputs::try_start(&all, outputs.force)?)
    }

    /// Checks that the disk has room for the model and for the journal beside it, before hours of work.
    ///
    /// # Errors
    /// [`QuantizeError::File`] with the bytes that are needed and those that are free.
    pub fn check_room(&self, outputs: &Outputs) -> Result<(), QuantizeError> {
        let beside = self.calibration().map_or(0, |calibration| calibration.journal_bytes(&self.plan));
        Ok(check_room(&outputs.model, self.tensor_bytes() + beside)?)
    }

    fn output_paths(&self, outputs: &Outputs) -> Vec<PathBuf> {
        pipeline::output_paths(&outputs.model, self.plan.files.len())
    }

    /// Encodes and writes everything. The files get their names together, at the end.
    ///
    /// # Errors
    /// [`QuantizeError`]; no output is left behind, and existing ones are as they were.
    pub fn run(
        &self,
        calibrated: Option<&Calibrated>,
        outputs: &Outputs,
        resources: &Resources,
        cancel: &AtomicBool,
        progress: &dyn Progress,
    ) -> Result<Report, QuantizeError> {
        self.write(calibrated, outputs, resources, (cancel, progress), |report| self.manifest(report))
    }

    /// Does what [`Prepared::run`] does, with a manifest that `describe` makes.
    fn write(
        &self,
        calibrated: Option<&Calibrated>,
        outputs: &Outputs,
        resources: &Resources,
        (cancel, progress): (&AtomicBool, &dyn Progress),
        describe: impl FnOnce(&Report) -> Result<Manifest, QuantizeError>,
    ) -> Result<Report, QuantizeError> {
        let start = Instant::now();
        self.check_outputs(outputs)?;
        let paths = self.output_paths(outputs);
        // Started before the work, so that no other run takes the name.
        let beside = |path: &PathBuf| PartialFile::create(path, 0, outputs.force);
        let manifest = outputs.manifest.as_ref().map(beside).transpose()?;
        let of_calibration =
            outputs.report.as_ref().filter(|_| calibrated.is_some()).map(beside).transpose()?;
        progress.begin(self.tensor_bytes(), Unit::Bytes);
        let pipeline::Written { mut files, digests, warnings } = pipeline::run(
            &self.plan,
            &pipeline::Job {
                checkpoint: self.opened.checkpoint.as_ref(),
                importance: &self.importance,
                stash: calibrated.map(|c| &c.stash),
                paths: &paths,
                force: outputs.force,
                memory: resources.memory,
                threads: resources.threads,
                cancel,
                progress,
            },
        )
        .map_err(|error| match error {
            // These name their file themselves, and it need not be the input.
            PipelineError::File(error) => QuantizeError::File(error),
            source => QuantizeError::Run { path: self.job.model.clone(), source },
        })?;
        let view = self.view();
        let mut report = Report {
            plan_sha256: view.sha256()?,
            source_bytes: self.opened.files.iter().filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum(),
            weights: view.weights,
            bits_per_weight: view.bits_per_weight,
            elapsed: start.elapsed(),
            files: digests,
            warnings,
        };
        if let Some(file) = manifest {
            files.push(filled(file, &describe(&report)?)?);
        }
        if let Some((file, calibrated)) = of_calibration.zip(calibrated) {
            files.push(filled(file, &calibrated.report)?);
        }
        PartialFile::finish_all(files)?;
        report.elapsed = start.elapsed();
        Ok(report)
    }
}

/// `file` with `content` as JSON.
fn filled(mut file: PartialFile, content: &impl Serialize) -> Result<PartialFile, QuantizeError> {
    let text = serde_json::to_string_pretty(content)? + "\n";
    file.fill(text.as_bytes())?;
    Ok(file)
}
