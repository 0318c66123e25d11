//! The operations of a layer, bound to their weights, and their run over a tile.

use std::ops::Range;

use super::ops::{self, Recorded, Step};
use super::rope::Ropes;
use super::tile::Tile;
use super::weights::WeightSource;
use super::{Model, ModelError};
use crate::graph::{Op, linear_groups};
use crate::model::Observer;
use crate::tensor::Replaced;

/// What one layer keeps of one text from token to token. An operation uses the fields that are its own; all are empty at the
/// beginning of a text.
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// Keys of attention, `[tokens][kv_heads * head]`.
    pub keys: Vec<f32>,
    /// Values of attention, `[tokens][kv_heads * value]`.
    pub values: Vec<f32>,
    /// The last rows that the causal convolution read, `[kernel - 1][channels]`; empty stands for zeros.
    pub convolved: Vec<f32>,
    /// States of the recurrence, `[heads][key][value]`; empty stands for zeros.
    pub states: Vec<f32>,
}

/// The tokens that queries see.
pub(super) enum Attend<'a> {
    /// Queries see their own chunk, which starts at position 0.
    Chunks,
    /// Queries see the cache of their chunk's text, one for each chunk, and the chunk's tokens up to their own, whose
    /// positions count from `start` on.
    Cached { start: usize, caches: &'a mut [Cache] },
}

/// The positions of a tile's tokens in their text.
pub(super) struct Positions<'a> {
    /// Rotations by position.
    pub ropes: &'a Ropes,
    /// Tokens that queries see.
    pub attend: Attend<'a>,
}

impl<'a> Positions<'a> {
    /// Makes the positions of chunks that start at position 0 and do not see each other.
    pub(super) fn of_chunks(ropes: &'a Ropes) -> Self {
        Self { ropes, attend: Attend::Chunks }
    }

    /// Returns the position of the first token.
    pub(super) fn start(&self) -> usize {
        match &self.attend {
            Attend::Chunks => 0,
            Attend::Cached { start, .. } => *start,
        }
    }
}

/// A range of a layer's operations, each with its weights.
#[derive(Debug)]
pub(super) struct BoundSteps(Vec<Bound>);

/// An operation with its weights.
#[derive(Debug)]
struct Bound {
    step: Box<dyn Step>,
    /// GGUF names of the weights of the group of linear maps that begins here; empty where none begins.
    group: Vec<String>,
}

impl Model {
    /// Decodes the weights of layer `layer`.
    pub(super) fn layer_steps(&self, layer: usize) -> Result<BoundSteps, ModelError> {
        self.steps(layer, 0..self.ops(layer)?.len(), None)
    }

    /// Decodes the weights of operations `range` of layer `layer`, where `replaced` takes precedence for those of linear
    /// maps.
    pub(super) fn steps(
        &self,
        layer: usize,
        range: Range<usize>,
        replaced: Option<&dyn Replaced>,
    ) -> Result<BoundSteps, ModelError> {
        let ops = self.ops(layer)?;
        let source = WeightSource { model: self, layer, replaced };
        let groups = linear_groups(ops);
        let bind = |at: usize, op: &Op| {
            let group = groups.iter().find(|group| group.ops.start == at);
            let group = group.map(|group| group.tensors(ops, layer)).unwrap_or_default();
            Ok(Bound { step: ops::operation(op).bind(&source)?, group })
        };
        let bound = ops.iter().enumerate().take(range.end).skip(range.start).map(|(at, op)| bind(at, op));
        bound.collect::<Result<_, _>>().map(BoundSteps)
    }
}

impl BoundSteps {
    /// Returns the number of operations.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Runs all operations on `tile`; `observer` sees the input of each group of linear maps.
    pub(super) fn run(
        &self,
        tile: &mut Tile,
        positions: &mut Positions,
        observer: &mut Option<&mut dyn Observer>,
    ) -> Result<(), ModelError> {
        for Bound { step, group } in &self.0 {
            if let (Some(observer), false) = (&mut *observer, group.is_empty()) {
                let names: Vec<&str> = group.iter().map(String::as_str).collect();
                step.observe(tile, &names, *observer)?;
            }
            step.forward(tile, positions)?;
        }
        Ok(())
    }

    /// Runs operation number `at` alone.
    pub(super) fn run_one(
        &self,
        at: usize,
        tile: &mut Tile,
        positions: &mut Positions,
    ) -> Result<(), ModelError> {
        self.0[at].step.forward(tile, positions)
    }

    /// Copies everything that the gradient of operation number `at` needs from `tile`, which holds the operation's inputs; with
    /// `weights` also what the gradients of its weights need.
    pub(super) fn record(&self, at: usize, tile: &Tile, weights: bool) -> Box<dyn Recorded + '_> {
        let step = &self.0[at].step;
        if weights { step.record_for_weights(tile) } else { step.record(tile) }
    }

    /// Returns the number of the last operation whose gradient reads the tile, if there is one.
    pub(super) fn last_recorded(&self) -> Option<usize> {
        self.0.iter().rposition(|bound| bound.step.needs_tile())
    }

    /// Returns the number of weights of linear maps.
    pub(super) fn linear_weights(&self) -> usize {
        self.0.iter().map(|bound| bound.step.linear_weights()).sum()
    }
}
