//! Products with numbers that the model stores: one for the stream, or one for each expert.

use rayon::prelude::*;

use super::{Operation, Recorded, Step};
use crate::graph::Slot;
use crate::model::ModelError;
use crate::model::backward::{Reverse, copied, scale};
use crate::model::check::Shapes;
use crate::model::steps::Positions;
use crate::model::tile::Tile;
use crate::model::weights::WeightSource;

/// The operation that multiplies the stream by the only number of the tensor `blk.N.{name}.weight`.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScaleStream {
    pub name: &'static str,
}

/// The operation that multiplies the weight of each expert that a token is routed to by the expert's number in the tensor
/// `blk.N.{name}`, `[experts]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScaleExperts {
    pub name: &'static str,
}

impl Operation for ScaleStream {
    fn check(&self, shapes: &mut Shapes) -> Result<(), ModelError> {
        shapes.check_weight(self.name, &[1])
    }

    fn bind(&self, source: &WeightSource) -> Result<Box<dyn Step>, ModelError> {
        let factor = source.values(self.name)?.first().copied().unwrap_or(1.0);
        Ok(Box::new(ScaleStreamStep { factor }))
    }
}

#[derive(Debug, Clone, Copy)]
struct ScaleStreamStep {
    factor: f32,
}

impl Step for ScaleStreamStep {
    fn forward(&self, tile: &mut Tile, _: &mut Positions) -> Result<(), ModelError> {
        scale(tile.buffer_mut(Slot::Stream), self.factor);
        Ok(())
    }

    fn record(&self, _: &Tile) -> Box<dyn Recorded + '_> {
        Box::new(*self)
    }
}

impl Recorded for ScaleStreamStep {
    fn backward(self: Box<Self>, reverse: &mut Reverse) -> Result<(), ModelError> {
        if let Some(mut gradient) = reverse.gradients.take(Slot::Stream) {
            scale(&mut gradient, self.factor);
            reverse.gradients.add(Slot::Stream, gradient);
        }
        Ok(())
    }
}

impl Operation for ScaleExperts {
    fn check(&self, shapes: &mut Shapes) -> Result<(), ModelError> {
        let count = shapes.experts("ffn_gate_inp")?.count;
        shapes.check_tensor(self.name, &[count as u64])
    }

    fn bind(&self, source: &WeightSource) -> Result<Box<dyn Step>, ModelError> {
        Ok(Box::new(ScaleExpertsStep { factors: source.whole(self.name)? }))
    }
}

#[derive(Debug)]
struct ScaleExpertsStep {
    /// Factor of each expert, `[experts]`.
    factors: Vec<f32>,
}

/// Multiplies the weights of one token's experts in `routes` `[2 * used]` by `factors` `[experts]`.
pub(in crate::model) fn scale_experts(factors: &[f32], routes: &mut [f32]) {
    let (experts, weights) = routes.split_at_mut(routes.len() / 2);
    weights.iter_mut().zip(experts).for_each(|(weight, expert)| *weight *= factors[*expert as usize]);
}

impl Step for ScaleExpertsStep {
    fn forward(&self, tile: &mut Tile, _: &mut Positions) -> Result<(), ModelError> {
        let width = tile.width(Slot::Routes);
        let routes = tile.buffer_mut(Slot::Routes).par_chunks_mut(width);
        routes.for_each(|routes| scale_experts(&self.factors, routes));
        Ok(())
    }

    fn record(&self, tile: &Tile) -> Box<dyn Recorded + '_> {
        Box::new(ScaleExpertsRecord { step: self, routes: copied(tile.buffer(Slot::Routes)) })
    }

    fn needs_tile(&self) -> bool {
        true
    }
}

struct ScaleExpertsRecord<'a> {
    step: &'a ScaleExpertsStep,
    /// Experts and their weights, `[tokens][2 * used]`.
    routes: Vec<f32>,
}

impl Recorded for ScaleExpertsRecord<'_> {
    fn backward(self: Box<Self>, reverse: &mut Reverse) -> Result<(), ModelError> {
        if let Some(mut gradient) = reverse.gradients.take(Slot::Routes) {
            let width = self.routes.len() / reverse.tokens;
            // Gradients of the experts' numbers are none; the numbers say which factor a weight had.
            gradient.par_chunks_mut(width).zip(self.routes.par_chunks(width)).for_each(
                |(gradient, routes)| {
                    gradient[..width / 2].copy_from_slice(&routes[..width / 2]);
                    scale_experts(&self.step.factors, gradient);
                    gradient[..width / 2].fill(0.0);
                },
            );
            reverse.gradients.add(Slot::Routes, gradient);
        }
        Ok(())
    }
}
