//! One row for all heads, written out for each of them.

use kquant_kernels::math;
use rayon::prelude::*;

use super::{Operation, Recorded, Step};
use crate::graph::Slot;
use crate::model::ModelError;
use crate::model::backward::Reverse;
use crate::model::steps::Positions;
use crate::model::tile::Tile;
use crate::model::weights::WeightSource;

/// The operation that fills `output` `[tokens][heads * width]` with copies of each row of `input` `[tokens][width]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Repeat {
    pub input: Slot,
    pub output: Slot,
}

impl Operation for Repeat {
    fn bind(&self, source: &WeightSource) -> Result<Box<dyn Step>, ModelError> {
        Ok(Box::new(RepeatStep { of: *self, heads: source.model.hyper.heads }))
    }
}

#[derive(Debug, Clone, Copy)]
struct RepeatStep {
    of: Repeat,
    heads: usize,
}

impl Step for RepeatStep {
    fn forward(&self, tile: &mut Tile, _: &mut Positions) -> Result<(), ModelError> {
        tile.with_output(self.of.output, |tile, out| {
            let width = tile.width(self.of.input);
            out.resize(tile.tokens() * self.heads * width, 0.0);
            let rows =
                out.par_chunks_mut(self.heads * width).zip(tile.buffer(self.of.input).par_chunks(width));
            rows.for_each(|(out, row)| {
                out.chunks_exact_mut(width).for_each(|head| head.copy_from_slice(row))
            });
        });
        Ok(())
    }

    fn record(&self, _: &Tile) -> Box<dyn Recorded + '_> {
        Box::new(*self)
    }
}

impl Recorded for RepeatStep {
    fn backward(self: Box<Self>, reverse: &mut Reverse) -> Result<(), ModelError> {
        let Some(gradient) = reverse.gradients.take(self.of.output) else { return Ok(()) };
        let width = gradient.len() / reverse.tokens / self.heads;
        let mut sum = vec![0.0; reverse.tokens * width];
        let rows = sum.par_chunks_mut(width).zip(gradient.par_chunks(self.heads * width));
        rows.for_each(|(sum, row)| row.chunks_exact(width).for_each(|head| math::add(sum, head)));
        reverse.gradients.add(self.of.input, sum);
        Ok(())
    }
}
