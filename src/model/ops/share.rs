//! The shares of the normed stream that a token's experts read.

use kquant_kernels::math;
use rayon::prelude::*;

use super::{Operation, Recorded, Step};
use crate::graph::Slot;
use crate::model::ModelError;
use crate::model::backward::{Reverse, copied};
use crate::model::routed::Routes;
use crate::model::steps::Positions;
use crate::model::tile::Tile;
use crate::model::weights::WeightSource;

/// The operation that fills [`Slot::ExpertIn`] with the normed stream times the weight of each of a token's experts, and sets the
/// weights to 1.
///
/// Source: `Llama4TextMoe` of transformers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share;

impl Operation for Share {
    fn bind(&self, _: &WeightSource) -> Result<Box<dyn Step>, ModelError> {
        Ok(Box::new(*self))
    }
}

impl Step for Share {
    fn forward(&self, tile: &mut Tile, _: &mut Positions) -> Result<(), ModelError> {
        let (hidden, width) = (tile.width(Slot::Normed), tile.width(Slot::Routes));
        let mut routes = tile.take_slot(Slot::Routes);
        tile.with_output(Slot::ExpertIn, |tile, out| {
            out.resize(tile.tokens() * width / 2 * hidden, 0.0);
            let rows = out.par_chunks_mut(width / 2 * hidden).zip(routes.par_chunks_mut(width));
            rows.zip(tile.buffer(Slot::Normed).par_chunks(hidden)).for_each(|((out, routes), x)| {
                out.fill(0.0);
                for (out, weight) in out.chunks_exact_mut(hidden).zip(Routes::weights_mut(routes)) {
                    math::add_scaled(out, x, *weight);
                    *weight = 1.0;
                }
            });
        });
        tile.set_slot(Slot::Routes, routes);
        Ok(())
    }

    fn record(&self, tile: &Tile) -> Box<dyn Recorded + '_> {
        let [x, routes] = [Slot::Normed, Slot::Routes].map(|slot| copied(tile.buffer(slot)));
        Box::new(ShareRecord { x, routes })
    }

    fn needs_tile(&self) -> bool {
        true
    }
}

struct ShareRecord {
    /// The normed stream, `[tokens][hidden]`.
    x: Vec<f32>,
    /// Experts and their weights, `[tokens][2 * used]`.
    routes: Vec<f32>,
}

impl Recorded for ShareRecord {
    fn backward(self: Box<Self>, reverse: &mut Reverse) -> Result<(), ModelError> {
        // The weights that the operation wrote are constant.
        drop(reverse.gradients.take(Slot::Routes));
        let Some(gradient) = reverse.gradients.take(Slot::ExpertIn) else { return Ok(()) };
        let (hidden, width) = (self.x.len() / reverse.tokens, self.routes.len() / reverse.tokens);
        let (mut d_x, mut d_routes) = (vec![0.0; self.x.len()], vec![0.0; self.routes.len()]);
        d_x.par_chunks_mut(hidden)
            .zip(d_routes.par_chunks_mut(width))
            .zip(self.x.par_chunks(hidden))
            .zip(self.routes.par_chunks(width))
            .zip(gradient.par_chunks(width / 2 * hidden))
            .for_each(|((((d_x, d_routes), x), routes), gradient)| {
                let weights = Routes::weights(routes).iter().zip(Routes::weights_mut(d_routes));
                for (d, (weight, d_weight)) in gradient.chunks_exact(hidden).zip(weights) {
                    math::add_scaled(d_x, d, *weight);
                    let products = x.iter().zip(d).map(|(x, d)| f64::from(*x) * f64::from(*d));
                    *d_weight = products.sum::<f64>() as f32;
                }
            });
        reverse.gradients.add(Slot::Normed, d_x);
        reverse.gradients.add(Slot::Routes, d_routes);
        Ok(())
    }
}
