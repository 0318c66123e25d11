//! Distillation: a student is trained to predict what its teacher does, and the result is a model of the student's shapes.

use std::borrow::Cow;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use kquant_formats::gguf::Value;

use crate::context::Context;
use crate::convert::Converted;
use crate::distill::{
    Checkpoints, DistillError, DistillReport, Distillation, Distilled, Length, Lesson, Method, Source,
    StudentTokens, TeacherFiles, Trained,
};
use crate::model::{Model, ModelError};
use crate::text::{ChunkError, Chunks, spread};
use crate::transform::changed;

/// Tokens of a step where nothing else is asked for.
const BATCH_TOKENS: usize = 4096;

/// Chunks of the held-out text that are judged by, at most: they are run a dozen times.
const JUDGED_CHUNKS: usize = 64;

/// How long a student is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TrainingLength {
    /// Tokens to train on.
    Tokens(u64),
    /// Minutes. The result then depends on the speed of the machine.
    Minutes(f64),
}

/// How a student is trained.
#[derive(Clone)]
pub struct DistillRequest<'a> {
    /// How steps are made.
    pub method: Method,
    /// Which weights are trained.
    pub trained: Trained,
    /// Size of the largest steps; by default the method's own.
    pub rate: Option<f64>,
    /// Chunks of a step; by default as many as make up 4,096 tokens.
    pub batch: Option<NonZeroUsize>,
    /// How long it takes; passes over the text are repeated.
    pub length: TrainingLength,
    /// Tokens that the teacher's distributions know one by one.
    pub known: NonZeroUsize,
    /// Seed of the order of the text.
    pub seed: u64,
    /// Temperature of the loss of training; texts are judged at 1.
    pub temperature: f32,
    /// The text and the teacher.
    pub taught: TaughtBy<'a>,
    /// Texts that the teacher is to run over besides.
    pub judges: Option<Judges<'a>>,
    /// Where the state is kept on the way.
    pub checkpoints: Option<Checkpoints>,
}

/// The text that is trained on, and who predicts what follows.
#[derive(Clone, Copy)]
pub enum TaughtBy<'a> {
    /// The teacher runs beside.
    Model {
        /// The teacher.
        teacher: &'a Model,
        /// The text, in the student's tokens.
        chunks: &'a Chunks,
        /// SHA-256 of the text, in hexadecimal.
        sha256: &'a str,
    },
    /// The teacher ran before; the files have the text.
    Files {
        /// The files.
        files: &'a TeacherFiles,
        /// Chunks of the text to use; by default all.
        limit: Option<usize>,
    },
}

/// Texts that a student is judged by, with the teacher who runs over them.
#[derive(Clone, Copy)]
pub struct Judges<'a> {
    /// The teacher.
    pub teacher: &'a Model,
    /// Text to judge by, of which up to 64 chunks are used; by default every eighth block of the text that is trained on, which is then
    /// left out of training.
    pub held_out: Option<&'a Chunks>,
    /// Text of another kind, of which up to 64 chunks show what is forgotten.
    pub other: Option<&'a Chunks>,
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
    /// The text of teacher's files cannot be used.
    #[error(transparent)]
    Chunks(#[from] ChunkError),
    /// The files were made of a text in tokens that the student lacks.
    #[error(
        "{}: token {token} of chunk {chunk} is none that the student has; make the file with kquant teach --student STUDENT, \
         which reads the text as the student does",
        path.display()
    )]
    Lost {
        /// The first of the files.
        path: PathBuf,
        /// The teacher's number of the token.
        token: u32,
        /// Number of the chunk, from 0.
        chunk: usize,
    },
}

/// A trained student.
pub struct Student {
    /// The model.
    pub model: Converted,
    /// The numbers.
    pub report: DistillReport,
}

/// Trains `student` as `request` says.
///
/// # Errors
/// [`DistillJobError`]; what cannot be is told of before anything is run.
pub fn distill(
    student: &mut Model,
    request: &DistillRequest,
    run: &Context,
) -> Result<Student, DistillJobError> {
    let text = Text::of(student, &request.taught)?;
    let judges = request.judges.as_ref();
    let (rest, own) = text.chunks.held_out();
    let (training, held_out) = match judges.and_then(|judges| Some((judges.teacher, judges.held_out?))) {
        Some((teacher, held_out)) => {
            ((0..text.chunks.len()).collect::<Vec<_>>(), Part::by(teacher, held_out.spread(JUDGED_CHUNKS)))
        }
        None if own.is_empty() => return Err(DistillJobError::NothingHeldOut),
        None => (rest, text.part(&spread(&own, JUDGED_CHUNKS))),
    };
    let other = judges.and_then(|judges| Some(Part::by(judges.teacher, judges.other?.spread(JUDGED_CHUNKS))));
    let context = text.chunks.context();
    let batch = request.batch.map_or((BATCH_TOKENS / context).max(1), NonZeroUsize::get);
    let (length, most) = match request.length {
        TrainingLength::Minutes(minutes) => (Length::Seconds(minutes * 60.0), training.len()),
        TrainingLength::Tokens(tokens) => {
            let steps = tokens.div_ceil((batch * context) as u64).max(1) as usize;
            (Length::Steps(steps), steps.saturating_mul(batch).max(batch))
        }
    };
    // Of a text that is more than one pass takes, chunks from everywhere are used.
    let training = text.part(&spread(&training, most));
    let job = Distillation {
        ids: text.ids.as_deref(),
        training: training.lesson(),
        held_out: held_out.lesson(),
        other: other.as_ref().map(Part::lesson),
        method: request.method,
        trained: request.trained,
        rate: request.rate.unwrap_or_else(|| request.method.default_rate()),
        batch,
        length,
        known: request.known.get(),
        temperature: request.temperature,
        seed: request.seed,
        checkpoints: request.checkpoints.clone(),
    };
    let Distilled { stash, report } = job.run(student, run).map_err(Box::new)?;
    let mut model = changed(student.converted(), &Arc::new(stash));
    let keys = &mut model.metadata;
    let (before, after) = report.before_and_after();
    keys.set("kquant.distilled.tokens", Value::U64(report.best_step as u64 * report.batch_tokens as u64));
    keys.set("kquant.distilled.text.sha256", Value::String(text.sha256));
    keys.set("kquant.distilled.seed", Value::U64(request.seed));
    keys.set("kquant.distilled.kl_before", Value::F64(before));
    keys.set("kquant.distilled.kl", Value::F64(after));
    Ok(Student { model, report })
}

/// The text that is trained on.
struct Text<'a> {
    /// In the student's tokens.
    chunks: Cow<'a, Chunks>,
    /// The teacher's number of each of the student's tokens; `None` where they are the same.
    ids: Option<Vec<u32>>,
    taught: TaughtBy<'a>,
    sha256: String,
}

impl<'a> Text<'a> {
    fn of(student: &Model, taught: &TaughtBy<'a>) -> Result<Self, DistillJobError> {
        match *taught {
            TaughtBy::Model { teacher, chunks, sha256 } => {
                let ids = student.ids_in(teacher)?;
                Ok(Self { chunks: Cow::Borrowed(chunks), ids, taught: *taught, sha256: sha256.to_owned() })
            }
            TaughtBy::Files { files, limit } => {
                let (of, path) = (files.description(), files.path());
                let ids = student.ids_in_vocabulary(&of.vocabulary, of.logits, path)?;
                let own = StudentTokens::new(ids.as_deref());
                let read = |(at, &token): (usize, &u32)| {
                    let lost =
                        || DistillJobError::Lost { path: path.to_owned(), token, chunk: at / of.context };
                    own.of(token).ok_or_else(lost)
                };
                let tokens = files.tokens().iter().enumerate().map(read).collect::<Result<_, _>>()?;
                let chunks = Chunks::recorded(tokens, of.context, limit, None)?;
                Ok(Self { chunks: Cow::Owned(chunks), ids, taught: *taught, sha256: of.text_sha256.clone() })
            }
        }
    }

    /// Returns the chunks `numbers` of the text.
    fn part(&self, numbers: &[usize]) -> Part<'a> {
        let source = match self.taught {
            TaughtBy::Model { teacher, .. } => Source::Model(teacher),
            TaughtBy::Files { files, .. } => Source::Files(files, numbers.to_vec()),
        };
        Part { chunks: self.chunks.of(numbers), source }
    }
}

/// Some chunks of a text, and who predicts what follows.
struct Part<'a> {
    chunks: Chunks,
    source: Source<'a>,
}

impl<'a> Part<'a> {
    fn by(teacher: &'a Model, chunks: Chunks) -> Self {
        Self { chunks, source: Source::Model(teacher) }
    }

    fn lesson(&self) -> Lesson<'_> {
        Lesson { chunks: &self.chunks, source: self.source.clone() }
    }
}
