//! Distillation: a student is trained to predict what its teacher does, and the result is a model of the student's shapes.

use std::num::NonZeroUsize;
use std::sync::Arc;

use kquant_formats::gguf::Value;

use crate::context::Context;
use crate::convert::Converted;
use crate::distill::{DistillError, DistillReport, Distillation, Distilled, Method, TeacherModel, Trained};
use crate::model::{Model, ModelError};
use crate::text::Chunks;
use crate::transform::changed;

/// Tokens of a step where nothing else is asked for.
const BATCH_TOKENS: usize = 4096;

/// Chunks of the held-out text that are judged by, at most: they are run a dozen times.
const JUDGED_CHUNKS: usize = 64;

/// How a student is trained.
#[derive(Debug, Clone, Copy)]
pub struct DistillRequest<'a> {
    /// How steps are made.
    pub method: Method,
    /// Which weights are trained.
    pub trained: Trained,
    /// Size of the largest steps; by default the method's own.
    pub rate: Option<f64>,
    /// Chunks of a step; by default as many as make up 4,096 tokens.
    pub batch: Option<NonZeroUsize>,
    /// Tokens to train on; passes over the text are repeated.
    pub tokens: u64,
    /// Tokens that the teacher's distributions know one by one.
    pub known: NonZeroUsize,
    /// Seed of the order of the text.
    pub seed: u64,
    /// The text, in the student's tokens.
    pub chunks: &'a Chunks,
    /// Text to judge by, of which up to 64 chunks are used; by default every eighth block of the text, which is then not trained on.
    pub held_out: Option<&'a Chunks>,
    /// Text of another kind, of which up to 64 chunks show what is forgotten.
    pub other: Option<&'a Chunks>,
    /// SHA-256 of the text, in hexadecimal.
    pub text_sha256: &'a str,
}

/// Why a student cannot be trained as asked.
#[derive(Debug, thiserror::Error)]
pub enum DistillJobError {
    /// The models cannot be compared.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The run.
    #[error(transparent)]
    Run(#[from] Box<DistillError>),
    /// There is nothing to judge by.
    #[error(
        "the text is a single block, so that nothing is left to judge by: give more text, or --held-out TEXT"
    )]
    NothingHeldOut,
}

/// A trained student.
pub struct Student {
    /// The model.
    pub model: Converted,
    /// The numbers.
    pub report: DistillReport,
}

/// Trains `student` by `teacher` as `request` says.
///
/// # Errors
/// [`DistillJobError`]; what cannot be is told of before anything is run.
pub fn distill(
    student: &mut Model,
    teacher: &Model,
    request: &DistillRequest,
    run: &Context,
) -> Result<Student, DistillJobError> {
    let ids = student.ids_in(teacher)?;
    let (rest, own) = request.chunks.without_held_out();
    let (training, held_out) = match (request.held_out, &own) {
        (Some(held_out), _) => (request.chunks, held_out),
        (None, Some(own)) => (&rest, own),
        (None, None) => return Err(DistillJobError::NothingHeldOut),
    };
    let (context, held_out) = (training.context(), &held_out.spread(JUDGED_CHUNKS));
    let batch = request.batch.map_or((BATCH_TOKENS / context).max(1), NonZeroUsize::get);
    let other = request.other.map(|other| other.spread(JUDGED_CHUNKS));
    let steps = request.tokens.div_ceil((batch * context) as u64).max(1) as usize;
    // Of a text that is more than one pass takes, chunks from everywhere are used.
    let training = &training.spread(steps.saturating_mul(batch).max(batch));
    let job = Distillation {
        teacher: TeacherModel { model: teacher, ids: ids.as_deref() },
        training,
        held_out,
        other: other.as_ref(),
        method: request.method,
        trained: request.trained,
        rate: request.rate.unwrap_or_else(|| request.method.default_rate()),
        batch,
        steps,
        known: request.known.get(),
        seed: request.seed,
    };
    let Distilled { stash, report } = job.run(student, run).map_err(Box::new)?;
    let mut model = changed(student.converted(), &Arc::new(stash));
    let keys = &mut model.metadata;
    let (before, after) = report.before_and_after();
    keys.set("kquant.distilled.tokens", Value::U64(report.best_step as u64 * report.batch_tokens as u64));
    keys.set("kquant.distilled.text.sha256", Value::String(request.text_sha256.to_owned()));
    keys.set("kquant.distilled.seed", Value::U64(request.seed));
    keys.set("kquant.distilled.kl_before", Value::F64(before));
    keys.set("kquant.distilled.kl", Value::F64(after));
    Ok(Student { model, report })
}
