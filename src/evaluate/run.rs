//! Evaluation of models over chunks of text, one block of chunks at a time, so that logits are never all held.

use std::borrow::Cow;

use kquant_formats::FormatError;
use kquant_formats::logits::{LogitsFile, LogitsWriter, encode_row};
use rayon::prelude::*;

use crate::context::Context;
use crate::evaluate::{
    Divergence, Guess, Listeners, Normalizer, Perplexity, PositionScore, Report, RowError, TokenStats,
    compare_kept_rows, compare_log_probs, compare_rows, score_row,
};
use crate::model::{Head, Hidden, Logits, Model, ModelError, Pass};
use crate::text::Chunks;
use crate::text::chunks_per_block;

/// The base that a model is compared with.
pub enum Reference<'a> {
    /// Another model, in full precision.
    Model(&'a Model),
    /// Another model that has all tokens of the model and more, in full precision.
    Larger {
        /// The base.
        model: &'a Model,
        /// The base's id of each token of the model, `[vocabulary]`, by [`Model::ids_in`].
        ids: &'a [u32],
    },
    /// Log-probabilities that llama-perplexity or kquant recorded of a model, in 16 bits.
    Logits(&'a LogitsFile),
}

/// The running values after a chunk.
#[derive(Debug, Clone, Copy)]
pub struct Running {
    /// Number of chunks that are done.
    pub chunks: usize,
    /// Perplexity so far.
    pub perplexity: f64,
    /// Mean divergence so far in nats per token, if there is a reference.
    pub kl: Option<f64>,
}

/// The reason why an evaluation failed.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// A model could not be run.
    #[error("{path}")]
    Model {
        /// File or folder of the model.
        path: std::path::PathBuf,
        /// Error of the model.
        source: Box<ModelError>,
    },
    /// A row of logits could not be scored.
    #[error("chunk {chunk}, position {position}")]
    Row {
        /// Number of the chunk, from 0.
        chunk: usize,
        /// Position in the chunk, from 0.
        position: usize,
        /// Error of the row.
        source: RowError,
    },
    /// A row of a logits file could not be used.
    #[error("{}: chunk {chunk}, position {position}", path.display())]
    Recorded {
        /// Path of the logits file.
        path: std::path::PathBuf,
        /// Number of the chunk, from 0.
        chunk: usize,
        /// Position in the chunk, from 0.
        position: usize,
        /// Error of the row.
        source: RowError,
    },
    /// A logits file could not be read or written.
    #[error(transparent)]
    Logits(#[from] FormatError),
}

/// Returns the units of work of one model over `chunks`: tokens times layers, where the output counts as one layer.
pub fn work(model: &Model, chunks: &Chunks) -> u64 {
    (chunks.tokens().len() * (model.hyper.layers + 1)) as u64
}

/// One model of an evaluation, with its output head, which is kept from group to group.
pub(super) struct Side<'a> {
    model: &'a Model,
    head: Head<'a>,
}

impl<'a> Side<'a> {
    pub(super) fn new(model: &'a Model, memory: u64) -> Result<Self, EvaluateError> {
        let head = model.head(memory).map_err(|e| model_error(model, e))?;
        Ok(Self { model, head })
    }

    /// Runs the model over `tokens`, where `done` units of work are done before.
    pub(super) fn hidden(&self, tokens: &[u32], pass: &Pass, done: u64) -> Result<Hidden, EvaluateError> {
        self.model.hidden(tokens, pass, None, done).map_err(|e| model_error(self.model, e))
    }

    /// Returns the logits of the scored positions of `count` chunks from chunk `first` on, in order.
    pub(super) fn logits(
        &self,
        hidden: &Hidden,
        chunks: &Chunks,
        first: usize,
        count: usize,
    ) -> Result<Logits, EvaluateError> {
        let scored = chunks.scored();
        let rows: Vec<f32> = (first..first + count)
            .flat_map(|c| hidden.rows(c * chunks.context() + scored.start, scored.len()))
            .copied()
            .collect();
        self.head.logits(&self.head.normed(&rows)).map_err(|e| model_error(self.model, e))
    }
}

pub(crate) fn model_error(model: &Model, source: ModelError) -> EvaluateError {
    EvaluateError::Model { path: model.path.clone(), source: Box::new(source) }
}

/// Scores `model` on `chunks`, and compares it with `reference` if there is one. `record` receives the rows of a logits
/// file; `running` is called after every chunk.
///
/// # Errors
/// Fails with [`EvaluateError`] as soon as a number cannot be computed.
pub fn evaluate(
    model: &Model,
    reference: Option<&Reference>,
    chunks: &Chunks,
    record: Option<&mut LogitsWriter>,
    run: &Context,
    running: &mut dyn FnMut(Running),
) -> Result<Report, EvaluateError> {
    evaluate_watched(model, reference, chunks, run, &mut Listeners { record, running, watch: None })
}

/// Does the same as [`evaluate`], and tells `listeners` of each position as well, which costs one more softmax of each row.
///
/// # Errors
/// Fails as [`evaluate`] does.
pub fn evaluate_watched(
    model: &Model,
    reference: Option<&Reference>,
    chunks: &Chunks,
    run: &Context,
    listeners: &mut Listeners,
) -> Result<Report, EvaluateError> {
    let mut evaluation = Evaluation::new(model, reference, chunks, run)?;
    let at_once = evaluation.chunks_at_once()?;
    for first in (0..chunks.len()).step_by(at_once) {
        let count = at_once.min(chunks.len() - first);
        evaluation.group(first, count, listeners)?;
    }
    Ok(evaluation.scores.report(chunks))
}

/// The state of an evaluation.
struct Evaluation<'a> {
    side: Side<'a>,
    base: Option<Side<'a>>,
    /// The base's id of each token of the model, where they differ.
    ids: Option<&'a [u32]>,
    file: Option<&'a LogitsFile>,
    chunks: &'a Chunks,
    pass: Pass<'a>,
    scores: Scores,
    /// Units of work that are done, for the progress.
    done: u64,
}

impl<'a> Evaluation<'a> {
    fn new(
        model: &'a Model,
        reference: Option<&Reference<'a>>,
        chunks: &'a Chunks,
        run: &Context<'a>,
    ) -> Result<Self, EvaluateError> {
        let (base, ids, file) = match reference {
            Some(Reference::Model(base)) => (Some(*base), None, None),
            Some(Reference::Larger { model, ids }) => (Some(*model), Some(*ids), None),
            Some(Reference::Logits(file)) => (None, None, Some(*file)),
            None => (None, None, None),
        };
        // Layers and hidden states get half of the memory, output projections a quarter, and logits the rest.
        let memory = run.memory / 2;
        let head = run.memory / 4 / if base.is_some() { 2 } else { 1 };
        Ok(Self {
            side: Side::new(model, head)?,
            base: base.map(|m| Side::new(m, head)).transpose()?,
            ids,
            file,
            chunks,
            pass: Pass { context: chunks.context(), memory, cancel: run.cancel, progress: run.progress },
            scores: Scores::default(),
            done: 0,
        })
    }

    /// Returns the number of chunks whose hidden states, of both models, are held at a time.
    fn chunks_at_once(&self) -> Result<usize, EvaluateError> {
        let models = if self.base.is_some() { 2 } else { 1 };
        let fits = |side: &Side| {
            side.model.chunks_at_once(&self.pass, models).map_err(|error| {
                let error = match error {
                    // A pass gets half of the memory.
                    ModelError::Memory { needed } => ModelError::Memory { needed: 2 * needed },
                    other => other,
                };
                model_error(side.model, error)
            })
        };
        let at_once = fits(&self.side)?;
        Ok(match &self.base {
            Some(base) => at_once.min(fits(base)?),
            None => at_once,
        })
    }

    /// Runs and scores `count` chunks from chunk `first` on.
    fn group(&mut self, first: usize, count: usize, listeners: &mut Listeners) -> Result<(), EvaluateError> {
        let chunks = self.chunks;
        let context = chunks.context();
        let tokens = &chunks.tokens()[first * context..(first + count) * context];
        let group_work = |side: &Side| (tokens.len() * (side.model.hyper.layers + 1)) as u64;
        let mut base_hidden = None;
        if let Some(base) = &self.base {
            let tokens = self.base_tokens(first, tokens)?;
            base_hidden = Some(base.hidden(&tokens, &self.pass, self.done)?);
            self.done += group_work(base);
        }
        let hidden = self.side.hidden(tokens, &self.pass, self.done)?;
        self.done += group_work(&self.side);
        let unit = chunks_per_block(context);
        for start in (0..count).step_by(unit) {
            let some = unit.min(count - start);
            let logits = self.side.logits(&hidden, chunks, start, some)?;
            let base_logits = match (&self.base, &base_hidden) {
                (Some(base), Some(hidden)) => Some(base.logits(hidden, chunks, start, some)?),
                _ => None,
            };
            let against = match (&base_logits, self.ids, self.file) {
                (Some(logits), None, _) => Against::Model(logits),
                (Some(logits), Some(ids), _) => Against::Larger(logits, ids),
                (None, _, Some(file)) => Against::File(file),
                (None, _, None) => Against::Nothing,
            };
            for i in 0..some {
                let rows = ScoredRows {
                    logits: &logits,
                    first: i * chunks.scored().len(),
                    chunk: first + start + i,
                };
                rows.score(&against, chunks, &mut self.scores, listeners)?;
                if let Some(writer) = listeners.record.as_deref_mut() {
                    rows.write(chunks, writer)?;
                }
                (listeners.running)(self.scores.running(rows.chunk + 1));
            }
        }
        self.pass.progress.advance(self.done, "logits");
        Ok(())
    }

    /// Returns `tokens`, those of the chunks from chunk `first` on, with the ids that they have in the base.
    fn base_tokens<'t>(&self, first: usize, tokens: &'t [u32]) -> Result<Cow<'t, [u32]>, EvaluateError> {
        let Some(ids) = self.ids else {
            return Ok(Cow::Borrowed(tokens));
        };
        let context = self.chunks.context();
        let of = |(at, &token): (usize, &u32)| {
            let id = usize::try_from(token).ok().and_then(|token| ids.get(token));
            id.copied().ok_or_else(|| EvaluateError::Row {
                chunk: first + at / context,
                position: at % context,
                source: RowError::Token { token, vocabulary: ids.len() },
            })
        };
        tokens.iter().enumerate().map(of).collect()
    }
}

/// The source of the base's rows.
enum Against<'a> {
    Nothing,
    Model(&'a Logits),
    /// Of a base with more tokens, which has the model's under these ids.
    Larger(&'a Logits, &'a [u32]),
    File(&'a LogitsFile),
}

impl Against<'_> {
    /// Returns the error of a position, which names the logits file where that is at fault.
    fn fault(&self, chunk: usize, position: usize, source: RowError) -> EvaluateError {
        match (self, &source) {
            (Self::File(file), RowError::Total { .. } | RowError::NotFinite(super::Side::Base)) => {
                EvaluateError::Recorded { path: file.path().to_owned(), chunk, position, source }
            }
            _ => EvaluateError::Row { chunk, position, source },
        }
    }
}

/// The scored rows of one chunk.
struct ScoredRows<'a> {
    logits: &'a Logits,
    /// Row of the chunk's first scored position.
    first: usize,
    /// Number of the chunk in the text.
    chunk: usize,
}

/// The numbers that one row gives.
enum Score {
    Alone(f64),
    Compared(TokenStats),
    Watched(PositionScore),
}

impl ScoredRows<'_> {
    /// Scores all rows in parallel and adds the scores in order.
    fn score(
        &self,
        against: &Against,
        chunks: &Chunks,
        scores: &mut Scores,
        listeners: &mut Listeners,
    ) -> Result<(), EvaluateError> {
        let (scored, watched) = (chunks.scored(), listeners.watch.is_some());
        let results: Vec<Result<Score, EvaluateError>> = (0..scored.len())
            .into_par_iter()
            .map_init(
                || (Vec::new(), Vec::new(), Vec::new(), Vec::new()),
                |(row, base, kept, bytes), i| {
                    self.logits.row(self.first + i, row);
                    let target = chunks.targets(self.chunk)[i];
                    let score = match against {
                        Against::Nothing => score_row(row, target).map(Score::Alone),
                        Against::Model(logits) => {
                            logits.row(self.first + i, base);
                            compare_rows(base, row, target).map(Score::Compared)
                        }
                        Against::Larger(logits, ids) => {
                            logits.row(self.first + i, base);
                            compare_kept_rows(base, ids, kept, row, target).map(Score::Compared)
                        }
                        Against::File(file) => {
                            file.row(self.chunk, i, bytes)?.decode_into(base);
                            compare_log_probs(base, row, target).map(Score::Compared)
                        }
                    };
                    let position = scored.start + i;
                    let score = score.and_then(|score| match score {
                        Score::Compared(stats) if watched => {
                            let (base, model) = (Guess::of(base)?, Guess::of(row)?);
                            let chunk = self.chunk;
                            Ok(Score::Watched(PositionScore { chunk, position, target, stats, base, model }))
                        }
                        other => Ok(other),
                    });
                    score.map_err(|source| against.fault(self.chunk, position, source))
                },
            )
            .collect();
        for score in results {
            let score = score?;
            if let (Score::Watched(position), Some(watch)) = (&score, listeners.watch.as_deref_mut()) {
                watch(position);
            }
            scores.push(score);
        }
        Ok(())
    }

    /// Appends all rows to a logits file.
    fn write(&self, chunks: &Chunks, writer: &mut LogitsWriter) -> Result<(), EvaluateError> {
        let encoded: Vec<Vec<u8>> = (0..chunks.scored().len())
            .into_par_iter()
            .map(|i| {
                let (mut row, mut bytes) = (Vec::new(), Vec::new());
                self.logits.row(self.first + i, &mut row);
                let position = chunks.scored().start + i;
                let normalizer = Normalizer::of(&row).map_err(|source| EvaluateError::Row {
                    chunk: self.chunk,
                    position,
                    source,
                })?;
                encode_row(&row, normalizer.log_sum_exp as f32, &mut bytes)?;
                Ok(bytes)
            })
            .collect::<Result<_, EvaluateError>>()?;
        encoded.iter().try_for_each(|bytes| writer.append(bytes)).map_err(EvaluateError::from)
    }
}

/// Sums over the rows so far.
#[derive(Default)]
struct Scores {
    alone: Perplexity,
    compared: Divergence,
}

impl Scores {
    fn push(&mut self, score: Score) {
        match score {
            Score::Alone(nll) => self.alone.push(nll),
            Score::Compared(stats) | Score::Watched(PositionScore { stats, .. }) => {
                self.compared.push(&stats);
            }
        }
    }

    fn is_comparison(&self) -> bool {
        self.compared.perplexity().count() > 0
    }

    fn running(&self, chunks: usize) -> Running {
        if self.is_comparison() {
            let perplexity = self.compared.perplexity().value();
            Running { chunks, perplexity, kl: Some(self.compared.kl().mean) }
        } else {
            Running { chunks, perplexity: self.alone.value(), kl: None }
        }
    }

    fn report(&self, chunks: &Chunks) -> Report {
        if self.is_comparison() {
            Report::compared(chunks, &self.compared)
        } else {
            Report::new(chunks, &self.alone)
        }
    }
}
