//! The settings of a pass that prunes channels or heads, and what is checked before it.

use super::down::Downs;
use super::layer::{LayerChoice, Score};
use super::pass::ChannelPass;
use super::{Amount, PruneError};
use crate::context::Context;
use crate::graph::weight_name;
use crate::layerwise::Streams;
use crate::model::Model;
use crate::model::stages::Stages;
use crate::statistics::Fishers;
use crate::tensor::{Stash, TensorName};
use crate::text::Chunks;
use crate::transform::check_heads;

/// The part whose columns are the channels.
pub(super) const DOWN: &str = "ffn_down";

/// What the columns are that are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Columns {
    /// Channels of the feed-forward network, which are columns of `ffn_down`.
    Channels,
    /// Key-value heads with the query heads that attend to them, whose values are blocks of columns of `attn_output`.
    HeadGroups,
}

impl Columns {
    /// Returns the name of the linear map.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Channels => DOWN,
            Self::HeadGroups => "attn_output",
        }
    }

    /// Returns the number of neighbouring columns of `model` that are kept or cut together.
    pub fn block(self, model: &Model) -> usize {
        let hyper = &model.hyper;
        match self {
            Self::Channels => 1,
            Self::HeadGroups => hyper.heads / hyper.kv_heads * hyper.value,
        }
    }
}

/// The settings of a pass that prunes columns of a linear map of each layer, with what computes them.
#[derive(Clone, Copy)]
pub struct Channels<'a> {
    /// The original model.
    pub model: &'a Model,
    /// The text, in chunks.
    pub chunks: &'a Chunks,
    /// The Fisher matrices of the outputs, over the same or another text; without them all outputs matter alike.
    pub fishers: Option<&'a Fishers>,
    /// What the columns are.
    pub columns: Columns,
    /// Number of columns that are kept in each layer.
    pub width: usize,
    /// What channels are chosen by.
    pub score: Score,
}

/// The result of a pass.
pub struct PrunedChannels {
    /// The new weights, in the source's shape with columns of zeros, with its bias where it has one; in f32.
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
    if let Some(norm) = tensors.iter().find(|t| t.name.ends_with(".ffn_sub_norm.weight")) {
        return Err(PruneError::Normed { tensor: norm.name.clone() });
    }
    let down = |layer| model.find(&weight_name(layer, DOWN));
    uniform((0..model.hyper.layers).map(|layer| down(layer).map(|tensor| tensor.columns())))
}

/// Returns the number of groups of heads that are left when `cut` of them are cut of each layer of `model`; reads no tensor data.
///
/// # Errors
/// Fails when so many cannot be cut, or the family's heads cannot.
pub fn head_groups_left(model: &Model, cut: usize) -> Result<usize, PruneError> {
    let groups = model.hyper.kv_heads;
    check_heads(model.converted())?;
    match groups.checked_sub(cut) {
        Some(left) if left > 0 && cut > 0 => Ok(left),
        _ => Err(PruneError::HeadCount { cut, groups }),
    }
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
    /// Returns an error if so many columns cannot be kept.
    fn check(&self) -> Result<(), PruneError> {
        match self.columns {
            Columns::Channels => Amount::Number(self.width as u64).kept(channels(self.model)?).map(|_| ()),
            Columns::HeadGroups => {
                let kept = self.width / self.columns.block(self.model);
                head_groups_left(self.model, self.model.hyper.kv_heads.saturating_sub(kept)).map(|_| ())
            }
        }
    }

    /// Chooses the columns of all layers.
    ///
    /// # Errors
    /// Fails when the width cannot be, the model cannot be run or pruned, memory is too little, or the run is cancelled.
    pub fn run(&self, context: &Context) -> Result<PrunedChannels, PruneError> {
        self.check()?;
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
        !names.is_empty() && names.iter().all(|name| Downs(self.model).bias(name).is_some())
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
                if names.contains(&weight_name(layer, self.columns.name())) {
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
pub(super) fn group_bytes(n: u64, rows: u64, residual: bool) -> u64 {
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
