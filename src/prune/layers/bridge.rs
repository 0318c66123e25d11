//! Weights that make up for layers that are cut: the output projection of the feed-forward network of each layer that is left moves by
//! least squares towards the original's stream, from the one before the first cut on.

use super::{BoundLayer, PruneError, embedded};
use crate::context::Context;
use crate::graph::weight_name;
use crate::layerwise::{Halves, Side, Streams};
use crate::model::stages::{Stage, Stages, State};
use crate::model::{Model, ModelError};
use crate::prune::channels::DOWN;
use crate::prune::down::Downs;
use crate::prune::layer::corrected;
use crate::prune::moments::Split;
use crate::tensor::{Replaced, Stash};
use crate::text::Chunks;

/// The settings of a pass that moves weights.
pub(super) struct Bridge<'a> {
    pub model: &'a Model,
    pub chunks: &'a Chunks,
    /// Numbers of the layers that are left.
    pub kept: &'a [u32],
    pub context: &'a Context<'a>,
}

/// The state of a pass.
struct Pass<'a> {
    job: &'a Bridge<'a>,
    stages: &'a Stages<'a>,
    streams: Streams,
    block: usize,
    tile: usize,
    stash: Stash,
    /// Number of layers that the original's stream has passed.
    passed: u32,
    done: u64,
}

impl Bridge<'_> {
    /// Returns the moved weights under their names in the original.
    pub(super) fn run(&self, done: &mut u64) -> Result<Stash, PruneError> {
        let stages = self.model.stages(self.chunks.context())?;
        let memory = self.context.memory;
        let (block, tile) = stages.block_and_tile(memory / 8);
        let tokens = self.chunks.tokens();
        let streams = Streams::new(tokens.len().div_ceil(tile), tile * stages.widest_state(), memory / 4)?;
        let stash = Stash::new(memory / 8);
        let mut pass =
            Pass { job: self, stages: &stages, streams, block, tile, stash, passed: 0, done: *done };
        for (i, tokens) in tokens.chunks(tile).enumerate() {
            let rows = embedded(self.model, tokens, self.chunks.context())?;
            pass.streams.put(i, Side::Original, vec![rows.clone()])?;
            pass.streams.put(i, Side::Quantized, vec![rows])?;
        }
        for (at, &layer) in self.kept.iter().enumerate() {
            let next = self.kept.get(at + 1).map_or(self.model.hyper.layers as u32, |&next| next);
            pass.advance(layer, next)?;
        }
        *done = pass.done;
        Ok(pass.stash)
    }
}

impl Pass<'_> {
    /// Takes the original's stream to where layer `next` begins and the other one through layer `layer`, the one before it of those left.
    fn advance(&mut self, layer: u32, next: u32) -> Result<(), PruneError> {
        while self.passed < next {
            let bound = BoundLayer::new(self.stages, self.passed, None)?;
            for tile in 0..self.streams.len() {
                let stream = self.taken(tile, Side::Original)?.concat();
                let after = bound.run(self.stages, tile * self.tile, stream)?;
                self.put(tile, Side::Original, vec![after])?;
            }
            self.passed += 1;
        }
        let stages = &self.stages.layers()[layer as usize];
        // Earlier layers compute what they always did.
        let first_cut = (0..).zip(self.job.kept).take_while(|(at, layer)| at == *layer).count() as u32;
        let moves = layer + 1 >= first_cut;
        let moved = stages.iter().position(|stage| self.is_last_map(layer, stage)).filter(|_| moves);
        for (number, stage) in stages.iter().enumerate() {
            self.run(stage)?;
            if Some(number) == moved {
                self.moved(layer, stage, &stages[number + 1..])?;
            }
        }
        Ok(())
    }

    /// Returns true if the output projection of the feed-forward network follows `stage`, and its output goes right into the stream.
    fn is_last_map(&self, layer: u32, stage: &Stage) -> bool {
        let group = stage.group.as_ref().filter(|group| group.residual && group.by.is_none());
        let names = group.and_then(|group| self.stages.tensors(layer as usize, group).ok());
        names.is_some_and(|names| names == [weight_name(layer as usize, DOWN)])
    }

    /// Takes the stream of the layers that are left through `stage`.
    fn run(&mut self, stage: &Stage) -> Result<(), PruneError> {
        let bound = self.stages.bind(stage, Some(&self.stash as &dyn Replaced))?;
        for tile in 0..self.streams.len() {
            let state = self.taken(tile, Side::Quantized)?;
            let after = self.stages.run(&bound, tile * self.tile, state)?;
            self.put(tile, Side::Quantized, after)?;
        }
        Ok(())
    }

    /// Moves the weight that follows `stage` so that the stream after the stages `rest` is nearest to the original's.
    fn moved(&mut self, layer: u32, stage: &Stage, rest: &[Stage]) -> Result<(), PruneError> {
        let model = self.job.model;
        let (downs, name) = (Downs(model), weight_name(layer as usize, DOWN));
        let is_biased = downs.bias(&name).is_some();
        let rest = rest.iter().map(|stage| self.stages.bind(stage, None)).collect::<Result<Vec<_>, _>>()?;
        let unit = 1.0 / self.stages.residual_scale();
        let mut halves: Option<Halves> = None;
        for tile in 0..self.streams.len() {
            let original = self.taken(tile, Side::Original)?;
            let state = self.taken(tile, Side::Quantized)?;
            let mut after: State = state.clone();
            for bound in &rest {
                after = self.stages.run(bound, tile * self.tile, after)?;
            }
            let pairs = original.iter().flatten().zip(after.iter().flatten());
            let lost: Vec<f32> = pairs.map(|(f, q)| (f - q) * unit).collect();
            let tokens = lost.len() / model.hyper.hidden;
            let x = with_one(stage.input(&state)?, tokens, is_biased);
            let halves = halves.get_or_insert_with(|| Halves::new(x.len() / tokens, model.hyper.hidden));
            halves.add((tile * self.tile, self.job.chunks.tokens().len()), self.block, &x, &lost);
            self.streams.put(tile, Side::Original, original)?;
            self.streams.put(tile, Side::Quantized, state)?;
        }
        let Some(halves) = halves else { return Ok(()) };
        let inputs = |what| PruneError::Inputs { tensor: name.clone(), what };
        let down = downs.read(&name)?;
        let split = Split::new(&halves.means(), &down.weight, down.n, false).ok_or_else(|| inputs("none"))?;
        let moved = corrected(&down, &split).ok_or_else(|| inputs("always zero or not finite"))?;
        Ok(downs.keep(&mut self.stash, &name, &down, &moved.0)?)
    }

    fn taken(&mut self, tile: usize, side: Side) -> Result<State, PruneError> {
        if self.job.context.is_cancelled() {
            return Err(ModelError::Interrupted.into());
        }
        Ok(self.streams.take(tile, side)?)
    }

    /// Keeps the state of a tile; a state of a stream alone is that of a layer done.
    fn put(&mut self, tile: usize, side: Side, state: State) -> Result<(), PruneError> {
        if let [stream] = &state[..] {
            self.done += (stream.len() / self.job.model.hyper.hidden) as u64;
            self.job.context.progress.advance(self.done, "least squares");
        }
        Ok(self.streams.put(tile, side, state)?)
    }
}

/// Returns `x` `[tokens][columns]`, with a constant 1 as its last column if there is a bias.
pub(in crate::prune) fn with_one(x: &[f32], tokens: usize, is_biased: bool) -> Vec<f32> {
    match is_biased {
        true => x.chunks_exact(x.len() / tokens).flat_map(|x| x.iter().copied().chain([1.0])).collect(),
        false => x.to_vec(),
    }
}
