//! The share of the shared expert that each token gets.

use kquant_kernels::math;
use rayon::prelude::*;

use super::{Operation, Recorded, Step};
use crate::graph::Slot;
use crate::model::ModelError;
use crate::model::backward::{Reverse, copied};
use crate::model::steps::Positions;
use crate::model::tile::Tile;
use crate::model::weights::WeightSource;

/// The operation `delta = sigmoid(gate) * delta`, where a token's gate is its number in [`Slot::SharedGate`].
///
/// Source: `Qwen2MoeSparseMoeBlock` of transformers.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScaleShared;

impl Operation for ScaleShared {
    fn bind(&self, _: &WeightSource) -> Result<Box<dyn Step>, ModelError> {
        Ok(Box::new(*self))
    }
}

/// Returns the sigmoid of the gates of the tokens of `tile`, `[tokens]`.
fn shares(tile: &Tile) -> Vec<f32> {
    let mut shares = tile.buffer(Slot::SharedGate).to_vec();
    math::sigmoid(&mut shares);
    shares
}

impl Step for ScaleShared {
    fn forward(&self, tile: &mut Tile, _: &mut Positions) -> Result<(), ModelError> {
        let (width, shares) = (tile.width(Slot::Delta), shares(tile));
        let rows = tile.buffer_mut(Slot::Delta).par_chunks_mut(width).zip(&shares);
        rows.for_each(|(row, share)| row.iter_mut().for_each(|x| *x *= share));
        Ok(())
    }

    fn record(&self, tile: &Tile) -> Box<dyn Recorded + '_> {
        Box::new(SharedRecord { delta: copied(tile.buffer(Slot::Delta)), shares: shares(tile) })
    }

    fn needs_tile(&self) -> bool {
        true
    }
}

struct SharedRecord {
    /// Output of the shared expert, `[tokens][hidden]`.
    delta: Vec<f32>,
    /// Share of each token, `[tokens]`.
    shares: Vec<f32>,
}

impl Recorded for SharedRecord {
    fn backward(self: Box<Self>, reverse: &mut Reverse) -> Result<(), ModelError> {
        let Some(mut gradient) = reverse.gradients.take(Slot::Delta) else { return Ok(()) };
        let width = gradient.len() / reverse.tokens;
        let rows = gradient.par_chunks_mut(width).zip(self.delta.par_chunks(width)).zip(&self.shares);
        let mut gate: Vec<f32> = rows
            .map(|((gradient, delta), share)| {
                let products = delta.iter().zip(&*gradient).map(|(x, d)| f64::from(*x) * f64::from(*d));
                let of_share = products.sum::<f64>() as f32;
                gradient.iter_mut().for_each(|d| *d *= share);
                of_share
            })
            .collect();
        math::sigmoid_gradient(&mut gate, &self.shares);
        reverse.gradients.add(Slot::Delta, gradient);
        reverse.gradients.add(Slot::SharedGate, gate);
        Ok(())
    }
}
