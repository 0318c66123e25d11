//! Reads, encodes and writes every tensor of a plan within a memory budget.
//!
//! ```text
//! admit, in order ──► pool: fetch, decode, check, encode ──► writer, in order ──► file
//!   └► system reads ahead                                        └► hasher ──► SHA-256
//! ```
//!
//! One thread admits units, limited by their bytes and in the order of the output, and tells the system to read what they
//! need. The pool encodes them; one thread writes them in order and another one hashes them. A unit's bytes are given back
//! when it is written and hashed. The oldest unit in flight is always at work, so that the pipeline makes progress with any
//! budget. The output depends on the plan alone.

mod budget;
mod error;
mod hash;
mod sink;
mod units;
mod vanished;
mod work;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use kquant_formats::partial::PartialFile;

use crate::checkpoint::Checkpoint;
use crate::context::Progress;
use crate::hash::Digest;
use crate::plan::{ImportanceMap, Plan, PlannedTensor};
use crate::tensor::Stash;
use crate::tensor::span;
use crate::threads;
use budget::{Budget, Lease};
use hash::Hashes;
use sink::{Done, Encoded, Sink};
use units::RowUnit;
use vanished::Vanished;
use work::{Spare, Workspace};

pub use error::PipelineError;
pub use sink::output_paths;

/// The inputs of a run besides its plan.
pub struct Job<'a> {
    /// Checkpoint that rows are read from.
    pub checkpoint: &'a dyn Checkpoint,
    /// Importance of the tensors, for the encoders.
    pub importance: &'a ImportanceMap,
    /// Tensors that are encoded already, if there are any.
    pub stash: Option<&'a Stash>,
    /// One path per planned file.
    pub paths: &'a [PathBuf],
    /// True if existing files are replaced.
    pub force: bool,
    /// Limit on the bytes of buffers.
    pub memory: u64,
    /// Number of threads that encode, 0 for one per core, as [`threads::pool`] takes it.
    pub threads: usize,
    /// Flag that is set from outside to stop the run early.
    pub cancel: &'a AtomicBool,
    /// Receiver of the progress.
    pub progress: &'a dyn Progress,
}

/// Writes everything that `plan` lists into files that do not have their names yet.
///
/// # Errors
/// Fails with the first problem in the order of the output. No file is left behind then.
pub fn run(plan: &Plan, job: &Job) -> Result<Written, PipelineError> {
    let pool = threads::pool(job.threads)
        .map_err(|e| PipelineError::Threads { threads: job.threads, what: e.to_string() })?;
    let (units, memory) =
        units::split(plan, job.checkpoint, job.memory, pool.current_num_threads()).map_err(|e| {
            PipelineError::RowTooLarge { tensor: plan.tensors[e.tensor].mapped.name.clone(), bytes: e.bytes }
        })?;
    let mut sink = Sink::create(plan, job.paths, job.force)?;
    let mut hashes = Hashes::new(plan);
    let run = Shared {
        plan,
        job,
        importance: prepare_importance(plan, job),
        vanished: plan.tensors.iter().map(|_| Vanished::default()).collect(),
        spaces: Spare::new(),
        buffers: Spare::new(),
        failed: AtomicBool::new(false),
    };
    let budget = Budget::new(memory);
    let (done, arriving) = mpsc::channel();
    let (written, hashing) = mpsc::channel::<Arc<Encoded>>();
    let drained = std::thread::scope(|scope| {
        let hasher = scope.spawn({
            let hashes = &mut hashes;
            move || hashing.iter().for_each(|encoded| hashes.append(&encoded.bytes))
        });
        let writer = scope.spawn({
            let (sink, units, run) = (&mut sink, &units, &run);
            move || {
                let result = sink.drain(units.len(), &arriving, &written, job.progress);
                // Units that arrive later are dropped, so that the admitting thread gets their bytes and sees the flag.
                run.failed.store(result.is_err(), Ordering::Relaxed);
                result
            }
        });
        pool.in_place_scope(|pool| {
            for (number, unit) in units.iter().enumerate() {
                let lease = budget.acquire(unit.cost);
                if run.stopped() {
                    break;
                }
                run.read_ahead(unit);
                let (done, run) = (done.clone(), &run);
                pool.spawn(move |_| {
                    // The writer is gone only after a failure of its own.
                    let _ = done.send(Done { unit: number, result: run.encode(unit, lease) });
                });
            }
        });
        drop(done);
        let drained = writer.join().unwrap_or(Err(PipelineError::Interrupted));
        drained.and(hasher.join().map_err(|_| PipelineError::Interrupted))
    });
    drained?;
    let warnings = plan.tensors.iter().zip(&run.vanished).filter_map(|(t, vanished)| vanished.warning(t));
    Ok(Written { files: sink.files(), digests: hashes.finish(job.paths), warnings: warnings.collect() })
}

/// Complete files without their names. [`PartialFile::finish_all`] renames them together with files that belong to them.
pub struct Written {
    /// The files, in the order of the plan.
    pub files: Vec<PartialFile>,
    /// Hashes of the files.
    pub digests: Vec<Digest>,
    /// Warnings about the content of the files, in the order of the output.
    pub warnings: Vec<String>,
}

/// Returns the importance of each planned tensor that has one, in the form that the encoder needs.
fn prepare_importance(plan: &Plan, job: &Job) -> Vec<Option<Vec<f32>>> {
    let prepare = |tensor: &PlannedTensor| {
        let importance = job.importance.get(&tensor.mapped.name).filter(|_| tensor.importance)?;
        Some(tensor.encoder.prepare_importance(importance, tensor.mapped.columns() as usize))
    };
    plan.tensors.iter().map(prepare).collect()
}

/// State that the threads of a run share.
struct Shared<'a> {
    plan: &'a Plan,
    job: &'a Job<'a>,
    /// Importance `[tensors]`, prepared for the encoder.
    importance: Vec<Option<Vec<f32>>>,
    /// Observations of vanished weights `[tensors]`.
    vanished: Vec<Vanished>,
    spaces: Spare<Workspace>,
    /// Buffers for encoded rows.
    buffers: Spare<Vec<u8>>,
    failed: AtomicBool,
}

impl Shared<'_> {
    /// Returns whether the run failed or was cancelled.
    fn stopped(&self) -> bool {
        self.failed.load(Ordering::Relaxed) || self.job.cancel.load(Ordering::Relaxed)
    }

    /// Tells the system to read the rows that `unit` needs.
    fn read_ahead(&self, unit: &RowUnit) {
        let tensor = &self.plan.tensors[unit.tensor].mapped;
        let stashed = self.job.stash.is_some_and(|s| s.contains(&tensor.name));
        if let Some(span) = span(tensor, &unit.rows).filter(|_| !stashed) {
            self.job.checkpoint.will_need(span.index, span.rows);
        }
    }

    /// Encodes a unit. A panic becomes an error, so that the writer does not wait for ever.
    fn encode<'b>(&'b self, unit: &RowUnit, mut lease: Lease<'b>) -> Result<Encoded<'b>, PipelineError> {
        if self.stopped() {
            return Err(PipelineError::Interrupted);
        }
        let tensor = &self.plan.tensors[unit.tensor];
        let seen = (self.importance[unit.tensor].as_deref(), &self.vanished[unit.tensor]);
        let mut bytes = self.buffers.sized(work::encoded_bytes(tensor, unit));
        let result = catch_unwind(AssertUnwindSafe(|| {
            let mut space = self.spaces.take().unwrap_or_default();
            let result = work::encode(self.job, tensor, seen, unit, &mut space, &mut bytes);
            self.spaces.put(space);
            result
        }));
        result.unwrap_or_else(|_| {
            Err(PipelineError::Internal { tensor: tensor.mapped.name.clone(), rows: unit.rows.clone() })
        })?;
        lease.keep(bytes.len() as u64);
        Ok(Encoded { bytes, spare: &self.buffers, _lease: lease })
    }
}
