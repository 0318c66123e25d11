//! Rotary position embedding of queries or keys.

use rayon::prelude::*;

use super::{Operation, Recorded, Step};
use crate::graph::Slot;
use crate::model::ModelError;
use crate::model::backward::Reverse;
use crate::model::rope::Reach;
use crate::model::steps::Positions;
use crate::model::tile::Tile;
use crate::model::weights::WeightSource;

/// The operation that rotates the heads of `slot` by their positions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rotate {
    pub slot: Slot,
}

impl Operation for Rotate {
    fn bind(&self, source: &WeightSource) -> Result<Box<dyn Step>, ModelError> {
        let hyper = &source.model.hyper;
        let reach = if hyper.has_window(source.layer) { Reach::Window } else { Reach::All };
        Ok(Box::new(RotateStep { slot: self.slot, head: hyper.rotary_head(self.slot, source.layer), reach }))
    }
}

#[derive(Debug, Clone, Copy)]
struct RotateStep {
    slot: Slot,
    /// Width of a head.
    head: usize,
    /// Kind of rotations that the layer uses.
    reach: Reach,
}

impl Step for RotateStep {
    fn forward(&self, tile: &mut Tile, positions: &mut Positions) -> Result<(), ModelError> {
        let (width, head, start) = (tile.width(self.slot), self.head, positions.start());
        let rope = positions.ropes.of(self.reach);
        let context = tile.context();
        let chunks = tile.buffer_mut(self.slot).par_chunks_mut(context * width);
        chunks.for_each(|chunk| rope.rotate(chunk, width / head, head, start));
        Ok(())
    }

    fn record(&self, _: &Tile) -> Box<dyn Recorded + '_> {
        Box::new(*self)
    }
}

impl Recorded for RotateStep {
    fn backward(self: Box<Self>, reverse: &mut Reverse) -> Result<(), ModelError> {
        if let Some(mut gradient) = reverse.gradients.take(self.slot) {
            let (width, head) = (gradient.len() / reverse.tokens, self.head);
            let rope = reverse.ropes.of(self.reach);
            let chunks = gradient.par_chunks_mut(reverse.context * width);
            chunks.for_each(|chunk| rope.rotate_gradient(chunk, width / head, head, 0));
            reverse.gradients.add(self.slot, gradient);
        }
        Ok(())
    }
}
