//! The pass over the layers with two streams.

use super::down::Downs;
use super::layer::{LayerChoice, Wanted, prune_layer};
use super::layers::with_one;
use super::moments::Split;
use super::{Channels, PruneError, PrunedChannels};
use crate::context::Context;
use crate::graph::weight_name;
use crate::layerwise::{Halves, MeanMoments, Side, Streams, losses};
use crate::model::ModelError;
use crate::model::stages::{Stage, Stages};
use crate::tensor::Stash;

/// Means over the training tokens and over the held-out tokens.
type Means = (Option<MeanMoments>, Option<MeanMoments>);

/// The state of a pass.
pub(super) struct ChannelPass<'a> {
    pub job: &'a Channels<'a>,
    pub context: &'a Context<'a>,
    pub stages: &'a Stages<'a>,
    pub streams: Streams,
    /// Number of tokens of a block of text.
    pub block: usize,
    /// Number of tokens of a tile.
    pub tile: usize,
    pub stash: Stash,
    pub layers: Vec<LayerChoice>,
    /// Units of work done so far.
    pub done: u64,
}

impl ChannelPass<'_> {
    /// Runs the pass from the embedding through all layers.
    pub(super) fn run(mut self) -> Result<PrunedChannels, PruneError> {
        self.embed()?;
        for layer in 0..self.job.model.hyper.layers {
            for stage in &self.stages.layers()[layer] {
                self.advance(layer, stage)?;
            }
        }
        Ok(PrunedChannels { stash: self.stash, layers: self.layers })
    }

    /// Fills both streams with rows of the embedding.
    fn embed(&mut self) -> Result<(), PruneError> {
        let (model, chunks) = (self.job.model, self.job.chunks);
        for (i, tokens) in chunks.tokens().chunks(self.tile).enumerate() {
            let row = |token, out: &mut [f32]| model.embedding_row(token, out);
            let rows = model.embed_by(tokens, 0, chunks.context(), row)?;
            self.streams.put(i, Side::Original, vec![rows.clone()])?;
            self.streams.put(i, Side::Quantized, vec![rows])?;
        }
        Ok(())
    }

    /// Takes both streams through a stage, and prunes the linear map that follows if it is the one whose columns are channels.
    fn advance(&mut self, layer: usize, stage: &Stage) -> Result<(), PruneError> {
        let original = self.stages.bind(stage, None)?;
        let pruned = self.stages.bind(stage, Some(&self.stash))?;
        let group = stage.group.as_ref().filter(|group| group.by.is_none());
        let names = group.map(|group| self.stages.tensors(layer, group)).transpose()?.unwrap_or_default();
        let pruned_next = names.contains(&weight_name(layer, self.job.columns.name()));
        let residual = group.filter(|group| group.residual && pruned_next);
        let next = residual.map(|group| self.stages.linear(layer, group)).transpose()?;
        let biased = self.job.are_biased(&names);
        let mut halves = None;
        for tile in 0..self.streams.len() {
            if self.context.is_cancelled() {
                return Err(ModelError::Interrupted.into());
            }
            let first = tile * self.tile;
            let f = self.stages.run(&original, first, self.streams.take(tile, Side::Original)?)?;
            let q = self.stages.run(&pruned, first, self.streams.take(tile, Side::Quantized)?)?;
            if pruned_next {
                let lost = losses(self.stages, (stage, next.as_ref()), &f, &q)?;
                self.add(&mut halves, tile, (stage.input(&q)?, biased), &lost);
            }
            self.streams.put(tile, Side::Original, f)?;
            self.streams.put(tile, Side::Quantized, q)?;
            self.done += self.tokens(tile) as u64;
            self.context.progress.advance(self.done, &format!("layer {layer}"));
        }
        let Some(halves) = halves else { return Ok(()) };
        let means = halves.means();
        names.iter().try_for_each(|name| self.prune(layer, name, &means, residual.is_none()))
    }

    /// Adds a tile's inputs, with a constant 1 as their last column if there is a bias, and its losses.
    fn add(&self, halves: &mut Option<Halves>, tile: usize, (x, biased): (&[f32], bool), lost: &[f32]) {
        let tokens = self.tokens(tile);
        let x = with_one(x, tokens, biased);
        let halves = halves.get_or_insert_with(|| Halves::new(x.len() / tokens, lost.len() / tokens));
        halves.add((tile * self.tile, self.job.chunks.tokens().len()), self.block, &x, lost);
    }

    fn prune(&mut self, layer: usize, name: &str, means: &Means, of_inputs: bool) -> Result<(), PruneError> {
        let job = self.job;
        let downs = Downs(job.model);
        let down = downs.read(name)?;
        let inputs = |what| PruneError::Inputs { tensor: name.to_owned(), what };
        let split = Split::new(means, &down.weight, down.n, of_inputs).ok_or_else(|| inputs("none"))?;
        let fisher = job.fishers.map(|fishers| fishers.get(name)).transpose()?.flatten();
        let fisher: Option<Vec<f64>> = fisher.map(|f| f.mean.into_iter().map(f64::from).collect());
        let pruned = prune_layer(
            &down,
            split,
            fisher.as_deref(),
            Wanted { score: job.score, width: job.width, block: job.columns.block(job.model) },
        );
        let (choice, new) = pruned.ok_or_else(|| inputs("always zero or not finite"))?;
        self.layers.push(LayerChoice { layer, ..choice });
        Ok(downs.keep(&mut self.stash, name, &down, &new)?)
    }

    fn tokens(&self, tile: usize) -> usize {
        (self.job.chunks.tokens().len() - tile * self.tile).min(self.tile)
    }
}
