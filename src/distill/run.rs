//! A student, its teacher and the texts, and what a run makes of them.

use std::sync::Arc;

use super::DistillError;
use super::checkpoint::Checkpoints;
use super::optimizer::Method;
use super::parameters::{Parameters, Trained};
use super::report::DistillReport;
use super::schedule::Length;
use super::teacher::Lesson;
use super::training::{Texts, Training};
use crate::context::Context;
use crate::model::Model;
use crate::model::draws::uniform;
use crate::tensor::Stash;

/// A student to train, and how.
pub struct Distillation<'a> {
    /// The teacher's number of each of the student's tokens; `None` where they are the same.
    pub ids: Option<&'a [u32]>,
    /// Text to train on.
    pub training: Lesson<'a>,
    /// Text to judge by.
    pub held_out: Lesson<'a>,
    /// Text of another kind, to see what is forgotten.
    pub other: Option<Lesson<'a>>,
    /// How steps are made.
    pub method: Method,
    /// Which weights are trained.
    pub trained: Trained,
    /// Size of the largest steps.
    pub rate: f64,
    /// Chunks of a step.
    pub batch: usize,
    /// How long it takes.
    pub length: Length,
    /// Tokens that the teacher's distributions know one by one.
    pub known: usize,
    /// Temperature of the loss of training; texts are judged at 1.
    pub temperature: f32,
    /// Seed of the order of the text and of the labels of statistics.
    pub seed: u64,
    /// Where the state is kept on the way.
    pub checkpoints: Option<Checkpoints>,
}

/// The trained weights and how they came about.
pub struct Distilled {
    /// Weights at the best moment, in f32.
    pub stash: Stash,
    /// The numbers.
    pub report: DistillReport,
}

impl<'a> Distillation<'a> {
    /// Trains `student`, whose weights are in memory from then on.
    ///
    /// # Errors
    /// [`DistillError`]; texts and memory are checked before anything is run.
    pub fn run(&self, student: &mut Model, run: &Context) -> Result<Distilled, DistillError> {
        let chunks = self.training.chunks.len();
        if self.batch == 0 || chunks < self.batch {
            return Err(DistillError::Text { chunks, batch: self.batch });
        }
        let left = self.memory(student, run.memory)?;
        let parameters = Arc::new(Parameters::read(student, self.trained)?);
        student.set_overlay(parameters.clone());
        let run = run.with_memory(left);
        let taught = |lesson: &Lesson<'a>| lesson.taught(self.ids, self.known);
        let texts = Texts {
            training: taught(&self.training),
            held_out: taught(&self.held_out),
            other: self.other.as_ref().map(taught),
        };
        let mut training = Training::start(self, student, &parameters, texts, run)?;
        training.all()?;
        let (course, best_step, best) = training.result();
        parameters.restore(best);
        let report = DistillReport {
            weights: parameters.weights() as u64,
            steps: course.last().map_or(0, |m| m.step),
            batch_tokens: self.batch * self.training.chunks.context(),
            course,
            best_step,
        };
        Ok(Distilled { stash: parameters.stash(run.memory / 4)?, report })
    }

    /// Returns what of `memory` bytes is left for passes beside the weights, their gradients, a copy of the best ones, the state of
    /// the optimizer and the teacher's distributions.
    fn memory(&self, student: &Model, memory: u64) -> Result<u64, DistillError> {
        let shapes = Parameters::shapes(student, self.trained);
        let weights: u64 = shapes.iter().map(|shape| shape.weights).sum();
        let of_state = self.method.copies() * weights + self.method.factors(&shapes);
        let of_teacher: u64 = self.lessons().map(|lesson| lesson.bytes(self.known)).sum();
        let held = 4 * (3 * weights + of_state) + of_teacher;
        let left = memory.saturating_sub(held);
        if left < memory / 4 {
            return Err(DistillError::Memory { needed: held + held / 2 });
        }
        Ok(left)
    }

    /// Returns all texts.
    fn lessons(&self) -> impl Iterator<Item = &Lesson<'a>> {
        [&self.training, &self.held_out].into_iter().chain(&self.other)
    }

    /// Returns the numbers of the chunks of step `step`: every pass over the text has an order of its own.
    pub(super) fn chunks_of(&self, step: usize) -> Vec<usize> {
        let chunks = self.training.chunks.len();
        let batch = step * self.batch..(step + 1) * self.batch;
        let (first, last) = (batch.start / chunks, (batch.end - 1) / chunks);
        // A batch is no longer than the text, so that it lies in two passes at most.
        let orders = [self.order(first), self.order(last)];
        batch.map(|at| orders[usize::from(at / chunks > first)][at % chunks]).collect()
    }

    /// Returns the order of the chunks in pass `pass` over the text.
    pub(super) fn order(&self, pass: usize) -> Vec<usize> {
        let chunks = self.training.chunks.len();
        let mut order: Vec<usize> = (0..chunks).collect();
        for i in (1..chunks).rev() {
            let place = (pass * chunks + i) as u64;
            order.swap(i, (uniform(self.seed, place) * (i + 1) as f64) as usize);
        }
        order
    }

    /// Returns the tokens of the chunks `chunks` of the text that is trained on.
    pub(super) fn tokens(&self, chunks: &[usize]) -> Vec<u32> {
        chunks.iter().flat_map(|&chunk| self.training.chunks.chunk(chunk)).copied().collect()
    }
}
