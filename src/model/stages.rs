//! A layer run in stages that end where linear maps read their input, for methods that look at inputs and change weights
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

/// A range of a layer's operations.
#[derive(Debug)]
pub(crate) struct Stage {
    /// Number of the layer.
    layer: usize,
    ops: Range<usize>,
    /// Slots whose content this stage or a later one needs, before the stage.
    entry: Vec<Slot>,
    /// Slots whose content a later stage needs, after the stage; the stream is always one of them.
    exit: Vec<Slot>,
    /// Group of linear maps that follows the stage; `None` at the end of the layer.
    pub group: Option<Group>,
}

/// The values of some tokens between stages, with one buffer `[tokens][width]` per slot.
pub(crate) type State = Vec<Vec<f32>>;

/// The operations of a stage with their weights.
pub(crate) struct BoundStage<'s> {
    stage: &'s Stage,
    steps: BoundSteps,
}

impl BoundStage<'_> {
    /// Returns the number of weights of linear maps.
    pub(crate) fn weights(&self) -> usize {
        self.steps.linear_weights()
    }
}

/// A linear map of one matrix with its weights, which can be applied to any input.
pub(crate) struct BoundLinear(LinearStep);

impl BoundLinear {
    /// Returns the number of weights.
    pub(crate) fn weights(&self) -> usize {
        self.0.linear_weights()
    }
}

/// A model that is run stage by stage.
pub(crate) struct Stages<'a> {
    model: &'a Model,
    ropes: Ropes,
    context: usize,
    /// Stages of each layer, in order.
    layers: Vec<Vec<Stage>>,
}

impl Stage {
    /// Returns the number of the layer.
    pub(super) fn layer(&self) -> usize {
        self.layer
    }

    /// Returns the slots of the state after this stage.
    pub(super) fn exit(&self) -> &[Slot] {
        &self.exit
    }

    /// Returns the input of the group that follows, `[tokens][columns]`, out of the `state` after this stage.
    ///
    /// # Errors
    /// Fails when no group follows, at the end of a layer, or the state is another stage's.
    pub(crate) fn input<'s>(&self, state: &'s State) -> Result<&'s [f32], ModelError> {
        let ends = || ModelError::Graph { layer: self.layer, what: "has no linear map after its end".into() };
        self.slot(self.group.as_ref().ok_or_else(ends)?.input, state)
    }

    /// Returns the residual stream, `[tokens][hidden]`, out of the `state` after this stage.
    ///
    /// # Errors
    /// Fails when the state is another stage's.
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
    /// Returns the number of groups of linear maps in all layers.
    pub(crate) fn groups(&self) -> usize {
        self.layers.iter().map(|ops| linear_groups(ops).len()).sum()
    }

    /// Returns the number of columns of the widest linear map in the layers.
    pub fn widest_input(&self) -> usize {
        let layers =
            self.input.tensors.iter().filter(|t| TensorName(&t.name).is_in_layers() && t.shape.len() > 1);
        layers.map(|t| t.columns() as usize).max().unwrap_or(0)
    }

    /// Returns the stages of this model's layers, over chunks of `context` tokens.
    pub(crate) fn stages(&self, context: usize) -> Result<Stages<'_>, ModelError> {
        let layers = self.layers.iter().enumerate().map(|(layer, ops)| cut(layer, ops)).collect();
        Ok(Stages { model: self, ropes: self.ropes(context)?, context, layers })
    }
}

impl Stages<'_> {
    /// Returns the stages of each layer, in order.
    pub(crate) fn layers(&self) -> &[Vec<Stage>] {
        &self.layers
    }

    /// Returns the model that is run.
    pub(super) fn model(&self) -> &Model {
        self.model
    }

    /// Returns the number of tokens of a chunk.
    pub(super) fn context(&self) -> usize {
        self.context
    }

    /// Returns the rotations of positions.
    pub(super) fn ropes(&self) -> &Ropes {
        &self.ropes
    }

    /// Returns the factor by which everything is multiplied that is added to the stream.
    pub(crate) fn residual_scale(&self) -> f32 {
        self.model.hyper.residual_scale
    }

    /// Decodes the weights of `stage`, where `replaced` takes precedence for those of linear maps.
    pub(crate) fn bind<'s>(
        &self,
        stage: &'s Stage,
        replaced: Option<&dyn Replaced>,
    ) -> Result<BoundStage<'s>, ModelError> {
        let steps = self.model.steps(stage.layer, stage.ops.clone(), replaced)?;
        Ok(BoundStage { stage, steps })
    }

    /// Returns the GGUF names of the weights of `group` in layer `layer`.
    pub(crate) fn tensors(&self, layer: usize, group: &Group) -> Result<Vec<String>, ModelError> {
        Ok(group.tensors(self.model.ops(layer)?, layer))
    }

    /// Reads the only linear map of `group` in layer `layer`.
    ///
    /// # Errors
    /// Fails when its weights cannot be read, or the group has several.
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

    /// Computes `x · W'` for the weight W of `linear`, without its bias, from `x` `[tokens][columns]` to `[tokens][rows]`.
    pub(crate) fn multiply(&self, linear: &BoundLinear, x: &[f32]) -> Vec<f32> {
        linear.0.multiply(self.context, x)
    }

    /// Returns the inputs `[rows][columns]` of each of the `matrices` matrices, of `columns` columns, of the group that
    /// follows `stage`, for tokens `tokens` of `state`.
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

    /// Returns the number of tokens of a block of text, and that of a tile of at least one block whose buffers fit `memory`
    /// bytes.
    pub(crate) fn block_and_tile(&self, memory: u64) -> (usize, usize) {
        let block = chunks_per_block(self.context) * self.context;
        let wanted = (4 * rayon::current_num_threads() * BLOCK_ROWS).div_ceil(block);
        let affordable = memory / (self.model.token_bytes() * block as u64).max(1);
        (block, block * wanted.min(affordable as usize).max(1))
    }

    /// Runs a stage on `state`, which holds whole chunks from token `first` on, and returns the state after it.
    pub(crate) fn run(&self, bound: &BoundStage, first: usize, state: State) -> Result<State, ModelError> {
        let stage = bound.stage;
        if state.len() != stage.entry.len() {
            let what = format!("is entered at operation {} with the state of another stage", stage.ops.start);
            return Err(ModelError::Graph { layer: stage.layer, what });
        }
        let mut tile = Tile::new(self.context);
        match stage.ops.start {
            0 => tile.set_rows(state.concat(), self.model.row_widths(stage.layer), first),
            _ => tile.set(&stage.entry, state, self.model.hyper.hidden, first),
        }
        bound.steps.run(&mut tile, &mut Positions::of_chunks(&self.ropes), &mut None)?;
        Ok(if stage.group.is_none() { vec![tile.take_rows()] } else { tile.take(&stage.exit) })
    }

    /// Returns the largest number of values per token that are kept between two stages.
    pub(crate) fn widest_state(&self) -> usize {
        let width = |slot: &Slot| self.model.widths[*slot as usize];
        let states = self.layers.iter().flatten().map(|stage| stage.exit.iter().map(width).sum());
        states.max().unwrap_or(0).max(self.model.hyper.row_width())
    }
}
