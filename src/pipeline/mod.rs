//! Reads, encodes and writes every tensor of a plan within a memory budget.
//!
//! One thread admits units by bytes and in the order of the output, the pool reads and encodes them, one thread writes and
//! hashes them in order. A unit's bytes are given back when it is written, and the oldest unit in flight is always at
//! work, so the pipeline moves whatever the budget. The bytes depend on the plan alone.

mod budget;
mod read;
mod sink;
mod units;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use kquant_formats::FormatError;

use crate::calibrated::Stash;
use crate::checkpoint::{Checkpoint, ReadError};
use crate::encode::{Encoder, Rows};
use crate::plan::{Plan, PlannedTensor};
use crate::progress::Progress;
use crate::verify::Digest;
use budget::Budget;
use sink::{Done, Sink};
use units::Unit;

pub(crate) use read::{first_non_finite, read_rows};
pub use sink::output_paths;

/// Importance of each tensor's columns, `[matrices][columns]`, by GGUF name.
pub type Importance = BTreeMap<String, Vec<f32>>;

/// What a run needs besides its plan.
pub struct Job<'a> {
    /// Where rows come from.
    pub checkpoint: &'a dyn Checkpoint,
    /// How they are encoded.
    pub encoder: &'static dyn Encoder,
    /// Statistics for the encoder.
    pub importance: &'a Importance,
    /// Tensors that are encoded already.
    pub stash: Option<&'a Stash>,
    /// One path per planned file.
    pub paths: &'a [PathBuf],
    /// Whether existing files are replaced.
    pub force: bool,
    /// Bytes of buffers.
    pub memory: u64,
    /// Threads that encode; 0 for one per core.
    pub threads: usize,
    /// Set from outside to stop early.
    pub cancel: &'a AtomicBool,
    /// Told how far the run has come.
    pub progress: &'a dyn Progress,
}

/// Why the output could not be written. No file is left behind.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// Reading or writing a file failed.
    #[error(transparent)]
    File(#[from] FormatError),
    /// A row could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A weight is NaN or infinite.
    #[error(
        "tensor `{tensor}` (from `{source_name}`): weight at row {row}, column {column} is {value}. \
         The checkpoint is damaged or was saved from a diverged run; download it again or repair that tensor"
    )]
    NonFinite {
        /// GGUF name.
        tensor: String,
        /// Name in the checkpoint.
        source_name: String,
        /// Row of the output tensor.
        row: u64,
        /// Column.
        column: u64,
        /// The weight.
        value: f32,
    },
    /// One row needs more than the whole budget.
    #[error("tensor `{tensor}`: one row needs {bytes} bytes of buffers; give --memory at least that much")]
    RowTooLarge {
        /// GGUF name.
        tensor: String,
        /// Bytes for one row.
        bytes: u64,
    },
    /// The threads could not be started.
    #[error("cannot start {threads} threads: {what}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What the system says.
        what: String,
    },
    /// A defect of kquant itself.
    #[error("tensor `{tensor}`, rows {rows:?}: internal error while encoding; please report it")]
    Internal {
        /// GGUF name.
        tensor: String,
        /// The unit's rows.
        rows: std::ops::Range<u64>,
    },
    /// Stopped from outside.
    #[error("interrupted; nothing was written")]
    Interrupted,
}

/// Writes everything that `plan` lists.
///
/// # Errors
/// [`PipelineError`]: the first problem in the order of the output. Nothing is left at `job.paths` unless all went well.
pub fn run(plan: &Plan, job: &Job) -> Result<Vec<Digest>, PipelineError> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(job.threads)
        .build()
        .map_err(|e| PipelineError::Threads { threads: job.threads, what: e.to_string() })?;
    let units = units::split(plan, job.memory, pool.current_num_threads()).map_err(|e| {
        PipelineError::RowTooLarge { tensor: plan.tensors[e.tensor].mapped.name.clone(), bytes: e.bytes }
    })?;
    let importance = prepare_importance(plan, job);
    let mut sink = Sink::create(plan, job.paths, job.force)?;
    let budget = Budget::new(job.memory);
    let failed = AtomicBool::new(false);
    let (sender, receiver) = mpsc::channel();
    let drained = std::thread::scope(|scope| {
        let writer = scope.spawn({
            let (sink, units, budget, failed) = (&mut sink, &units, &budget, &failed);
            move || {
                let mut next = 0;
                let result = sink.drain(
                    units.len(),
                    &receiver,
                    |unit| {
                        budget.release(units[unit].cost);
                        next = unit + 1;
                    },
                    job.progress,
                );
                // After a failure nobody frees bytes any more: let the admitting thread through to see the flag.
                if result.is_err() {
                    failed.store(true, Ordering::Relaxed);
                    budget.release(units[next..].iter().map(|u| u.cost).sum());
                }
                result
            }
        });
        pool.in_place_scope(|pool| {
            for (number, unit) in units.iter().enumerate() {
                budget.acquire(unit.cost);
                if failed.load(Ordering::Relaxed) || job.cancel.load(Ordering::Relaxed) {
                    break;
                }
                let (sender, importance, failed) = (sender.clone(), &importance, &failed);
                pool.spawn(move |_| {
                    // A stopped unit still reports, or the bytes that the admitting thread waits for never come back.
                    let stopped = failed.load(Ordering::Relaxed) || job.cancel.load(Ordering::Relaxed);
                    let result = if stopped {
                        Err(PipelineError::Interrupted)
                    } else {
                        encode_caught(plan, job, importance, unit)
                    };
                    // The writer is gone only after a failure of its own.
                    let _ = sender.send(Done { unit: number, result });
                });
            }
        });
        drop(sender);
        writer.join().unwrap_or(Err(PipelineError::Interrupted))
    });
    drained?;
    sink.finish()
}

/// The importance of each planned tensor that has one, as the encoder wants it.
fn prepare_importance(plan: &Plan, job: &Job) -> Vec<Option<Vec<f32>>> {
    let prepare = |tensor: &PlannedTensor| {
        let importance = job.importance.get(&tensor.mapped.name).filter(|_| tensor.importance)?;
        Some(job.encoder.prepare_importance(importance, tensor.mapped.columns() as usize))
    };
    plan.tensors.iter().map(prepare).collect()
}

/// [`encode`], with a panic turned into an error so that the writer does not wait for ever.
fn encode_caught(
    plan: &Plan,
    job: &Job,
    importance: &[Option<Vec<f32>>],
    unit: &Unit,
) -> Result<Vec<u8>, PipelineError> {
    let tensor = &plan.tensors[unit.tensor];
    catch_unwind(AssertUnwindSafe(|| encode(job, tensor, importance[unit.tensor].as_deref(), unit)))
        .unwrap_or_else(|_| {
            Err(PipelineError::Internal { tensor: tensor.mapped.name.clone(), rows: unit.rows.clone() })
        })
}

/// Reads, checks and encodes one unit.
fn encode(
    job: &Job,
    tensor: &PlannedTensor,
    importance: Option<&[f32]>,
    unit: &Unit,
) -> Result<Vec<u8>, PipelineError> {
    if let Some(encoded) = job.stash.and_then(|s| s.rows(&tensor.mapped.name, unit.rows.clone())) {
        return Ok(encoded?);
    }
    let columns = tensor.mapped.columns();
    let rows = unit.rows.end - unit.rows.start;
    let mut weights = vec![0.0; (rows * columns) as usize];
    read_rows(job.checkpoint, &tensor.mapped, unit.rows.clone(), &mut weights)?;
    if let Some((row, column, value)) = first_non_finite(&weights, columns, unit.rows.start) {
        return Err(PipelineError::NonFinite {
            tensor: tensor.mapped.name.clone(),
            source_name: tensor.mapped.source_name(job.checkpoint).to_owned(),
            row,
            column,
            value,
        });
    }
    if let Some(stored) = tensor.copied_from().and_then(|i| job.checkpoint.stored_rows(i, unit.rows.clone()))
    {
        return Ok(stored.to_vec());
    }
    let matrix = (unit.rows.start / tensor.mapped.rows_per_matrix().max(1)) as usize;
    let importance = importance.map(|all| &all[matrix * columns as usize..][..columns as usize]);
    let mut out = vec![0; (tensor.bytes / tensor.mapped.rows().max(1) * rows) as usize];
    job.encoder.encode(
        tensor.block,
        Rows { weights: &weights, columns: columns as usize },
        importance,
        &mut out,
    );
    Ok(out)
}
