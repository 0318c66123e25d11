//! The growth of queries with the logarithm of their position.

use rayon::prelude::*;

use super::{Operation, Recorded, Step};
use crate::graph::{Growth, KeyError, Slot};
use crate::model::ModelError;
use crate::model::backward::Reverse;
use crate::model::steps::Positions;
use crate::model::tile::Tile;
use crate::model::weights::WeightSource;

/// The operation that multiplies the queries at each position by a factor of their own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grow;

impl Operation for Grow {
    fn bind(&self, source: &WeightSource) -> Result<Box<dyn Step>, ModelError> {
        let hyper = &source.model.hyper;
        let key = || KeyError {
            key: format!("{}.attention.temperature_scale", hyper.architecture),
            what: "is missing".to_owned(),
        };
        Ok(Box::new(GrowStep(hyper.growth.ok_or_else(key)?)))
    }
}

#[derive(Debug, Clone, Copy)]
struct GrowStep(Growth);

impl GrowStep {
    /// Multiplies `rows` `[tokens][width]`, of which each chunk of `context` tokens begins at position `start`.
    fn multiply(self, rows: &mut [f32], width: usize, context: usize, start: usize) {
        let Growth { rate, step, offset } = self.0;
        rows.par_chunks_mut(width).enumerate().for_each(|(token, row)| {
            let steps = (start + token % context + offset) / step;
            let factor = 1.0 + rate * ((1 + steps) as f32).ln();
            row.iter_mut().for_each(|x| *x *= factor);
        });
    }
}

impl Step for GrowStep {
    fn forward(&self, tile: &mut Tile, positions: &mut Positions) -> Result<(), ModelError> {
        let (width, context) = (tile.width(Slot::Query), tile.context());
        self.multiply(tile.buffer_mut(Slot::Query), width, context, positions.start());
        Ok(())
    }

    fn record(&self, _: &Tile) -> Box<dyn Recorded + '_> {
        Box::new(*self)
    }
}

impl Recorded for GrowStep {
    fn backward(self: Box<Self>, reverse: &mut Reverse) -> Result<(), ModelError> {
        if let Some(mut gradient) = reverse.gradients.take(Slot::Query) {
            let width = gradient.len() / reverse.tokens;
            self.multiply(&mut gradient, width, reverse.context, 0);
            reverse.gradients.add(Slot::Query, gradient);
        }
        Ok(())
    }
}
