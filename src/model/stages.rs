//! A layer run in stages that end where linear maps read their input: for those that look at inputs and change weights
//! between the stages.

use std::ops::Range;

use super::mixture::Meeting;
use super::rope::Ropes;
use super::tile::{Attend, Layer, Tile, apply_linear};
use super::weights::Weights;
use super::{Model, ModelError};
use crate::graph::{Group, Op, Slot, linear_groups, live};
use crate::tensor::{Replaced, TensorName};
use crate::text::{BLOCK_ROWS, chunks_per_block};

/// A stretch of a layer's operations.
#[derive(Debug)]
pub(crate) struct Stage {
    ops: Range<usize>,
    /// Slots that hold something before it.
    entry: Vec<Slot>,
    /// Slots that hold something after it.
    exit: Vec<Slot>,
    /// The linear maps that come next; none at the end of the layer.
    pub group: Option<Group>,
}

/// What is held of some tokens between stages: one buffer, `[tokens][width]`, per slot.
pub(crate) type State = Vec<Vec<f32>>;

/// Weights of a stage's operations.
pub(crate) struct StageWeights(Vec<Weights>);

impl StageWeights {
    /// Number of weights of linear maps.
    pub(crate) fn weights(&self) -> usize {
        let linear = |weights: &Weights| match weights {
            Weights::Linear(matrix) => matrix.weight.inputs() * matrix.weight.outputs(),
            Weights::Matrices(all) => all.iter().map(|m| m.weight.inputs() * m.weight.outputs()).sum(),
            _ => 0,
        };
        self.0.iter().map(linear).sum()
    }
}

/// Runs stages of a model's layers.
pub(crate) struct Stages<'a> {
    model: &'a Model,
    ropes: Ropes,
    context: usize,
    /// Those of each layer, in order.
    layers: Vec<Vec<Stage>>,
}

impl Stage {
    /// What the coming group reads, `[tokens][columns]`; empty at the end of a layer.
    pub(crate) fn input<'s>(&self, state: &'s State) -> &'s [f32] {
        self.group.as_ref().map_or(&[], |group| self.slot(group.input, state))
    }

    /// The residual stream, `[tokens][hidden]`.
    pub(crate) fn stream<'s>(&self, state: &'s State) -> &'s [f32] {
        self.slot(Slot::Stream, state)
    }

    fn slot<'s>(&self, slot: Slot, state: &'s State) -> &'s [f32] {
        self.exit.iter().position(|&s| s == slot).and_then(|i| state.get(i)).map_or(&[], Vec::as_slice)
    }
}

/// Cuts a layer where its groups of linear maps begin.
fn cut(layer: &[Op]) -> Vec<Stage> {
    let groups = linear_groups(layer);
    let starts = groups.iter().map(|g| g.ops.start).chain([layer.len()]);
    let mut from = 0;
    let mut stages = Vec::new();
    for (at, group) in starts.zip(groups.iter().cloned().map(Some).chain([None])) {
        let entry = if from == 0 { vec![Slot::Stream] } else { live(layer, from) };
        stages.push(Stage { ops: from..at, entry, exit: live(layer, at), group });
        from = at;
    }
    stages
}

impl Model {
    /// Number of groups of linear maps in all layers.
    pub(crate) fn groups(&self) -> usize {
        (0..self.hyper.layers).map(|layer| linear_groups(self.ops(layer)).len()).sum()
    }

    /// Columns of the widest linear map.
    pub fn widest_input(&self) -> usize {
        let layers =
            self.input.tensors.iter().filter(|t| TensorName(&t.name).is_in_layers() && t.shape.len() > 1);
        layers.map(|t| t.columns() as usize).max().unwrap_or(0)
    }

    /// The stages of this model's layers, over chunks of `context` tokens.
    pub(crate) fn stages(&self, context: usize) -> Result<Stages<'_>, ModelError> {
        let layers = (0..self.hyper.layers).map(|layer| cut(self.ops(layer))).collect();
        Ok(Stages { model: self, ropes: self.ropes(context)?, context, layers })
    }
}

impl Stages<'_> {
    /// The stages of layer `layer`, in order.
    pub(crate) fn of(&self, layer: usize) -> &[Stage] {
        self.layers.get(layer).map_or(&[], Vec::as_slice)
    }

    /// What is added to the stream is multiplied by this.
    pub(crate) fn residual_scale(&self) -> f32 {
        self.model.hyper.residual_scale
    }

    /// Decodes the weights of one stage of layer `layer`.
    pub(crate) fn weights(
        &self,
        layer: usize,
        stage: &Stage,
        replaced: Option<&dyn Replaced>,
    ) -> Result<StageWeights, ModelError> {
        self.decode(layer, &stage.ops, replaced)
    }

    fn decode(
        &self,
        layer: usize,
        ops: &Range<usize>,
        replaced: Option<&dyn Replaced>,
    ) -> Result<StageWeights, ModelError> {
        let ops = self.model.ops(layer).get(ops.clone()).unwrap_or_default();
        let weights = ops.iter().map(|op| self.model.weights_of(layer, op, replaced));
        weights.collect::<Result<_, _>>().map(StageWeights)
    }

    /// GGUF names of the weights of `group` in layer `layer`.
    pub(crate) fn tensors(&self, layer: usize, group: &Group) -> Vec<String> {
        group.tensors(self.model.ops(layer), layer)
    }

    /// The weights of `group` in layer `layer`, to be applied to whatever it might read.
    pub(crate) fn linear(&self, layer: usize, group: &Group) -> Result<StageWeights, ModelError> {
        self.decode(layer, &group.ops, None)
    }

    /// `x · W'` for the only weight W of a group, without its bias: `x` `[tokens][columns]`, the result `[tokens][rows]`.
    pub(crate) fn apply(&self, weights: &StageWeights, x: &[f32]) -> Vec<f32> {
        let mut out = Vec::new();
        if let Some(Weights::Linear(matrix)) = weights.0.first() {
            apply_linear(matrix, self.context, x, &mut out);
        }
        out
    }

    /// Of tokens `tokens` of `state`, after `stage`: what enters each of the `matrices` matrices, of `columns` columns, of the
    /// coming group, `[rows][columns]`.
    pub(crate) fn matrix_inputs(
        &self,
        stage: &Stage,
        state: &State,
        (matrices, columns): (usize, usize),
        tokens: Range<usize>,
    ) -> Vec<Vec<f32>> {
        let Some(by) = stage.group.as_ref().and_then(|group| group.by) else { return Vec::new() };
        let hyper = &self.model.hyper;
        let used = hyper.experts.as_ref().map_or(0, |experts| experts.used);
        let meeting = Meeting { by, matrices, used, routes: stage.slot(Slot::Routes, state) };
        let x = stage.input(state);
        let width = x.len() / (stage.stream(state).len() / hyper.hidden).max(1);
        meeting.inputs(x, width, columns, tokens)
    }

    /// Tokens of a block of text, and of a tile of blocks whose buffers fit `memory`: at least one block.
    pub(crate) fn block_and_tile(&self, memory: u64) -> (usize, usize) {
        let block = chunks_per_block(self.context) * self.context;
        let wanted = (4 * rayon::current_num_threads() * BLOCK_ROWS).div_ceil(block);
        let affordable = memory / (self.model.token_bytes() * block as u64).max(1);
        (block, block * wanted.min(affordable as usize).max(1))
    }

    /// Takes `state`, of whole chunks from token `first` on, through a stage.
    pub(crate) fn run(
        &self,
        layer: usize,
        stage: &Stage,
        weights: &StageWeights,
        first: usize,
        state: State,
    ) -> Result<State, ModelError> {
        let mut tile = Tile::new(self.context);
        tile.set(&stage.entry, state, self.model.hyper.hidden, first);
        let ops = self.model.ops(layer).get(stage.ops.clone()).unwrap_or_default();
        let layer = Layer { hyper: &self.model.hyper, number: layer, ropes: &self.ropes };
        tile.run(ops, &weights.0, &layer, &mut Attend::Chunks, &mut None)?;
        Ok(tile.take(&stage.exit))
    }

    /// Largest number of values per token that lives between two stages.
    pub(crate) fn widest_state(&self) -> usize {
        let width = |slot: &Slot| self.model.widths[*slot as usize];
        let states = self.layers.iter().flatten().map(|stage| stage.exit.iter().map(width).sum());
        states.max().unwrap_or(0)
    }
}
