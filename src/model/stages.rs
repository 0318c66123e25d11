//! A layer run in stages that end where linear maps read their input: for those that look at inputs and change weights
//! between the stages.

use std::ops::Range;

use super::ops::{LinearStep, Step};
use super::rope::Ropes;
use super::routed::{Assignment, Routes, RowParts};
use super::steps::{BoundSteps, Positions};
use super::tile::Tile;
use super::weights::WeightSource;
use super::{Model, ModelError};
use crate::graph::{By, Group, Op, Slot, linear_groups, live};
use crate::tensor::{Replaced, TensorName};
use crate::text::{BLOCK_ROWS, chunks_per_block};

/// A stretch of a layer's operations.
#[derive(Debug)]
pub(crate) struct Stage {
    /// Number of the layer.
    layer: usize,
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

/// The operations of a stage with their weights.
pub(crate) struct BoundStage<'s> {
    stage: &'s Stage,
    steps: BoundSteps,
}

impl BoundStage<'_> {
    /// Number of weights of linear maps.
    pub(crate) fn weights(&self) -> usize {
        self.steps.linear_weights()
    }
}

/// One linear map of one matrix with its weights, to be applied to whatever it might read.
pub(crate) struct BoundLinear(LinearStep);

impl BoundLinear {
    /// Number of weights.
    pub(crate) fn weights(&self) -> usize {
        self.0.linear_weights()
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
    /// What the coming group reads, `[tokens][columns]`, out of the `state` after this stage.
    ///
    /// # Errors
    /// When no group comes, at the end of a layer, or the state is another stage's.
    pub(crate) fn input<'s>(&self, state: &'s State) -> Result<&'s [f32], ModelError> {
        let ends = || ModelError::Graph { layer: self.layer, what: "has no linear map after its end".into() };
        self.slot(self.group.as_ref().ok_or_else(ends)?.input, state)
    }

    /// The residual stream, `[tokens][hidden]`, out of the `state` after this stage.
    ///
    /// # Errors
    /// When the state is another stage's.
    pub(crate) fn stream<'s>(&self, state: &'s State) -> Result<&'s [f32], ModelError> {
        self.slot(Slot::Stream, state)
    }

    fn slot<'s>(&self, slot: Slot, state: &'s State) -> Result<&'s [f32], ModelError> {
        let found = self.exit.iter().position(|&s| s == slot).and_then(|i| state.get(i));
        found.map(Vec::as_slice).ok_or_else(|| ModelError::Graph {
            layer: self.layer,
            what: format!("keeps no {slot:?} after operation {}", self.ops.end),
        })
    }
}

/// Cuts layer number `number`, whose operations are `layer`, where its groups of linear maps begin.
fn cut(number: usize, layer: &[Op]) -> Vec<Stage> {
    let groups = linear_groups(layer);
    let starts = groups.iter().map(|g| g.ops.start).chain([layer.len()]);
    let mut from = 0;
    let mut stages = Vec::new();
    for (at, group) in starts.zip(groups.iter().cloned().map(Some).chain([None])) {
        let entry = if from == 0 { vec![Slot::Stream] } else { live(layer, from) };
        stages.push(Stage { layer: number, ops: from..at, entry, exit: live(layer, at), group });
        from = at;
    }
    stages
}

impl Model {
    /// Number of groups of linear maps in all layers.
    pub(crate) fn groups(&self) -> usize {
        self.layers.iter().map(|ops| linear_groups(ops).len()).sum()
    }

    /// Columns of the widest linear map.
    pub fn widest_input(&self) -> usize {
        let layers =
            self.input.tensors.iter().filter(|t| TensorName(&t.name).is_in_layers() && t.shape.len() > 1);
        layers.map(|t| t.columns() as usize).max().unwrap_or(0)
    }

    /// The stages of this model's layers, over chunks of `context` tokens.
    pub(crate) fn stages(&self, context: usize) -> Result<Stages<'_>, ModelError> {
        let layers = self.layers.iter().enumerate().map(|(layer, ops)| cut(layer, ops)).collect();
        Ok(Stages { model: self, ropes: self.ropes(context)?, context, layers })
    }
}

impl Stages<'_> {
    /// The stages of each layer, in order.
    pub(crate) fn layers(&self) -> &[Vec<Stage>] {
        &self.layers
    }

    /// What is added to the stream is multiplied by this.
    pub(crate) fn residual_scale(&self) -> f32 {
        self.model.hyper.residual_scale
    }

    /// Decodes the weights of `stage`; those of linear maps as `replaced` has them.
    pub(crate) fn bind<'s>(
        &self,
        stage: &'s Stage,
        replaced: Option<&dyn Replaced>,
    ) -> Result<BoundStage<'s>, ModelError> {
        let steps = self.model.steps(stage.layer, stage.ops.clone(), replaced)?;
        Ok(BoundStage { stage, steps })
    }

    /// GGUF names of the weights of `group` in layer `layer`.
    pub(crate) fn tensors(&self, layer: usize, group: &Group) -> Result<Vec<String>, ModelError> {
        Ok(group.tensors(self.model.ops(layer)?, layer))
    }

    /// The only linear map of `group` in layer `layer`.
    ///
    /// # Errors
    /// When its weights cannot be read, or the group has several.
    pub(crate) fn linear(&self, layer: usize, group: &Group) -> Result<BoundLinear, ModelError> {
        let source = WeightSource { model: self.model, layer, replaced: None };
        match self.model.ops(layer)?.get(group.ops.clone()) {
            Some([op]) => LinearStep::read(op, &source).map(BoundLinear),
            _ => {
                let what = format!("has several linear maps at operation {}", group.ops.start);
                Err(ModelError::Graph { layer, what })
            }
        }
    }

    /// `x · W'` for the weight W of `linear`, without its bias: `x` `[tokens][columns]`, the result `[tokens][rows]`.
    pub(crate) fn multiply(&self, linear: &BoundLinear, x: &[f32]) -> Vec<f32> {
        linear.0.multiply(self.context, x)
    }

    /// Of tokens `tokens` of `state`, after `stage`: what enters each of the `matrices` matrices, of `columns` columns, of the
    /// coming group, `[rows][columns]`.
    pub(crate) fn matrix_inputs(
        &self,
        stage: &Stage,
        state: &State,
        (matrices, columns): (usize, usize),
        tokens: Range<usize>,
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        let assignment = match stage.group.as_ref().and_then(|group| group.by) {
            Some(By::Heads) => Assignment::Heads { matrices },
            Some(By::Routes) => {
                let used = self.model.experts("ffn_gate_inp.weight")?.used;
                let routes = Routes::new(stage.slot(Slot::Routes, state)?, used);
                Assignment::Experts { matrices, routes }
            }
            None => {
                let what = format!("has no tensor of several matrices at operation {}", stage.ops.end);
                return Err(ModelError::Graph { layer: stage.layer, what });
            }
        };
        let values = stage.input(state)?;
        let width = values.len() / (stage.stream(state)?.len() / self.model.hyper.hidden).max(1);
        Ok(assignment.inputs(RowParts { values, width, columns }, tokens))
    }

    /// Tokens of a block of text, and of a tile of blocks whose buffers fit `memory`: at least one block.
    pub(crate) fn block_and_tile(&self, memory: u64) -> (usize, usize) {
        let block = chunks_per_block(self.context) * self.context;
        let wanted = (4 * rayon::current_num_threads() * BLOCK_ROWS).div_ceil(block);
        let affordable = memory / (self.model.token_bytes() * block as u64).max(1);
        (block, block * wanted.min(affordable as usize).max(1))
    }

    /// Takes `state`, of whole chunks from token `first` on, through a stage.
    pub(crate) fn run(&self, bound: &BoundStage, first: usize, state: State) -> Result<State, ModelError> {
        let stage = bound.stage;
        if state.len() != stage.entry.len() {
            let what = format!("is entered at operation {} with the state of another stage", stage.ops.start);
            return Err(ModelError::Graph { layer: stage.layer, what });
        }
        let mut tile = Tile::new(self.context);
        tile.set(&stage.entry, state, self.model.hyper.hidden, first);
        bound.steps.run(&mut tile, &mut Positions::of_chunks(&self.ropes), &mut None)?;
        Ok(tile.take(&stage.exit))
    }

    /// Largest number of values per token that lives between two stages.
    pub(crate) fn widest_state(&self) -> usize {
        let width = |slot: &Slot| self.model.widths[*slot as usize];
        let states = self.layers.iter().flatten().map(|stage| stage.exit.iter().map(width).sum());
        states.max().unwrap_or(0)
    }
}
