//! The settings of a pass that prunes channels, and what is checked before it.

use super::layer::{LayerChoice, Score};
use super::pass::ChannelPass;
use super::{PruneError, Width};
use crate::context::Context;
use crate::graph::weight_name;
use crate::layerwise::Streams;
use crate::model::Model;
use crate::model::stages::Stages;
use crate::statistics::Fishers;
use crate::tensor::{Stash, TensorName};
use crate::text::Chunks;

/// The part whose columns are the channels.
pub(super) const DOWN: &str = "ffn_down";

/// The settings of a pass that prunes channels of the feed-forward network.
pub struct Channels<'a> {
    /// The original model.
    pub model: &'a Model,
    /// The text, in chunks.
    pub chunks: &'a Chunks,
    /// The Fisher matrices of the outputs, over the same or another text; without them all outputs matter alike.
    pub fishers: Option<&'a Fishers>,
    /// Number of channels that are kept in each layer.
    pub width: usize,
    /// What channels are chosen by.
    pub score: Score,
}

/// The result of a pass.
pub struct PrunedChannels {
    /// The new `ffn_down`, in the source's shape with columns of zeros, with its bias where it has one; in f32.
    pub stash: Stash,
    /// The choices, by layer.
    pub layers: Vec<LayerChoice>,
}

/// Returns the number of channels of each layer's feed-forward network, which is the same for all.
///
/// # Errors
/// Fails when the layers differ, or are of a form that cannot be pruned.
pub fn channels(model: &Model) -> Result<u64, PruneError> {
    let tensors = &model.converted().tensors;
    if let Some(expert) = tensors.iter().find(|t| TensorName(&t.name).is_of_experts()) {
        return Err(PruneError::Experts { tensor: expert.name.clone() });
    }
    let down = |layer| model.find(&weight_name(layer, DOWN));
    uniform((0..model.hyper.layers).map(|layer| down(layer).map(|tensor| tensor.columns())))
}

/// Returns the width that all layers have, of `widths` by layer.
fn uniform(widths: impl IntoIterator<Item = Option<u64>>) -> Result<u64, PruneError> {
    let mut first = None;
    for (layer, width) in widths.into_iter().enumerate() {
        let other = width.ok_or(PruneError::NoFeedForward { layer })?;
        let first = *first.get_or_insert(other);
        if first != other {
            return Err(PruneError::Widths { layer, first, other });
        }
    }
    first.ok_or(PruneError::NoFeedForward { layer: 0 })
}

impl Channels<'_> {
    /// Chooses the channels of all layers.
    ///
    /// # Errors
    /// Fails when the width cannot be, the model cannot be run or pruned, memory is too little, or the run is cancelled.
    pub fn run(&self, context: &Context) -> Result<PrunedChannels, PruneError> {
        Width::Channels(self.width as u64).kept(channels(self.model)?)?;
        let stages = self.model.stages(self.chunks.context())?;
        let left = context.memory - self.largest_group(&stages, context.memory)?;
        let (block, tile) = stages.block_and_tile(left / 4);
        let tiles = self.chunks.tokens().len().div_ceil(tile);
        let pass = ChannelPass {
            job: self,
            context,
            stages: &stages,
            streams: Streams::new(tiles, tile * stages.widest_state(), left / 2)?,
            block,
            tile,
            stash: Stash::new(left / 8),
            layers: Vec::new(),
            done: 0,
        };
        pass.run()
    }

    /// Returns the units of work of [`run`](Self::run): tokens times the number of stages.
    pub fn work(&self) -> u64 {
        (self.chunks.tokens().len() * (self.model.groups() + self.model.hyper.layers)) as u64
    }

    /// Returns true if each of the weights `names` has a bias.
    pub(super) fn are_biased(&self, names: &[String]) -> bool {
        !names.is_empty() && names.iter().all(|name| self.bias(name).is_some())
    }

    /// Returns the GGUF name of the bias of the weight `name`, if it has one.
    pub(super) fn bias(&self, name: &str) -> Option<String> {
        let bias = TensorName(name).bias();
        self.model.find(&bias).is_some().then_some(bias)
    }

    /// Returns the bytes that the statistics and matrices of the largest group take.
    ///
    /// # Errors
    /// Fails when they do not fit `memory` bytes with a quarter for hidden states and buffers.
    fn largest_group(&self, stages: &Stages, memory: u64) -> Result<u64, PruneError> {
        let mut largest = (0, 0);
        for (layer, cut) in stages.layers().iter().enumerate() {
            for group in cut.iter().filter_map(|s| s.group.as_ref()).filter(|group| group.by.is_none()) {
                let names = stages.tensors(layer, group)?;
                if names.contains(&weight_name(layer, DOWN)) {
                    let tensors = || names.iter().filter_map(|name| self.model.find(name));
                    let rows = tensors().map(|t| t.rows()).max().unwrap_or(0);
                    let columns = tensors().map(|t| t.columns()).max().unwrap_or(0);
                    let n = columns + u64::from(self.are_biased(&names));
                    largest = largest.max((group_bytes(n, rows, group.residual), layer));
                }
            }
        }
        let (bytes, layer) = largest;
        match bytes + bytes / 4 {
            needed if needed > memory => Err(PruneError::Memory { layer, needed }),
            _ => Ok(bytes),
        }
    }
}

/// Returns the bytes that a weight `[rows][n]` takes while it is pruned: in f32, the moments of both halves of the text, the
/// weight as it is read and written, and a Fisher matrix; in f64, up to four matrices `[n][n]` (the inputs' moments, the cost
/// of the columns, and an inverse while it is made), six `[rows][n]` (targets, gains and products) and two Fisher matrices.
fn group_bytes(n: u64, rows: u64, residual: bool) -> u64 {
    let lost = if residual { rows } else { n };
    let floats = 2 * (n * n + lost * n) + 2 * rows * n + rows * rows;
    let doubles = 4 * n * n + 6 * rows * n + 2 * rows * rows;
    4 * floats + 8 * doubles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_that_cannot_be_pruned_alike_are_named() {
        assert_eq!(uniform([Some(64), Some(64)]).unwrap(), 64);
        let refused = |widths: &[Option<u64>]| uniform(widths.iter().copied()).unwrap_err().to_string();
        assert!(refused(&[Some(64), Some(96)]).contains("layer 1 has 96 channels, layer 0 has 64"));
        assert!(refused(&[Some(64), None]).starts_with("layer 1 has no `ffn_down.weight`"));
        assert!(refused(&[]).starts_with("layer 0 has no `ffn_down.weight`"));
    }
}
