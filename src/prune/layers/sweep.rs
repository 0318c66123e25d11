//! What the absence of each run of layers costs, in real KL divergence on a sample: the layers before the run are shared by all.

use super::{BoundLayer, PruneError, embedded};
use crate::context::Context;
use crate::model::kept::{Form, Kept};
use crate::model::stages::Stages;
use crate::model::{Model, ModelError};
use crate::prune::judge::Judge;
use crate::tensor::Stash;
use crate::text::Chunks;

/// Runs over a sample with some layers left out.
#[derive(Clone, Copy)]
pub(super) struct Sweep<'a> {
    pub model: &'a Model,
    pub chunks: &'a Chunks,
    pub context: &'a Context<'a>,
    /// Weights in the place of the model's, except in the original.
    pub replaced: Option<&'a Stash>,
}

/// The streams of some models at the same layer: the one that has all `kept` layers, then those that lack a run of them.
struct Streams<'a> {
    sweep: Sweep<'a>,
    stages: &'a Stages<'a>,
    tile: usize,
    tiles: usize,
    store: Kept,
    /// Units of work done so far.
    done: u64,
}

/// Returns how many times a layer is run when each of `runs` runs of `length` layers is left out of `layers` layers.
pub(super) fn layers_run(layers: usize, runs: usize, length: usize) -> usize {
    layers + (0..runs).map(|at| layers.saturating_sub(at + length)).sum::<usize>()
}

impl<'a> Sweep<'a> {
    /// Returns the mean divergence from the original of the model of the layers `kept`, in nats per token.
    pub(super) fn divergence(self, kept: &[u32], done: &mut u64) -> Result<f64, PruneError> {
        Ok(self.measured(kept, &[], 0, done)?[0])
    }

    /// Returns the mean divergences from the original of models of the layers `kept` without `length` layers from each of `places` on,
    /// in nats per token.
    pub(super) fn divergences(
        self,
        kept: &[u32],
        places: &[usize],
        length: usize,
        done: &mut u64,
    ) -> Result<Vec<f64>, PruneError> {
        Ok(self.measured(kept, places, length, done)?.split_off(1))
    }

    /// Returns the divergences of the model of the layers `kept`, then of those that lack a run of them.
    fn measured(
        self,
        kept: &[u32],
        places: &[usize],
        length: usize,
        done: &mut u64,
    ) -> Result<Vec<f64>, PruneError> {
        let stages = self.model.stages(self.chunks.context())?;
        let layers: Vec<u32> = (0..self.model.hyper.layers as u32).collect();
        let original = Sweep { replaced: None, ..self }.finals(&stages, &layers, (&[], 0), done)?;
        let finals = self.finals(&stages, kept, (places, length), done)?;
        self.compared(original, finals, places.len() + 1)
    }

    /// Runs the model of the layers `kept` and those that lack `length` layers from each of `places` on.
    fn finals<'s>(
        self,
        stages: &'s Stages<'s>,
        kept: &[u32],
        (places, length): (&[usize], usize),
        done: &mut u64,
    ) -> Result<Streams<'s>, PruneError>
    where
        'a: 's,
    {
        let (_, tile) = stages.block_and_tile(self.context.memory / 8);
        let tokens = self.chunks.tokens();
        let (tiles, models) = (tokens.len().div_ceil(tile), places.len() + 1);
        let values = (models * tokens.len() * self.model.hyper.hidden) as u64;
        let store = Kept::new(models * tiles, values, Form::F32, self.context.memory / 4)?;
        let mut streams = Streams { sweep: self, stages, tile, tiles, store, done: *done };
        for (i, tokens) in tokens.chunks(tile).enumerate() {
            streams.store.put(i, embedded(self.model, tokens, self.chunks.context())?)?;
        }
        for (at, &layer) in kept.iter().enumerate() {
            streams.advance(at, layer, places, length)?;
        }
        *done = streams.done;
        Ok(streams)
    }

    /// Returns the mean divergences of `models` models with these final streams from the original.
    fn compared(
        self,
        mut original: Streams,
        mut finals: Streams,
        models: usize,
    ) -> Result<Vec<f64>, PruneError> {
        let (hidden, context) = (self.model.hyper.hidden, self.chunks.context());
        let block = crate::text::chunks_per_block(context) * context * hidden;
        let judge = Judge::new(self.model, self.chunks, self.context.memory / 4)?;
        let mut sums = vec![0.0; models];
        for tile in 0..original.tiles {
            let base = original.store.take(tile)?;
            let streams = (0..models).map(|model| finals.store.take(model * finals.tiles + tile));
            let streams = streams.collect::<Result<Vec<_>, _>>()?;
            for (i, base) in base.chunks(block).enumerate() {
                let judged = judge.base(base, hidden)?;
                for (sum, stream) in sums.iter_mut().zip(&streams) {
                    judge.add(&judged, &stream[i * block..i * block + base.len()], hidden, sum)?;
                }
            }
        }
        Ok(sums.into_iter().map(|sum| judge.mean(sum)).collect())
    }
}

impl Streams<'_> {
    /// Takes all models through layer `layer`, number `at` of those kept, except those that lack it. A model without `length` layers from
    /// `places[i]` on begins there.
    fn advance(&mut self, at: usize, layer: u32, places: &[usize], length: usize) -> Result<(), PruneError> {
        let context = self.sweep.context;
        let bound = BoundLayer::new(self.stages, layer, self.sweep.replaced)?;
        for tile in 0..self.tiles {
            if context.is_cancelled() {
                return Err(ModelError::Interrupted.into());
            }
            for (i, &place) in places.iter().enumerate() {
                if place + length <= at {
                    self.run(&bound, (i + 1) * self.tiles + tile, tile)?;
                }
            }
            let stream = self.store.take(tile)?;
            for (i, _) in places.iter().enumerate().filter(|(_, place)| **place == at) {
                self.store.put((i + 1) * self.tiles + tile, stream.clone())?;
            }
            self.store.put(tile, stream)?;
            self.run(&bound, tile, tile)?;
            context.progress.advance(self.done, &format!("layer {layer}"));
        }
        Ok(())
    }

    /// Runs a layer on the stream number `number`, which is of tile `tile`.
    fn run(&mut self, bound: &BoundLayer, number: usize, tile: usize) -> Result<(), PruneError> {
        let stream = self.store.take(number)?;
        self.done += (stream.len() / self.sweep.model.hyper.hidden) as u64;
        let after = bound.run(self.stages, tile * self.tile, stream)?;
        Ok(self.store.put(number, after)?)
    }
}
