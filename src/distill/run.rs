//! The loop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::DistillError;
use super::gradients::WeightGradients;
use super::optimizer::{Method, Optimizer};
use super::parameters::{Parameters, Trained};
use super::report::{DistillReport, Measured};
use super::schedule::share;
use super::targets::{Targets, TeacherModel};
use crate::context::{Context, Silent, Unit};
use crate::model::backward::{Backward, Labels, Teacher, TeacherTarget};
use crate::model::draws::uniform;
use crate::model::{Model, ModelError};
use crate::statistics::Factors;
use crate::tensor::Stash;
use crate::text::Chunks;

/// Chunks that the student's statistics are made of.
const FACTOR_CHUNKS: usize = 128;
/// Steps after which the student's statistics are made again.
const RENEW_EVERY: usize = 100;
/// Number of measurements on held-out text on the way.
const MEASUREMENTS: usize = 10;
/// Measurements without a gain after which a run ends.
const PATIENCE: usize = 5;
/// The divergence at which steps are too large, as a multiple of the least so far.
const WORSE: f64 = 1.02;

/// A student to train, and how.
pub struct Distillation<'a> {
    /// The teacher.
    pub teacher: TeacherModel<'a>,
    /// Text to train on, in the student's tokens.
    pub training: &'a Chunks,
    /// Text to judge by.
    pub held_out: &'a Chunks,
    /// Text of another kind, to see what is forgotten.
    pub other: Option<&'a Chunks>,
    /// How steps are made.
    pub method: Method,
    /// Which weights are trained.
    pub trained: Trained,
    /// Size of the largest steps.
    pub rate: f64,
    /// Chunks of a step.
    pub batch: usize,
    /// Number of steps.
    pub steps: usize,
    /// Tokens that the teacher's distributions know one by one.
    pub known: usize,
    /// Seed of the order of the text and of the labels of statistics.
    pub seed: u64,
}

/// The trained weights and how they came about.
pub struct Distilled {
    /// Weights at the best moment, in f32.
    pub stash: Stash,
    /// The numbers.
    pub report: DistillReport,
}

impl Distillation<'_> {
    /// Trains `student`, whose weights are in memory from then on.
    ///
    /// # Errors
    /// [`DistillError`]; texts and memory are checked before anything is run.
    pub fn run(&self, student: &mut Model, run: &Context) -> Result<Distilled, DistillError> {
        let chunks = self.training.len();
        if self.batch == 0 || chunks < self.batch {
            return Err(DistillError::Text { chunks, batch: self.batch });
        }
        let left = self.memory(student, run.memory)?;
        let parameters = Arc::new(Parameters::read(student, self.trained)?);
        student.set_overlay(parameters.clone());
        let run = run.with_memory(left);
        let teacher_work = self.training.tokens().len() * (self.teacher.model.hyper.layers + 1);
        run.progress.begin(teacher_work as u64, Unit::Work);
        let targets = Targets::collect(self.teacher, self.training, self.known, &run)?;
        let quiet = Context { progress: &Silent, ..run };
        let judge = |text| {
            Ok::<_, DistillError>(Judge {
                text,
                expected: Targets::collect(self.teacher, text, self.known, &quiet)?,
            })
        };
        let (held_out, other) = (judge(self.held_out)?, self.other.map(judge).transpose()?);
        run.progress.begin(self.steps as u64, Unit::Work);
        let mut training = Training {
            job: self,
            student,
            parameters: &parameters,
            targets: &targets,
            held_out,
            other,
            optimizer: self.method.optimizer(),
            rate: self.rate,
            run,
            start: Instant::now(),
            course: Vec::new(),
            best: (0, f64::INFINITY, parameters.snapshot()),
        };
        training.all()?;
        let (course, (best_step, _, best)) = (training.course, training.best);
        parameters.restore(best);
        let report = DistillReport {
            weights: parameters.weights() as u64,
            steps: course.last().map_or(0, |m| m.step),
            batch_tokens: self.batch * self.training.context(),
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
        let tokens = [Some(self.training), Some(self.held_out), self.other]
            .into_iter()
            .flatten()
            .map(|c| c.tokens().len())
            .sum();
        let held = 4 * (3 * weights + of_state) + Targets::bytes(tokens, self.known);
        let left = memory.saturating_sub(held);
        if left < memory / 4 {
            return Err(DistillError::Memory { needed: held + held / 2 });
        }
        Ok(left)
    }

    /// Returns the numbers of the chunks of step `step`: every pass over the text has an order of its own.
    fn chunks_of(&self, step: usize) -> Vec<usize> {
        let chunks = self.training.len();
        let batch = step * self.batch..(step + 1) * self.batch;
        let (first, last) = (batch.start / chunks, (batch.end - 1) / chunks);
        // A batch is no longer than the text, so that it lies in two passes at most.
        let orders = [self.order(first), self.order(last)];
        batch.map(|at| orders[usize::from(at / chunks > first)][at % chunks]).collect()
    }

    /// Returns the order of the chunks in pass `pass` over the text.
    fn order(&self, pass: usize) -> Vec<usize> {
        let chunks = self.training.len();
        let mut order: Vec<usize> = (0..chunks).collect();
        for i in (1..chunks).rev() {
            let place = (pass * chunks + i) as u64;
            order.swap(i, (uniform(self.seed, place) * (i + 1) as f64) as usize);
        }
        order
    }

    fn tokens(&self, chunks: &[usize]) -> Vec<u32> {
        chunks.iter().flat_map(|&chunk| self.training.chunk(chunk)).copied().collect()
    }
}

/// The teacher's distributions for the chunks of a batch.
struct Batch<'a> {
    targets: &'a Targets,
    chunks: &'a [usize],
    context: usize,
}

impl Teacher for Batch<'_> {
    fn target(&self, token: usize) -> TeacherTarget<'_> {
        self.targets.target(self.chunks[token / self.context] * self.context + token % self.context)
    }
}

/// A text that students are judged by, with the teacher's distributions over it.
struct Judge<'a> {
    text: &'a Chunks,
    expected: Targets,
}

/// The state of a run.
struct Training<'a> {
    job: &'a Distillation<'a>,
    student: &'a Model,
    parameters: &'a Parameters,
    targets: &'a Targets,
    held_out: Judge<'a>,
    other: Option<Judge<'a>>,
    optimizer: Box<dyn Optimizer>,
    /// Size of the largest steps from now on.
    rate: f64,
    run: Context<'a>,
    start: Instant,
    course: Vec<Measured>,
    /// Step, divergence and weights of the best moment.
    best: (usize, f64, BTreeMap<String, Vec<f32>>),
}

impl Training<'_> {
    fn all(&mut self) -> Result<(), DistillError> {
        let job = self.job;
        let mut gradients = WeightGradients::zeros(self.parameters);
        let every = job.steps.div_ceil(MEASUREMENTS).max(1);
        self.measure(0, None)?;
        let (mut sum, mut count) = (0.0, 0);
        for step in 0..job.steps {
            if job.method.needs_factors() && step % RENEW_EVERY == 0 {
                self.renew(step)?;
            }
            gradients.clear();
            let loss = self.step(step, &mut gradients)?;
            (sum, count) = (sum + loss, count + 1);
            let held_out = self.course.last().map_or(0.0, |m| m.held_out);
            let what = format!("step {}: {loss:.4}, held-out {held_out:.4} nats", step + 1);
            self.run.progress.advance(step as u64 + 1, &what);
            if (step + 1) % every == 0 || step + 1 == job.steps {
                self.measure(step + 1, Some(sum / f64::from(count)))?;
                (sum, count) = (0.0, 0);
                if self.course.len() - 1 - self.best_measurement() >= PATIENCE {
                    break;
                }
                self.take_back();
            }
        }
        Ok(())
    }

    /// Goes back to the best weights and halves the steps if the last ones made the student worse.
    fn take_back(&mut self) {
        let last = self.course.last().map_or(0.0, |m| m.held_out);
        if last.is_nan() || last > WORSE * self.best.1 {
            self.parameters.restore(self.best.2.clone());
            self.optimizer.forget();
            self.rate /= 2.0;
        }
    }

    fn best_measurement(&self) -> usize {
        self.course.iter().position(|m| m.step == self.best.0).unwrap_or(0)
    }

    /// Makes the student's statistics anew.
    fn renew(&mut self, step: usize) -> Result<(), DistillError> {
        let job = self.job;
        let mut chunks = job.order(step);
        chunks.truncate(FACTOR_CHUNKS);
        let quiet = Context { progress: &Silent, ..self.run };
        let seed = job.seed.wrapping_add(step as u64);
        let tokens = job.tokens(&chunks);
        let factors = Factors::collect(self.student, (&tokens, job.training.context()), seed, &quiet)?;
        let mut counts = vec![0; self.student.vocab_size()];
        job.training.tokens().iter().for_each(|&token| counts[token as usize] += 1);
        self.optimizer.renew(self.parameters, &factors, &counts)
    }

    /// Makes step `step` and returns the mean divergence over its batch.
    fn step(&mut self, step: usize, gradients: &mut WeightGradients) -> Result<f64, DistillError> {
        let (job, context) = (self.job, self.job.training.context());
        let chunks = job.chunks_of(step);
        let tokens = job.tokens(&chunks);
        let batch = Batch { targets: self.targets, chunks: &chunks, context };
        let how = Backward {
            context,
            memory: self.run.memory,
            labels: Labels::Taught(&batch),
            exact: true,
            with_output: false,
            cancel: self.run.cancel,
            progress: &Silent,
        };
        let loss = self.student.backward(&tokens, &how, None, gradients)?.sum / tokens.len() as f64;
        if !loss.is_finite() {
            return Err(DistillError::Diverged { step: step + 1, loss });
        }
        self.optimizer.step(self.parameters, gradients, tokens.len(), self.rate * share(step, job.steps));
        Ok(loss)
    }

    /// Measures the divergence on held-out text after `step` steps, and keeps the weights if they are the best so far.
    fn measure(&mut self, step: usize, trained: Option<f64>) -> Result<(), DistillError> {
        if self.run.is_cancelled() {
            return Err(ModelError::Interrupted.into());
        }
        let quiet = Context { progress: &Silent, ..self.run };
        let of = |judge: &Judge| judge.expected.divergence(self.student, judge.text, &quiet);
        let (held_out, other) = (of(&self.held_out)?, self.other.as_ref().map(of).transpose()?);
        let tokens = (step * self.job.batch * self.job.training.context()) as u64;
        let seconds = self.start.elapsed().as_secs_f64();
        self.course.push(Measured { step, tokens, seconds, held_out, other, trained, rate: self.rate });
        if held_out < self.best.1 {
            self.best = (step, held_out, self.parameters.snapshot());
        }
        Ok(())
    }
}
