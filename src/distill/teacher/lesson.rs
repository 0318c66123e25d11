//! A text to train on or to judge by.

use std::cell::RefCell;
use std::collections::BTreeMap;

use kquant_formats::targets::Rows;
use kquant_kernels::math;
use rayon::prelude::*;

use super::super::DistillError;
use super::files::TeacherFiles;
use super::predict::predict;
use super::targets::{StudentTokens, Targets};
use crate::context::Context;
use crate::evaluate::model_error;
use crate::hash::bytes_sha256;
use crate::model::backward::Teacher;
use crate::model::{Model, Pass};
use crate::text::Chunks;

/// A text, and who predicts what follows each of its tokens.
#[derive(Clone)]
pub struct Lesson<'a> {
    /// The text, in the student's tokens.
    pub chunks: &'a Chunks,
    /// The teacher.
    pub source: Source<'a>,
}

/// Where a teacher's predictions come from.
#[derive(Clone)]
pub enum Source<'a> {
    /// The teacher runs beside.
    Model(&'a Model),
    /// The teacher ran before over a text of which the lesson has some chunks, in this order.
    Files(&'a TeacherFiles, Vec<usize>),
}

impl<'a> Lesson<'a> {
    /// Returns the bytes that the predictions of the `top` likeliest tokens take in memory.
    pub(in super::super) fn bytes(&self, top: usize) -> u64 {
        match self.source {
            Source::Model(_) => (self.chunks.tokens().len() * (6 * top + 4)) as u64,
            Source::Files(..) => 0,
        }
    }

    /// Prepares the text for a student, whose tokens have the numbers `ids` of the teacher's; of each prediction the `top` likeliest
    /// tokens are known.
    pub(in super::super) fn taught(&self, ids: Option<&[u32]>, top: usize) -> Taught<'a> {
        let chunks = self.chunks;
        let predictions = match &self.source {
            Source::Files(files, numbers) => Kept::Before(files, numbers.clone()),
            Source::Model(teacher) => {
                let id = |&token: &u32| ids.map_or(token, |ids| ids[token as usize]);
                let tokens = chunks.tokens().iter().map(id).collect();
                let top = top.min(teacher.known_tokens());
                Kept::Now(Beside {
                    teacher,
                    tokens,
                    context: chunks.context(),
                    top,
                    rows: RefCell::default(),
                })
            }
        };
        Taught { chunks, predictions, tokens: StudentTokens::new(ids) }
    }
}

/// A teacher that runs over chunks of a text when they are needed first.
struct Beside<'a> {
    teacher: &'a Model,
    /// The text in the teacher's tokens, `[chunks][context]`.
    tokens: Vec<u32>,
    context: usize,
    top: usize,
    /// What it predicted so far, by the chunk's number.
    rows: RefCell<BTreeMap<usize, Rows>>,
}

impl Beside<'_> {
    /// Runs the teacher over those of the chunks `numbers` that it has not seen.
    fn prepare(&self, numbers: &[usize], run: &Context) -> Result<(), DistillError> {
        let mut rows = self.rows.borrow_mut();
        let missing: Vec<usize> = numbers.iter().copied().filter(|chunk| !rows.contains_key(chunk)).collect();
        let of_chunk = |&chunk: &usize| &self.tokens[chunk * self.context..(chunk + 1) * self.context];
        let tokens: Vec<u32> = missing.iter().flat_map(of_chunk).copied().collect();
        let mut chunks = missing.iter();
        predict(self.teacher, (&tokens, self.context), self.top, run, |found| {
            for (i, rest) in found.rest.chunks(self.context).enumerate() {
                let known = i * self.context * self.top..(i + 1) * self.context * self.top;
                let of_chunk = Rows {
                    ids: found.ids[known.clone()].to_vec(),
                    log_probabilities: found.log_probabilities[known].to_vec(),
                    rest: rest.to_vec(),
                };
                chunks.next().and_then(|&chunk| rows.insert(chunk, of_chunk));
            }
            Ok(())
        })
    }
}

/// A text with the teacher's predictions over it.
pub(in super::super) struct Taught<'a> {
    pub chunks: &'a Chunks,
    predictions: Kept<'a>,
    tokens: StudentTokens,
}

enum Kept<'a> {
    Now(Beside<'a>),
    /// Files, and the number there of each chunk.
    Before(&'a TeacherFiles, Vec<usize>),
}

impl Taught<'_> {
    /// Runs the teacher over all of the text, if it runs beside.
    pub(in super::super) fn prepare(&self, run: &Context) -> Result<(), DistillError> {
        match &self.predictions {
            Kept::Before(..) => Ok(()),
            Kept::Now(beside) => beside.prepare(&(0..self.chunks.len()).collect::<Vec<_>>(), run),
        }
    }

    /// Returns the SHA-256 of all predictions, in hexadecimal.
    pub(in super::super) fn sha256(&self, run: &Context) -> Result<String, DistillError> {
        let all: Vec<usize> = (0..self.chunks.len()).collect();
        let targets = self.targets(&all, 1.0, run)?;
        Ok(bytes_sha256(&targets.bytes()))
    }

    /// Returns the distributions after the tokens of the chunks `numbers`, for a loss at `temperature`.
    pub(in super::super) fn targets(
        &self,
        numbers: &[usize],
        temperature: f32,
        run: &Context,
    ) -> Result<Targets, DistillError> {
        let mut targets = Targets::new(temperature);
        match &self.predictions {
            Kept::Before(files, of) => {
                for &number in numbers {
                    targets.add(&files.chunk(of[number])?, files.description().top, &self.tokens);
                }
            }
            Kept::Now(beside) => {
                beside.prepare(numbers, run)?;
                let rows = beside.rows.borrow();
                let known = numbers.iter().filter_map(|number| rows.get(number));
                known.for_each(|rows| targets.add(rows, beside.top, &self.tokens));
            }
        }
        Ok(targets)
    }

    /// Returns the mean divergence of the predictions of `student` from the teacher's over the scored positions.
    pub(in super::super) fn divergence(&self, student: &Model, run: &Context) -> Result<f64, DistillError> {
        let (context, scored) = (self.chunks.context(), self.chunks.scored());
        let pass = Pass { context, memory: run.memory / 2, cancel: run.cancel, progress: run.progress };
        let fault = |e| DistillError::from(model_error(student, e));
        let head = student.head(run.memory / 4).map_err(fault)?;
        let at_once = student.chunks_at_once(&pass, 1).map_err(fault)?;
        self.prepare(run)?;
        let (mut sum, mut chunk) = (0.0, 0);
        for tokens in self.chunks.tokens().chunks(at_once * context) {
            let hidden = student.hidden(tokens, &pass, None, 0).map_err(fault)?;
            for first in (0..tokens.len()).step_by(context) {
                let normed = head.normed(hidden.rows(first + scored.start, scored.len()));
                let logits = head.logits(&normed).map_err(fault)?;
                let targets = self.targets(&[chunk], 1.0, run)?;
                let of_row = |row: usize| {
                    let mut q = Vec::new();
                    logits.row(row, &mut q);
                    math::softmax(&mut q);
                    targets.target(scored.start + row).divergence(&q)
                };
                sum +=
                    (0..scored.len()).into_par_iter().map(of_row).collect::<Vec<f64>>().iter().sum::<f64>();
                chunk += 1;
            }
        }
        Ok(sum / (chunk * scored.len()).max(1) as f64)
    }
}
