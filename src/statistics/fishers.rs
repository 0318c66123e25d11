//! Fisher matrices of a model that are collected for immediate use.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use kquant_formats::FormatError;
use kquant_formats::hessian::packed;
use kquant_formats::scratch::Scratch;

use super::fisher_sums::{FisherSums, Sink, sum_bytes};
use super::hessian_file::unpacked;
use super::output_input::OutputInput;
use crate::context::Context;
use crate::context::Progress;
use crate::encode::feedback::Hessian;
use crate::model::backward::{Backward, Labels, Loss};
use crate::model::{Model, ModelError, OUTPUT, ObserveError, Observer};
use crate::text::Chunks;
use crate::text::block_tokens;

/// The settings of a backward pass that collects Fisher matrices.
pub(super) struct FisherJob<'a> {
    pub model: &'a Model,
    pub chunks: &'a Chunks,
    /// Seed of the labels.
    pub seed: u64,
    /// Place of the first token in the text.
    pub first_token: u64,
    /// True if the forward observer sees the input of the output projection.
    pub with_output: bool,
}

/// The loss of a backward pass with drawn labels, and the time that the pass took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Labelled {
    /// Loss against the labels, and the times of the pass.
    pub loss: Loss,
    /// Time of the gradients' outer products, which is part of the backward pass.
    pub sums: Duration,
}

impl FisherJob<'_> {
    /// Runs the pass: `forward`, which holds `forward_sums` bytes, observes the forward pass, and `sink` gets the sums.
    pub(super) fn run<S: Sink>(
        &self,
        run: &Context,
        forward_sums: u64,
        forward: Option<&mut dyn Observer>,
        sink: S,
    ) -> Result<(S, Labelled), ModelError> {
        let sums = forward_sums.max(sum_bytes(self.model)?);
        let how = Backward {
            context: self.chunks.context(),
            memory: run.memory.saturating_sub(sums),
            labels: Labels::Drawn { seed: self.seed, first_token: self.first_token },
            exact: false,
            with_output: self.with_output,
            cancel: run.cancel,
            progress: run.progress,
        };
        let mut fishers = FisherSums::new(block_tokens(how.context), sink);
        let loss = self.model.backward(self.chunks.tokens(), &how, forward, &mut fishers);
        let loss = loss.map_err(|error| match error {
            ModelError::Memory { needed } => ModelError::Memory { needed: needed + sums },
            other => other,
        })?;
        let (sink, spent) = fishers.into_parts();
        Ok((sink, Labelled { loss, sums: spent }))
    }
}

/// The Fisher matrices of a model's outputs: in memory up to a limit, past it in a temporary file.
#[derive(Debug)]
pub struct Fishers {
    means: BTreeMap<String, Stored>,
    /// Mean outer product of the output projection's input, if the projection is the embedding table as well.
    output_input: Option<Hessian>,
    /// Number of bytes that may still be held in memory.
    room: u64,
    scratch: Option<Scratch>,
}

/// The place of a packed upper triangle, or of the diagonal of the output projection.
#[derive(Debug)]
struct Stored {
    tokens: u64,
    values: usize,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Memory(Vec<f32>),
    /// The values begin at this byte of the temporary file.
    File(u64),
}

impl Fishers {
    /// Runs `model` forward and backward over `chunks`, which start the text, with labels drawn by `seed`. A quarter of
    /// `memory` bytes holds the matrices; those that do not fit are in a temporary file.
    ///
    /// # Errors
    /// Fails when the model cannot be run, a gradient is not finite, memory or temporary space does not suffice, or the
    /// run is cancelled.
    pub fn collect(
        model: &Model,
        chunks: &Chunks,
        memory: u64,
        seed: u64,
        cancel: &AtomicBool,
        progress: &dyn Progress,
    ) -> Result<Self, ModelError> {
        // The input of the output projection matters only if the projection is the embedding table as well.
        let tied = model.find(OUTPUT).is_none();
        let job = FisherJob { model, chunks, seed, first_token: 0, with_output: tied };
        let store = Self::new(memory / 4);
        let run = Context { memory: memory - memory / 4, cancel, progress };
        let columns = if tied { model.hyper.hidden } else { 0 };
        let mut input = OutputInput::new(columns, block_tokens(chunks.context()));
        let forward: Option<&mut dyn Observer> = if tied { Some(&mut input) } else { None };
        let collected =
            job.run(&run, 8 * packed(columns) as u64, forward, store).map_err(|error| match error {
                ModelError::Memory { needed } => ModelError::Memory { needed: needed + needed.div_ceil(3) },
                other => other,
            });
        let (mut all, _) = collected?;
        all.output_input = input.mean();
        Ok(all)
    }

    /// Creates an empty set, of which `room` bytes are held in memory.
    pub(crate) fn new(room: u64) -> Self {
        Self { means: BTreeMap::new(), output_input: None, room, scratch: None }
    }

    /// Returns the units of work that the progress of [`collect`](Self::collect) is reported in.
    pub fn work(model: &Model, chunks: &Chunks) -> u64 {
        model.backward_work(chunks.tokens().len())
    }

    /// Returns the Fisher matrix of the outputs of `tensor`, bit for bit as
    /// [`HessianFile::fisher`](super::HessianFile::fisher) does.
    ///
    /// # Errors
    /// Fails when the temporary file cannot be read.
    pub fn get(&self, tensor: &str) -> Result<Option<Hessian>, FormatError> {
        let Some(stored) = self.means.get(tensor).filter(|s| tensor != OUTPUT && s.tokens > 0) else {
            return Ok(None);
        };
        // The triangle has n (n + 1) / 2 values.
        let n = ((2 * stored.values) as f64).sqrt() as usize;
        Ok(Some(unpacked(&self.values(stored)?, n, stored.tokens, |mean: f32| mean)))
    }

    /// Returns the mean outer product of the output projection's input, if the projection is the embedding table as well.
    pub fn output_input(&self) -> Option<&Hessian> {
        self.output_input.as_ref()
    }

    /// Returns the diagonal of the output projection's Fisher matrix, with one number for each row of the vocabulary.
    ///
    /// # Errors
    /// Fails when the temporary file cannot be read.
    pub fn output(&self) -> Result<Option<Vec<f32>>, FormatError> {
        self.means.get(OUTPUT).filter(|s| s.tokens > 0).map(|stored| self.values(stored)).transpose()
    }

    /// Returns name, number of gradients and number of values of each matrix.
    pub(crate) fn shapes(&self) -> impl Iterator<Item = (&str, u64, usize)> {
        self.means.iter().map(|(name, stored)| (name.as_str(), stored.tokens, stored.values))
    }

    /// Returns the values of the matrix of `tensor`, a packed upper triangle or a diagonal; nothing if there is none.
    ///
    /// # Errors
    /// Fails when the temporary file cannot be read.
    pub(crate) fn means(&self, tensor: &str) -> Result<Vec<f32>, FormatError> {
        self.means.get(tensor).map_or(Ok(Vec::new()), |stored| self.values(stored))
    }

    /// Stores the mean over `tokens` gradients of `tensor`.
    ///
    /// # Errors
    /// Fails when the temporary file cannot be written.
    pub(crate) fn put(&mut self, tensor: &str, tokens: u64, means: Vec<f32>) -> Result<(), FormatError> {
        let (values, bytes) = (means.len(), 4 * means.len() as u64);
        let place = if bytes <= self.room {
            self.room -= bytes;
            Place::Memory(means)
        } else {
            let scratch = match &mut self.scratch {
                Some(scratch) => scratch,
                none => none.insert(Scratch::new()?),
            };
            let at = scratch.reserve(bytes);
            let bytes: Vec<u8> = means.iter().flat_map(|mean| mean.to_le_bytes()).collect();
            scratch.write_at(at, &bytes)?;
            Place::File(at)
        };
        self.means.insert(tensor.to_owned(), Stored { tokens, values, place });
        Ok(())
    }

    /// Sets the mean outer product of the output projection's input.
    pub(crate) fn set_output_input(&mut self, input: Hessian) {
        self.output_input = Some(input);
    }

    fn values(&self, stored: &Stored) -> Result<Vec<f32>, FormatError> {
        match (&stored.place, &self.scratch) {
            (Place::Memory(values), _) => Ok(values.clone()),
            (Place::File(at), Some(scratch)) => {
                let mut bytes = vec![0; 4 * stored.values];
                scratch.read_at(*at, &mut bytes)?;
                Ok(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect())
            }
            (Place::File(_), None) => Ok(Vec::new()),
        }
    }
}

impl Sink for Fishers {
    fn store(&mut self, tensor: &str, tokens: u64, sums: Vec<f64>) -> Result<(), ObserveError> {
        let means = sums.iter().map(|sum| (sum / tokens.max(1) as f64) as f32).collect();
        Ok(self.put(tensor, tokens, means)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_file_give_the_same_matrices() {
        let sums = |n: usize| -> Vec<f64> { (0..n).map(|i| i as f64).collect() };
        let of = |room: u64| {
            let mut fishers = Fishers::new(room);
            for (tensor, values) in [("a", 6), ("b", 1), (OUTPUT, 5), ("c", 55)] {
                fishers.store(tensor, 2, sums(values)).unwrap();
            }
            fishers.store("none", 0, sums(3)).unwrap();
            assert_eq!(fishers.scratch.is_some(), room < 300);
            assert!(fishers.get("none").unwrap().is_none() && fishers.get(OUTPUT).unwrap().is_none());
            assert_eq!(fishers.output().unwrap().unwrap(), [0.0, 0.5, 1.0, 1.5, 2.0]);
            ["a", "b", "c"].map(|tensor| fishers.get(tensor).unwrap().unwrap())
        };
        let all = of(1000);
        assert_eq!(all.each_ref().map(|fisher| fisher.columns), [3, 1, 10]);
        assert_eq!(all[0].mean, [0.0, 0.5, 1.0, 0.5, 1.5, 2.0, 1.0, 2.0, 2.5]);
        for room in [0, 30] {
            assert!(of(room).iter().zip(&all).all(|(a, b)| a.mean == b.mean && a.tokens == b.tokens));
        }
    }
}
