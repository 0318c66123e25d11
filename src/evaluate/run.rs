//! Runs models over chunks and scores them, a block of chunks at a time; logits are never all held.

use std::sync::atomic::AtomicBool;

use kquant_formats::FormatError;
use kquant_formats::logits::{LogitsFile, LogitsWriter, encode_row};
use rayon::prelude::*;

use super::{
    Chunks, Divergence, Normalizer, Perplexity, Report, RowError, TokenStats, compare_log_probs,
    compare_rows, score_row,
};
use crate::model::{Head, Hidden, Logits, Model, ModelError, Pass, chunks_per_block};
use crate::progress::Progress;

/// What a model is compared with.
pub enum Reference<'a> {
    /// Another model, in full precision.
    Model(&'a Model),
    /// What llama-perplexity or kquant recorded of one, in 16 bits.
    Logits(&'a LogitsFile),
}

/// How to run. Nothing here changes a bit of the result.
pub struct Run<'a> {
    /// Bytes for weights, hidden states and logits.
    pub memory: u64,
    /// Set from outside to stop early.
    pub cancel: &'a AtomicBool,
    /// Told of work done, in the unit of [`work`].
    pub progress: &'a dyn Progress,
}

/// Running values after a chunk.
#[derive(Debug, Clone, Copy)]
pub struct Running {
    /// Chunks done.
    pub chunks: usize,
    /// Perplexity so far.
    pub perplexity: f64,
    /// Mean divergence so far, with a reference.
    pub kl: Option<f64>,
}

/// Why an evaluation failed.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// A model.
    #[error("{path}")]
    Model {
        /// Which.
        path: std::path::PathBuf,
        /// What is wrong.
        source: ModelError,
    },
    /// A row of logits.
    #[error("chunk {chunk}, position {position}")]
    Row {
        /// Number of the chunk, from 0.
        chunk: usize,
        /// Position in it.
        position: usize,
        /// What is wrong.
        source: RowError,
    },
    /// A logits file.
    #[error(transparent)]
    Logits(#[from] FormatError),
}

/// Units of work of one model over `chunks`: tokens times layers, the output counted as one.
pub fn work(model: &Model, chunks: &Chunks) -> u64 {
    (chunks.tokens().len() * (model.hyper.layers + 1)) as u64
}

/// One model in the run, with what it keeps from group to group.
struct Side<'a> {
    model: &'a Model,
    head: Head<'a>,
}

impl<'a> Side<'a> {
    fn new(model: &'a Model, memory: u64) -> Result<Self, EvaluateError> {
        let head = model.head(memory).map_err(|e| model_error(model, e))?;
        Ok(Self { model, head })
    }

    fn hidden(&self, tokens: &[u32], pass: &Pass, done: u64) -> Result<Hidden, EvaluateError> {
        self.model.hidden(tokens, pass, None, done).map_err(|e| model_error(self.model, e))
    }

    /// Logits of the scored positions of `count` chunks from `first` on, chunk after chunk.
    fn logits(
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

fn model_error(model: &Model, source: ModelError) -> EvaluateError {
    EvaluateError::Model { path: model.path.clone(), source }
}

/// Scores `model` on `chunks`, against `reference` if there is one. `record` takes the logits for exchange; `running` is
/// called after every chunk.
///
/// # Errors
/// [`EvaluateError`]: nothing is scored that could not be computed.
pub fn evaluate(
    model: &Model,
    reference: Option<&Reference>,
    chunks: &Chunks,
    mut record: Option<&mut LogitsWriter>,
    run: &Run,
    running: &mut dyn FnMut(Running),
) -> Result<Report, EvaluateError> {
    let base = match reference {
        Some(Reference::Model(base)) => Some(*base),
        _ => None,
    };
    let sides = if base.is_some() { 2 } else { 1 };
    let context = chunks.context();
    // A half for layers and hidden states, a quarter for output projections; the rest is for logits.
    let pass = Pass { context, memory: run.memory / 2, cancel: run.cancel, progress: run.progress };
    let side = Side::new(model, run.memory / 4 / sides)?;
    let base = base.map(|m| Side::new(m, run.memory / 4 / sides)).transpose()?;
    let mut at_once = model.chunks_at_once(&pass).map_err(|e| model_error(model, e))?;
    if let Some(base) = &base {
        at_once = at_once.min(base.model.chunks_at_once(&pass).map_err(|e| model_error(base.model, e))?);
    }
    let unit = chunks_per_block(context);
    let at_once = (at_once / sides as usize / unit).max(1) * unit;

    let mut scores = Scores::default();
    let mut done = 0;
    for first in (0..chunks.len()).step_by(at_once) {
        let group = at_once.min(chunks.len() - first);
        let tokens = &chunks.tokens()[first * context..(first + group) * context];
        let group_work = |m: &Model| (tokens.len() * (m.hyper.layers + 1)) as u64;
        let base_hidden = match &base {
            Some(base) => {
                let hidden = base.hidden(tokens, &pass, done)?;
                done += group_work(base.model);
                Some((base, hidden))
            }
            None => None,
        };
        let hidden = side.hidden(tokens, &pass, done)?;
        done += group_work(model);
        for start in (0..group).step_by(unit) {
            let count = unit.min(group - start);
            let logits = side.logits(&hidden, chunks, start, count)?;
            let base_logits = base_hidden
                .as_ref()
                .map(|(base, hidden)| base.logits(hidden, chunks, start, count))
                .transpose()?;
            let source = match (&base_logits, reference) {
                (Some(logits), _) => Against::Model(logits),
                (None, Some(Reference::Logits(file))) => Against::File(file),
                _ => Against::Nothing,
            };
            for chunk in 0..count {
                let rows = Rows {
                    logits: &logits,
                    first: chunk * chunks.scored().len(),
                    chunk: first + start + chunk,
                };
                rows.score(&source, chunks, &mut scores)?;
                if let Some(writer) = record.as_deref_mut() {
                    rows.write(chunks, writer)?;
                }
                running(scores.running(rows.chunk + 1));
            }
        }
        run.progress.advance(done, "logits");
    }
    Ok(scores.report(chunks))
}

/// Where the base's rows come from.
enum Against<'a> {
    Nothing,
    Model(&'a Logits),
    File(&'a LogitsFile),
}

/// The scored rows of one chunk.
struct Rows<'a> {
    logits: &'a Logits,
    /// Row of the chunk's first scored position.
    first: usize,
    /// Number of the chunk in the text.
    chunk: usize,
}

/// What one row gives.
enum Score {
    Alone(f64),
    Compared(TokenStats),
}

impl Rows<'_> {
    /// Scores all rows in parallel, adds them up in order.
    fn score(&self, against: &Against, chunks: &Chunks, scores: &mut Scores) -> Result<(), EvaluateError> {
        let scored = chunks.scored();
        let results: Vec<Result<Score, EvaluateError>> = (0..scored.len())
            .into_par_iter()
            .map_init(
                || (Vec::new(), Vec::new()),
                |(row, base), i| {
                    self.logits.row(self.first + i, row);
                    let target = chunks.targets(self.chunk)[i];
                    let score = match against {
                        Against::Nothing => score_row(row, target).map(Score::Alone),
                        Against::Model(logits) => {
                            logits.row(self.first + i, base);
                            compare_rows(base, row, target).map(Score::Compared)
                        }
                        Against::File(file) => {
                            file.row(self.chunk, i)?.decode_into(base);
                            compare_log_probs(base, row, target).map(Score::Compared)
                        }
                    };
                    let position = scored.start + i;
                    score.map_err(|source| EvaluateError::Row { chunk: self.chunk, position, source })
                },
            )
            .collect();
        results.into_iter().try_for_each(|score| {
            scores.push(score?);
            Ok(())
        })
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

/// Sums of the rows so far.
#[derive(Default)]
struct Scores {
    alone: Perplexity,
    compared: Divergence,
}

impl Scores {
    fn push(&mut self, score: Score) {
        match score {
            Score::Alone(nll) => self.alone.push(nll),
            Score::Compared(stats) => self.compared.push(&stats),
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
