//! The weighted sum of the outputs of a token's experts.

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

/// The operation that computes delta as the sum of each expert's output in [`Slot::ExpertOut`] times its weight in
/// [`Slot::Routes`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Combine;

impl Operation for Combine {
    fn bind(&self, source: &WeightSource) -> Result<Box<dyn Step>, ModelError> {
        Ok(Box::new(CombineStep { hidden: source.model.hyper.hidden }))
    }
}

#[derive(Debug, Clone, Copy)]
struct CombineStep {
    hidden: usize,
}

impl Step for CombineStep {
    fn forward(&self, tile: &mut Tile, _: &mut Positions) -> Result<(), ModelError> {
        tile.with_output(Slot::Delta, |tile, delta| {
            delta.resize(tile.tokens() * self.hidden, 0.0);
            let routes = tile.buffer(Slot::Routes).par_chunks(tile.width(Slot::Routes));
            let outputs = tile.buffer(Slot::ExpertOut).par_chunks(tile.width(Slot::ExpertOut));
            let rows = delta.par_chunks_mut(self.hidden).zip(routes).zip(outputs);
            rows.for_each(|((delta, routes), outputs)| combine(routes, outputs, delta));
        });
        Ok(())
    }

    fn record(&self, tile: &Tile) -> Box<dyn Recorded + '_> {
        let [outputs, routes] = [Slot::ExpertOut, Slot::Routes].map(|slot| copied(tile.buffer(slot)));
        Box::new(CombineRecord { hidden: self.hidden, outputs, routes })
    }

    fn needs_tile(&self) -> bool {
        true
    }
}

/// Computes `delta` `[hidden]` as the sum of the parts of `outputs` `[used][hidden]`, each times its weight in `routes`
/// `[2 * used]`.
fn combine(routes: &[f32], outputs: &[f32], delta: &mut [f32]) {
    delta.fill(0.0);
    for (output, &weight) in outputs.chunks_exact(delta.len()).zip(Routes::weights(routes)) {
        math::add_scaled(delta, output, weight);
    }
}

struct CombineRecord {
    hidden: usize,
    /// Outputs of the experts, `[tokens][used * hidden]`.
    outputs: Vec<f32>,
    /// Experts and their weights, `[tokens][2 * used]`.
    routes: Vec<f32>,
}

impl CombineRecord {
    /// Returns the gradients of the experts' outputs and of the routes, given that of their weighted sum,
    /// `[tokens][hidden]`.
    fn gradients(&self, gradient: &[f32]) -> [Vec<f32>; 2] {
        let (hidden, outputs, routes) = (self.hidden, &self.outputs, &self.routes);
        let tokens = (gradient.len() / hidden).max(1);
        let (outputs_width, routes_width) = (outputs.len() / tokens, routes.len() / tokens);
        let (mut d_outputs, mut d_routes) = (vec![0.0; outputs.len()], vec![0.0; routes.len()]);
        d_outputs
            .par_chunks_mut(outputs_width)
            .zip(d_routes.par_chunks_mut(routes_width))
            .zip(outputs.par_chunks(outputs_width))
            .zip(routes.par_chunks(routes_width))
            .zip(gradient.par_chunks(hidden))
            .for_each(|((((d_outputs, d_routes), outputs), routes), gradient)| {
                let experts = d_outputs.chunks_exact_mut(hidden).zip(outputs.chunks_exact(hidden));
                let weights = Routes::weights(routes).iter().zip(Routes::weights_mut(d_routes));
                for ((d_output, output), (weight, d_weight)) in experts.zip(weights) {
                    math::add_scaled(d_output, gradient, *weight);
                    let products = output.iter().zip(gradient).map(|(x, y)| f64::from(*x) * f64::from(*y));
                    *d_weight = products.sum::<f64>() as f32;
                }
            });
        [d_outputs, d_routes]
    }
}

impl Recorded for CombineRecord {
    fn backward(self: Box<Self>, reverse: &mut Reverse) -> Result<(), ModelError> {
        if let Some(gradient) = reverse.gradients.take(Slot::Delta) {
            let [outputs, routes] = self.gradients(&gradient);
            reverse.gradients.add(Slot::ExpertOut, outputs);
            reverse.gradients.add(Slot::Routes, routes);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_of_experts_are_weighed() {
        let mut delta = [9.0; 2];
        combine(&[3.0, 1.0, 0.5, 2.0], &[1.0, 2.0, 10.0, 20.0], &mut delta);
        assert_eq!(delta, [20.5, 41.0]);
    }
}
