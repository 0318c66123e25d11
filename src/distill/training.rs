//! The loop.

use std::collections::BTreeMap;
use std::time::Instant;

use rayon::prelude::*;

use super::DistillError;
use super::checkpoint::{self, Numbers, State};
use super::gradients::WeightGradients;
use super::optimizer::Optimizer;
use super::parameters::Parameters;
use super::report::Measured;
use super::run::Distillation;
use super::schedule::Length;
use super::teacher::Taught;
use crate::context::{Context, Silent, Unit};
use crate::hash::bytes_sha256;
use crate::model::backward::{Backward, Labels};
use crate::model::{Model, ModelError};
use crate::statistics::Factors;

/// Tokens that the student's statistics are made of.
const FACTOR_TOKENS: usize = 1 << 15;
/// Steps after which the student's statistics are made again.
const RENEW_EVERY: usize = 100;
/// Measurements without a gain after which a run ends.
const PATIENCE: usize = 5;
/// The divergence at which steps are too large, as a multiple of the least so far.
const WORSE: f64 = 1.02;

/// The texts of a run with what the teacher predicts over them.
pub(super) struct Texts<'a> {
    pub training: Taught<'a>,
    pub held_out: Taught<'a>,
    pub other: Option<Taught<'a>>,
}

/// A run on its way.
pub(super) struct Training<'a> {
    job: &'a Distillation<'a>,
    student: &'a Model,
    parameters: &'a Parameters,
    texts: Texts<'a>,
    optimizer: Box<dyn Optimizer>,
    context: Context<'a>,
    /// SHA-256 of everything that the result depends on.
    identity: String,
    numbers: Numbers,
    /// Weights of the best moment.
    best: BTreeMap<String, Vec<f32>>,
    /// The moment at which the seconds of `numbers` were counted.
    clock: Instant,
    /// The moment at which the state was written last.
    written: Instant,
}

impl<'a> Training<'a> {
    /// Measures the student as it came, or goes on from the state of a run that was stopped.
    pub(super) fn start(
        job: &'a Distillation<'a>,
        student: &'a Model,
        parameters: &'a Parameters,
        texts: Texts<'a>,
        context: Context<'a>,
    ) -> Result<Self, DistillError> {
        let mut run = Self {
            job,
            student,
            parameters,
            texts,
            optimizer: job.method.optimizer(),
            context,
            identity: String::new(),
            numbers: Numbers {
                step: 0,
                renewed: 0,
                seconds: 0.0,
                rate: job.rate,
                optimizer_steps: 0,
                losses: (0.0, 0),
                best: (0, f64::INFINITY),
                course: Vec::new(),
            },
            best: parameters.snapshot(),
            clock: Instant::now(),
            written: Instant::now(),
        };
        let work = match job.length {
            Length::Steps(steps) => steps as u64,
            Length::Seconds(all) => all as u64,
        };
        context.progress.begin(work, Unit::Work);
        if job.checkpoints.is_some() {
            run.identity = run.identity()?;
        }
        let resumed = job.checkpoints.as_ref().filter(|kept| kept.resume && kept.path.exists());
        match resumed {
            Some(kept) => run.resume(State::open(&kept.path, &run.identity)?)?,
            None => run.measure()?,
        }
        Ok(run)
    }

    /// Trains to the end. When it is cancelled and its state is to be kept, it is.
    pub(super) fn all(&mut self) -> Result<(), DistillError> {
        let result = self.steps();
        // Whatever was interrupted, the teacher's pass or the student's, has changed nothing since the last step.
        match (&self.job.checkpoints, &result) {
            (Some(kept), Err(_)) if self.context.is_cancelled() => {
                self.keep()?;
                Err(DistillError::Stopped { step: self.numbers.step, path: kept.path.clone() })
            }
            _ => result,
        }
    }

    /// Returns the course, and the step and the weights of the best moment.
    pub(super) fn result(self) -> (Vec<Measured>, usize, BTreeMap<String, Vec<f32>>) {
        (self.numbers.course, self.numbers.best.0, self.best)
    }

    fn steps(&mut self) -> Result<(), DistillError> {
        let length = self.job.length;
        let mut gradients = WeightGradients::zeros(self.parameters);
        loop {
            let step = self.numbers.step;
            if length.due(step, self.seconds()) > self.numbers.course.len() - 1 && self.numbers.losses.1 > 0 {
                self.measure()?;
                if self.numbers.course.len() - 1 - self.best_measurement() >= PATIENCE {
                    break;
                }
                self.take_back();
            }
            self.keep_at_times()?;
            if length.is_over(step, self.seconds()) {
                break;
            }
            if self.job.method.needs_factors() && step.is_multiple_of(RENEW_EVERY) && self.is_due(step) {
                self.renew(step)?;
            }
            gradients.clear();
            let loss = self.step(step, &mut gradients)?;
            self.numbers.step += 1;
            let losses = &mut self.numbers.losses;
            *losses = (losses.0 + loss, losses.1 + 1);
            self.tell(loss);
        }
        if self.numbers.losses.1 > 0 {
            self.measure()?;
        }
        Ok(())
    }

    /// Returns true if the statistics before step `step` are not there yet.
    fn is_due(&self, step: usize) -> bool {
        step == 0 || self.numbers.renewed < step
    }

    /// Returns the seconds spent so far, those of earlier runs included.
    fn seconds(&self) -> f64 {
        self.numbers.seconds + self.clock.elapsed().as_secs_f64()
    }

    /// Tells the progress after a step of divergence `loss`.
    fn tell(&self, loss: f64) {
        let held_out = self.numbers.course.last().map_or(0.0, |m| m.held_out);
        let done = match self.job.length {
            Length::Steps(_) => self.numbers.step as u64,
            Length::Seconds(all) => self.seconds().min(all) as u64,
        };
        let what = format!("step {}: {loss:.4}, held-out {held_out:.4} nats", self.numbers.step);
        self.context.progress.advance(done, &what);
    }

    /// Goes back to the best weights and halves the steps if the last ones made the student worse.
    fn take_back(&mut self) {
        let last = self.numbers.course.last().map_or(0.0, |m| m.held_out);
        if last.is_nan() || last > WORSE * self.numbers.best.1 {
            self.parameters.restore(self.best.clone());
            self.optimizer.forget();
            self.numbers.rate /= 2.0;
        }
    }

    fn best_measurement(&self) -> usize {
        let numbers = &self.numbers;
        numbers.course.iter().position(|m| m.step == numbers.best.0).unwrap_or(0)
    }

    fn quiet(&self) -> Context<'a> {
        Context { progress: &Silent, ..self.context }
    }

    /// Makes the student's statistics anew.
    fn renew(&mut self, step: usize) -> Result<(), DistillError> {
        let (job, text) = (self.job, self.texts.training.chunks);
        let mut chunks = job.order(step);
        chunks.truncate((FACTOR_TOKENS / text.context()).max(1));
        let seed = job.seed.wrapping_add(step as u64);
        let tokens = job.tokens(&chunks);
        let factors = Factors::collect(self.student, (&tokens, text.context()), seed, &self.quiet())?;
        let mut counts = vec![0; self.student.vocab_size()];
        text.tokens().iter().for_each(|&token| counts[token as usize] += 1);
        self.optimizer.renew(self.parameters, &factors, &counts)?;
        self.numbers.renewed = step;
        Ok(())
    }

    /// Makes step `step` and returns the mean divergence over its batch.
    fn step(&mut self, step: usize, gradients: &mut WeightGradients) -> Result<f64, DistillError> {
        let job = self.job;
        let chunks = job.chunks_of(step);
        let tokens = job.tokens(&chunks);
        let targets = self.texts.training.targets(&chunks, job.temperature, &self.quiet())?;
        let how = Backward {
            context: self.texts.training.chunks.context(),
            memory: self.context.memory,
            labels: Labels::Taught(&targets),
            exact: true,
            with_output: false,
            cancel: self.context.cancel,
            progress: &Silent,
        };
        let loss = self.student.backward(&tokens, &how, None, gradients)?.sum / tokens.len() as f64;
        if !loss.is_finite() {
            return Err(DistillError::Diverged { step: step + 1, loss });
        }
        let rate = self.numbers.rate * job.length.share(step, self.seconds());
        self.optimizer.step(self.parameters, gradients, tokens.len(), rate);
        Ok(loss)
    }

    /// Measures the divergence on held-out text, and keeps the weights if they are the best so far.
    fn measure(&mut self) -> Result<(), DistillError> {
        if self.context.is_cancelled() {
            return Err(ModelError::Interrupted.into());
        }
        let quiet = self.quiet();
        let of = |text: &Taught| text.divergence(self.student, &quiet);
        let (held_out, other) = (of(&self.texts.held_out)?, self.texts.other.as_ref().map(of).transpose()?);
        let (step, seconds) = (self.numbers.step, self.seconds());
        let tokens = (step * self.job.batch * self.texts.training.chunks.context()) as u64;
        let numbers = &mut self.numbers;
        let (sum, count) = std::mem::take(&mut numbers.losses);
        let trained = (count > 0).then(|| sum / f64::from(count));
        numbers.course.push(Measured { step, tokens, seconds, held_out, other, trained, rate: numbers.rate });
        if held_out < numbers.best.1 {
            numbers.best = (step, held_out);
            self.best = self.parameters.snapshot();
        }
        Ok(())
    }

    /// Returns the SHA-256 of the student as it came, the texts, what the teacher predicts over held-out text, and the options.
    fn identity(&self) -> Result<String, DistillError> {
        let job = self.job;
        let options = (job.method, job.trained, job.rate, job.batch, job.length);
        let mut all = format!("{options:?} {:?}", (job.known, job.temperature, job.seed)).into_bytes();
        let of = |values: &[f32]| values.par_iter().flat_map_iter(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        for name in self.parameters.names() {
            let hash = self.parameters.with(name, |parameter| bytes_sha256(&of(&parameter.values)));
            all.extend(hash.unwrap_or_default().bytes());
        }
        let texts = [Some(&self.texts.training), Some(&self.texts.held_out), self.texts.other.as_ref()];
        for text in texts.into_iter().flatten() {
            all.extend(text.chunks.tokens().iter().flat_map(|token| token.to_le_bytes()));
        }
        all.extend(self.texts.held_out.sha256(&self.quiet())?.bytes());
        Ok(bytes_sha256(&all))
    }

    /// Writes the state if it is time to.
    fn keep_at_times(&mut self) -> Result<(), DistillError> {
        let every = self.job.checkpoints.as_ref().map(|kept| kept.every);
        if every.is_some_and(|every| self.written.elapsed() >= every) {
            self.keep()?;
        }
        Ok(())
    }

    /// Writes the state, if it is to be kept.
    fn keep(&mut self) -> Result<(), DistillError> {
        let Some(kept) = &self.job.checkpoints else { return Ok(()) };
        let mut numbers = Numbers { seconds: self.seconds(), ..self.numbers.clone() };
        numbers.optimizer_steps = self.optimizer.save(self.parameters, &mut |_, _, _| {});
        checkpoint::write(&kept.path, &self.identity, &numbers, |visit| {
            for (number, name) in self.parameters.names().enumerate() {
                self.parameters.with(name, |parameter| visit("weight", number, &parameter.values));
                if let Some(best) = self.best.get(name) {
                    visit("best", number, best);
                }
            }
            self.optimizer.save(self.parameters, visit);
        })?;
        self.written = Instant::now();
        Ok(())
    }

    /// Goes on from `state`.
    fn resume(&mut self, state: State) -> Result<(), DistillError> {
        let names: Vec<String> = self.parameters.names().map(str::to_owned).collect();
        let mut weights = BTreeMap::new();
        for (number, name) in names.into_iter().enumerate() {
            let length = self.parameters.with(&name, |parameter| parameter.values.len()).unwrap_or(0);
            self.best.insert(name.clone(), state.required("best", number, length)?);
            weights.insert(name, state.required("weight", number, length)?);
        }
        self.parameters.restore(weights);
        self.optimizer.load(self.parameters, state.numbers.optimizer_steps, &state)?;
        self.numbers = state.numbers;
        self.clock = Instant::now();
        Ok(())
    }
}
