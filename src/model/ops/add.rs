//! The addition of a block's output to the residual stream.

use kquant_kernels::math;

use super::{Operation, Recorded, Step};
use crate::graph::Slot;
use crate::model::ModelError;
use crate::model::backward::{Reverse, copied, scale};
use crate::model::steps::Positions;
use crate::model::tile::Tile;
use crate::model::weights::WeightSource;
use crate::text::for_blocks;

/// The operation `stream += delta`, where delta is multiplied by the residual scale of the keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct Add;

impl Operation for Add {
    fn bind(&self, source: &WeightSource) -> Result<Box<dyn Step>, ModelError> {
        let hyper = &source.model.hyper;
        Ok(Box::new(AddStep { hidden: hyper.hidden, scale: hyper.residual_scale }))
    }
}

#[derive(Debug, Clone, Copy)]
struct AddStep {
    hidden: usize,
    scale: f32,
}

impl Step for AddStep {
    fn forward(&self, tile: &mut Tile, _: &mut Positions) -> Result<(), ModelError> {
        let Self { hidden, scale } = *self;
        tile.with_output(Slot::Stream, |tile, stream| {
            let delta = (tile.buffer(Slot::Delta), hidden);
            for_blocks(tile.context(), delta, (stream, hidden), |delta, stream| {
                if scale == 1.0 { math::add(stream, delta) } else { math::add_scaled(stream, delta, scale) }
            });
        });
        Ok(())
    }

    fn record(&self, _: &Tile) -> Box<dyn Recorded + '_> {
        Box::new(*self)
    }
}

impl Recorded for AddStep {
    fn backward(self: Box<Self>, reverse: &mut Reverse) -> Result<(), ModelError> {
        if let Some(gradient) = reverse.gradients.take(Slot::Stream) {
            let mut delta = copied(&gradient);
            scale(&mut delta, self.scale);
            reverse.gradients.add(Slot::Delta, delta);
            reverse.gradients.add(Slot::Stream, gradient);
        }
        Ok(())
    }
}
