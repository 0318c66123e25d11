//! The state of a sequential pass.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::embedding::encode_embedding;
use super::input::{Halves, Input, unit_of};
use super::journal::Tokens;
use super::losses::{difference, losses};
use super::report::CalibrationReport;
use super::sequential::Sequential;
use super::streams::{Side, Streams};
use crate::encode::{OutOfRange, Rows, encode_in_range};
use crate::layerwise::CalibratedError;
use crate::model::stages::{BoundLinear, Stage, Stages};
use crate::model::{EMBEDDING, ModelError, OUTPUT};
use crate::plan::PlannedTensor;
use crate::tensor::Replaced;
use crate::tensor::Stash;

pub(super) struct SequentialPass<'a> {
    pub job: &'a Sequential<'a>,
    pub stages: &'a Stages<'a>,
    pub tensors: BTreeMap<&'a str, &'a PlannedTensor>,
    pub streams: Streams,
    /// Number of tokens of a block of text.
    pub block: usize,
    /// Number of tokens of a tile.
    pub tile: usize,
    pub stash: Stash,
    pub report: CalibrationReport,
    /// Units of work done so far.
    pub done: u64,
}

impl SequentialPass<'_> {
    /// Runs the pass from the embedding to the output.
    pub(super) fn run(mut self) -> Result<(Stash, CalibrationReport), CalibratedError> {
        let first = match self.restore()? {
            Some(layers) => layers,
            None => {
                self.embed()?;
                0
            }
        };
        let layers = self.job.model.hyper.layers.min(self.job.last_layer.saturating_add(1));
        for layer in first..layers {
            for stage in &self.stages.layers()[layer] {
                let halves = self.advance(layer, stage)?;
                if let (Some(group), Some(halves)) = (&stage.group, halves) {
                    let names = self.stages.tensors(layer, group)?;
                    self.encode(&names, halves, !group.residual)?;
                }
                if let Some(group) = &stage.group {
                    if group.by.is_some() {
                        self.encode_matrices(layer, stage, group)?;
                    }
                    self.progress(self.job.chunks.tokens().len(), &format!("layer {layer}, weights"));
                }
            }
            if let Some(journal) = self.job.journal {
                let (reached, tokens) = ((layer + 1, self.done), self.cut());
                journal.keep(reached, &self.stash, &self.report, Some((&mut self.streams, tokens)));
            }
        }
        if self.job.with_output && self.tensors.contains_key(OUTPUT) {
            let halves = self.output_moments()?;
            self.encode(&[OUTPUT.to_owned()], halves, true)?;
        }
        self.report.notes.extend(self.report.unreached.told());
        Ok((self.stash, self.report))
    }

    /// Takes up what the journal holds of an earlier run, and returns the number of layers that are done.
    fn restore(&mut self) -> Result<Option<usize>, CalibratedError> {
        let Some(journal) = self.job.journal else { return Ok(None) };
        let tokens = self.cut();
        let streams = Some((&mut self.streams, tokens));
        let Some((layers, done)) = journal.restore(&mut self.stash, &mut self.report, streams)? else {
            return Ok(None);
        };
        self.done = done;
        self.job.progress.resume(done);
        Ok(Some(layers))
    }

    /// Returns how the tokens are cut.
    fn cut(&self) -> Tokens {
        Tokens { all: self.job.chunks.tokens().len(), tile: self.tile }
    }

    /// Fills both streams: the original's with rows of the embedding as they are, the quantized one with rows as they
    /// will be written.
    fn embed(&mut self) -> Result<(), CalibratedError> {
        let (model, context) = (self.job.model, self.job.chunks.context());
        let coded = self.tensors.get(EMBEDDING).copied().filter(|t| !t.copy);
        if let Some(tensor) = coded {
            let method = self.job.method(None);
            let (stash, report) = (&mut self.stash, &mut self.report);
            encode_embedding((model, tensor), &self.job.outputs, &method, stash, report)?;
        }
        let stash = &self.stash;
        for (i, tokens) in self.job.chunks.tokens().chunks(self.tile).enumerate() {
            let original =
                model.embed_by(tokens, 0, context, |token, out| model.embedding_row(token, out))?;
            let quantized = model.embed_by(tokens, 0, context, |token, out| {
                if let Some(read) = Replaced::rows(stash, EMBEDDING, u64::from(token), out) {
                    return Ok(read?);
                }
                model.embedding_row(token, out)?;
                if let Some(tensor) = coded {
                    let columns = out.len();
                    let mut bytes = vec![0; columns / tensor.block.elements * tensor.block.bytes];
                    let row = Rows { weights: out, columns };
                    encode_in_range(tensor.encoder, tensor.block, row, None, &mut bytes).map_err(|at| {
                        let named = (tensor.mapped.name.as_str(), tensor.block);
                        let error = OutOfRange::new(named, row, at, u64::from(token));
                        ModelError::Read { what: error.to_string() }
                    })?;
                    (tensor.block.decode)(&bytes, out);
                }
                Ok(())
            })?;
            self.streams.put(i, Side::Original, vec![original])?;
            self.streams.put(i, Side::Quantized, vec![quantized])?;
        }
        Ok(())
    }

    /// Takes both streams through a stage and returns the moments of the coming group's input, if there is a group.
    fn advance(&mut self, layer: usize, stage: &Stage) -> Result<Option<Halves>, CalibratedError> {
        let start = Instant::now();
        let summed = self.report.steps.moments.seconds;
        let original = self.stages.bind(stage, None)?;
        let quantized = self.stages.bind(stage, Some(&self.stash))?;
        let residual = stage.group.as_ref().filter(|g| g.residual);
        let next = residual.map(|group| self.stages.linear(layer, group)).transpose()?;
        let mut halves = None;
        for tile in 0..self.streams.len() {
            self.check_cancelled()?;
            let first = tile * self.tile;
            let f = self.streams.take(tile, Side::Original)?;
            let f = self.stages.run(&original, first, f)?;
            let q = self.streams.take(tile, Side::Quantized)?;
            let q = self.stages.run(&quantized, first, q)?;
            if stage.group.as_ref().is_some_and(|group| group.by.is_none()) {
                let lost = losses(self.stages, (stage, next.as_ref()), &f, &q)?;
                self.add(&mut halves, tile, stage.input(&q)?, &lost);
            }
            self.streams.put(tile, Side::Original, f)?;
            self.streams.put(tile, Side::Quantized, q)?;
            self.progress(self.tokens(tile), &format!("layer {layer}, streams"));
        }
        let weights = original.weights() + next.as_ref().map_or(0, BoundLinear::weights) / 2;
        let tokens = self.job.chunks.tokens().len();
        let forward = &mut self.report.steps.forward;
        forward.add(start, 4.0 * weights as f64 * tokens as f64);
        forward.seconds -= self.report.steps.moments.seconds - summed;
        Ok(halves)
    }

    /// Adds a tile's inputs and losses to the moments.
    fn add(&mut self, halves: &mut Option<Halves>, tile: usize, x: &[f32], lost: &[f32]) {
        let start = Instant::now();
        let tokens = self.tokens(tile);
        let halves = halves.get_or_insert_with(|| Halves::new(x.len() / tokens, lost.len() / tokens));
        let total = self.job.chunks.tokens().len();
        halves.add((tile * self.tile, total), self.block, x, lost);
        self.report.steps.moments.add(start, tokens as f64 * halves.operations());
    }

    /// Gathers the moments of the final norm's output.
    fn output_moments(&mut self) -> Result<Halves, CalibratedError> {
        let head = self.job.model.head(0)?;
        let mut halves = None;
        for tile in 0..self.streams.len() {
            self.check_cancelled()?;
            let [f, q] = [Side::Original, Side::Quantized].map(|side| self.streams.take(tile, side));
            let [f, q] = [head.normed(&f?.concat()), head.normed(&q?.concat())];
            self.add(&mut halves, tile, &q, &difference(&f, &q));
        }
        Ok(halves.unwrap_or_else(|| Halves::new(0, 0)))
    }

    /// Returns the number of tokens of tile `tile`.
    pub(super) fn tokens(&self, tile: usize) -> usize {
        self.cut().of(tile)
    }

    fn progress(&mut self, work: usize, what: &str) {
        self.done += work as u64;
        self.job.progress.advance(self.done, what);
    }

    pub(super) fn check_cancelled(&self) -> Result<(), ModelError> {
        if self.job.cancel.load(Ordering::Relaxed) { Err(ModelError::Interrupted) } else { Ok(()) }
    }

    /// Encodes the weights that read one input.
    fn encode(&mut self, names: &[String], halves: Halves, of_inputs: bool) -> Result<(), CalibratedError> {
        let start = Instant::now();
        let columns = halves.columns();
        let (Some(train), held_out) = halves.means() else { return Ok(()) };
        let unit = unit_of(
            self.job.layers,
            names.iter().filter_map(|name| self.tensors.get(name.as_str()).copied()),
        );
        let input = Input::new(train, held_out, (names, unit))?;
        self.report.steps.factors.add(start, Input::factor_operations(columns));
        let Some(mut input) = input else { return Ok(()) };
        self.report.held_out_tokens = input.held_out_tokens();
        for name in names {
            let Some(&tensor) = self.tensors.get(name.as_str()).filter(|t| !t.copy) else { continue };
            let outputs = self.job.outputs.feedback(name)?;
            let method = self.job.method(outputs.as_ref());
            let weights = self.job.model.values(&tensor.mapped)?;
            let encoded = input.encode(tensor, weights, of_inputs, &method, &mut self.report.steps)?;
            encoded.keep(tensor, &mut self.stash, &mut self.report)?;
        }
        Ok(())
    }
}
