//! The operations of a layer, one file each: their shapes, weights, forward step and backward step.
//!
//! ```text
//! Op (graph/)  -> Operation: check shapes, estimate work, bind to weights
//!              -> Step:      observe, forward over a tile, record what the gradient needs
//!              -> Recorded:  backward over the same tile
//! ```
//!
//! A graph names an operation and its slots, and [`operation`] finds its file. [`Operation::bind`] decodes the weights, so
//! that a [`Step`] cannot be run with the weights of another. [`Step::record`] keeps what the gradient needs in fields of
//! its own, so that the backward pass looks nothing up. Loops over elements are in `kquant_kernels::math`.

mod activate;
mod add;
mod attention;
mod carry;
mod choice;
mod combine;
mod convolve;
mod cut;
mod grow;
mod linear;
mod matrices;
mod norm;
mod repeat;
mod rope;
mod route;
mod scale;
mod scale_shared;
mod scan;
mod scan_back;
mod scan_heads;
mod share;
mod sparse_mixer;
mod sum;

use std::fmt::Debug;

use super::backward::Reverse;
use super::check::Shapes;
use super::steps::Positions;
use super::tile::Tile;
use super::weights::WeightSource;
use super::{Model, ModelError};
use crate::graph::Op;
use crate::model::Observer;

pub(super) use linear::LinearStep;
pub(super) use norm::{NormWeights, Norms};
pub(super) use route::route;
pub(super) use scale::scale_experts;
pub(super) use scan::{RATE, SKIP, STEP_BIAS};

/// Returns the operation that `op` names. This is the registry, with a line for each operation.
pub(super) fn operation(op: &Op) -> Box<dyn Operation> {
    match *op {
        Op::Norm { input, output, name, kind } => Box::new(norm::Norm { input, output, name, kind }),
        Op::Normalize { slot } => Box::new(norm::Normalize { slot }),
        Op::Linear { input, output, name } => Box::new(linear::Linear { input, output, name }),
        Op::Matrices { input, output, name, by } => Box::new(matrices::Matrices { input, output, name, by }),
        Op::Split => Box::new(cut::Split),
        Op::SplitGate { routed } => Box::new(cut::SplitGate { routed }),
        Op::Cut { input, outputs, each } => Box::new(cut::Cut { input, outputs, each }),
        Op::Join { inputs, output, heads } => Box::new(cut::Join { inputs, output, heads }),
        Op::Repeat { input, output } => Box::new(repeat::Repeat { input, output }),
        Op::Rope { slot } => Box::new(rope::Rotate { slot }),
        Op::Grow => Box::new(grow::Grow),
        Op::Attention { sinks } => Box::new(attention::Attention { sinks }),
        Op::Activate(activation) => Box::new(activate::Activate(activation)),
        Op::Gate { slot, gate, function } => Box::new(activate::GateBy { slot, gate, function }),
        Op::Convolve { name, silu } => Box::new(convolve::Convolve { name, silu }),
        Op::Scan(recurrence) => Box::new(scan::Scanning(recurrence)),
        Op::Route { bias } => Box::new(route::Route { bias }),
        Op::Share => Box::new(share::Share),
        Op::Combine => Box::new(combine::Combine),
        Op::ScaleShared => Box::new(scale_shared::ScaleShared),
        Op::Sum { slot, other } => Box::new(sum::Sum { slot, other }),
        Op::NormBy { input, output, name } => Box::new(norm::NormBy { input, output, name }),
        Op::ScaleExperts { name } => Box::new(scale::ScaleExperts { name }),
        Op::ScaleStream { name } => Box::new(scale::ScaleStream { name }),
        Op::Recall { part, slot } => Box::new(carry::Recall { part, slot }),
        Op::PassOn { keys } => Box::new(carry::PassOn { keys }),
        Op::Add => Box::new(add::Add),
    }
}

impl Model {
    /// Returns the work per token in the linear maps of each layer.
    pub(super) fn linear_work(&self) -> Result<Vec<LinearWork>, ModelError> {
        let work = |layer: usize, ops: &[Op]| {
            ops.iter()
                .try_fold(LinearWork::default(), |sum, op| Ok(sum.plus(operation(op).work(self, layer)?)))
        };
        self.layers.iter().enumerate().map(|(layer, ops)| work(layer, ops)).collect()
    }
}

/// An operation before its weights are read.
pub(super) trait Operation: Debug {
    /// Checks that tensors have the shapes that the keys require, and records the widths of slots that no key determines.
    fn check(&self, _shapes: &mut Shapes) -> Result<(), ModelError> {
        Ok(())
    }

    /// Returns the work per token in linear maps of layer `layer`, which make up nearly all work.
    fn work(&self, _model: &Model, _layer: usize) -> Result<LinearWork, ModelError> {
        Ok(LinearWork::default())
    }

    /// Reads the weights of the operation.
    fn bind(&self, source: &WeightSource) -> Result<Box<dyn Step>, ModelError>;
}

/// An operation with its weights.
pub(super) trait Step: Debug + Send + Sync {
    /// Runs the operation over a tile.
    fn forward(&self, tile: &mut Tile, positions: &mut Positions) -> Result<(), ModelError>;

    /// Copies everything that the gradient needs from a tile that holds the operation's inputs.
    fn record(&self, tile: &Tile) -> Box<dyn Recorded + '_>;

    /// Copies what [`record`](Self::record) does and what the gradients of the operation's weights need.
    fn record_for_weights(&self, tile: &Tile) -> Box<dyn Recorded + '_> {
        self.record(tile)
    }

    /// Returns whether [`record`](Self::record) reads the tile. Operations at the end of a layer, behind the last one that
    /// does, are not run again for their gradients.
    fn needs_tile(&self) -> bool {
        false
    }

    /// Shows `observer` the input of the linear maps whose weights are called `names`. Operations that are no linear maps
    /// begin no group and show nothing.
    fn observe(&self, _tile: &Tile, _names: &[&str], _observer: &mut dyn Observer) -> Result<(), ModelError> {
        Ok(())
    }

    /// Returns the number of weights of linear maps.
    fn linear_weights(&self) -> usize {
        0
    }
}

/// An operation that was run, with the values that its gradient needs.
pub(super) trait Recorded {
    /// Takes the gradients of the slots that the operation wrote and adds those of the slots that it read. A slot that no
    /// later operation read has no gradient, and nothing flows back through it.
    fn backward(self: Box<Self>, reverse: &mut Reverse) -> Result<(), ModelError>;
}

/// Approximate numbers of multiplications and additions per token in linear maps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LinearWork {
    /// Work of the products.
    pub products: u64,
    /// Work of the outer products of inputs.
    pub inputs: u64,
    /// Work of the outer products of the outputs' gradients.
    pub outputs: u64,
}

impl LinearWork {
    /// Returns the work of `times` matrices of `rows` rows and `columns` columns.
    pub(super) fn of(times: u64, rows: u64, columns: u64) -> Self {
        Self {
            products: times * columns * rows,
            inputs: times * columns * columns / 2,
            outputs: times * rows * rows / 2,
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            products: self.products + other.products,
            inputs: self.inputs + other.inputs,
            outputs: self.outputs + other.outputs,
        }
    }
}
