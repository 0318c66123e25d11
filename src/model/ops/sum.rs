//! The sum of two slots.

use kquant_kernels::math;

use super::{Operation, Recorded, Step};
use crate::graph::Slot;
use crate::model::ModelError;
use crate::model::backward::{Reverse, copied};
use crate::model::check::Shapes;
use crate::model::steps::Positions;
use crate::model::tile::Tile;
use crate::model::weights::WeightSource;
use crate::text::for_blocks;

/// The operation `slot += other`, where both are equally wide.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sum {
    pub slot: Slot,
    pub other: Slot,
}

impl Operation for Sum {
    fn check(&self, shapes: &mut Shapes) -> Result<(), ModelError> {
        if shapes.width(self.slot) != shapes.width(self.other) {
            let what = format!("adds {:?} to {:?} of another width", self.other, self.slot);
            return Err(shapes.graph_error(what));
        }
        Ok(())
    }

    fn bind(&self, _: &WeightSource) -> Result<Box<dyn Step>, ModelError> {
        Ok(Box::new(*self))
    }
}

impl Step for Sum {
    fn forward(&self, tile: &mut Tile, _: &mut Positions) -> Result<(), ModelError> {
        let width = tile.width(self.slot);
        tile.with_output(self.slot, |tile, sum| {
            for_blocks(tile.context(), (tile.buffer(self.other), width), (sum, width), |x, sum| {
                math::add(sum, x)
            });
        });
        Ok(())
    }

    fn record(&self, _: &Tile) -> Box<dyn Recorded + '_> {
        Box::new(*self)
    }
}

impl Recorded for Sum {
    fn backward(self: Box<Self>, reverse: &mut Reverse) -> Result<(), ModelError> {
        if let Some(gradient) = reverse.gradients.take(self.slot) {
            reverse.gradients.add(self.other, copied(&gradient));
            reverse.gradients.add(self.slot, gradient);
        }
        Ok(())
    }
}
