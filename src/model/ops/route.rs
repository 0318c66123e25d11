//! The routing of tokens to experts.

use kquant_kernels::math;
use rayon::prelude::*;

use super::choice::Scored;
use super::{Operation, Recorded, Step, sparse_mixer};
use crate::graph::{Experts, Scores, Slot};
use crate::model::ModelError;
use crate::model::backward::{ROWS, Reverse, copied};
use crate::model::check::Shapes;
use crate::model::routed::Routes;
use crate::model::steps::Positions;
use crate::model::tile::Tile;
use crate::model::weights::WeightSource;

/// Number that keeps the sum of weights from being 0 (DeepSeek V3).
const TINY: f32 = 1e-20;

/// The operation that chooses experts by [`Slot::Router`] and writes them to [`Slot::Routes`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    /// Name of the tensor `[experts]` of corrections, which is `blk.N.{bias}.bias` if the model has it.
    pub bias: &'static str,
}

impl Operation for Route {
    fn check(&self, shapes: &mut Shapes) -> Result<(), ModelError> {
        let count = shapes.experts("ffn_gate_inp")?.count;
        shapes.check_bias(self.bias, &[count as u64])
    }

    fn bind(&self, source: &WeightSource) -> Result<Box<dyn Step>, ModelError> {
        let experts = source.model.experts(&source.full(self.bias))?.clone();
        Ok(Box::new(RouteStep { experts, correction: source.bias(self.bias)? }))
    }
}

#[derive(Debug)]
struct RouteStep {
    experts: Experts,
    /// Correction of the scores, `[experts]`.
    correction: Option<Vec<f32>>,
}

impl Step for RouteStep {
    fn forward(&self, tile: &mut Tile, _: &mut Positions) -> Result<(), ModelError> {
        tile.with_output(Slot::Routes, |tile, routes| {
            routes.resize(tile.tokens() * Routes::width(&self.experts), 0.0);
            route(&self.experts, self.correction.as_deref(), tile.buffer(Slot::Router), routes);
        });
        Ok(())
    }

    fn record(&self, tile: &Tile) -> Box<dyn Recorded + '_> {
        Box::new(RouteRecord { step: self, logits: copied(tile.buffer(Slot::Router)) })
    }

    fn needs_tile(&self) -> bool {
        true
    }
}

struct RouteRecord<'a> {
    step: &'a RouteStep,
    /// Logits of the router, `[tokens][experts]`.
    logits: Vec<f32>,
}

impl Recorded for RouteRecord<'_> {
    fn backward(self: Box<Self>, reverse: &mut Reverse) -> Result<(), ModelError> {
        if let Some(gradient) = reverse.gradients.take(Slot::Routes) {
            let RouteStep { experts, correction } = self.step;
            let router = gradients(experts, correction.as_deref(), &self.logits, &gradient);
            reverse.gradients.add(Slot::Router, router);
        }
        Ok(())
    }
}

/// Chooses `experts.used` experts for each row of `logits` `[rows][count]`, and writes their numbers, best first, and their
/// weights to `routes` `[rows][2 * used]`. `correction` `[count]` is added to the scores for the choice alone.
///
/// The formulas are those of Mixtral (Jiang et al., 2024), gpt-oss, and DeepSeek V2 and V3 (2024), as transformers computes
/// them.
pub(in crate::model) fn route(
    experts: &Experts,
    correction: Option<&[f32]>,
    logits: &[f32],
    routes: &mut [f32],
) {
    let rows = logits.chunks_exact(experts.count).zip(routes.chunks_exact_mut(2 * experts.used));
    for (logits, routes) in rows {
        let Scored { scores, row, chosen } = Scored::of(experts, correction, logits);
        let mut weights: Vec<f32> = chosen.iter().map(|&expert| row[expert]).collect();
        if scores == Scores::SoftmaxOfChosen {
            math::softmax(&mut weights);
        } else if scores == Scores::SparseMixer {
            weights = sparse_mixer::weights(&row, &chosen);
        } else if experts.normalized {
            let sum: f32 = weights.iter().sum::<f32>() + TINY;
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
        Routes::write(routes, &chosen, weights.into_iter().map(|weight| weight * experts.scale));
    }
}

/// Returns the gradient of the router's logits, `[rows][count]`, given that of the routes, `[rows][2 * used]`. The choice is
/// constant.
fn gradients(experts: &Experts, correction: Option<&[f32]>, logits: &[f32], gradient: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; logits.len()];
    let (count, width) = (experts.count, Routes::width(experts));
    out.par_chunks_mut(count * ROWS)
        .zip(logits.par_chunks(count * ROWS))
        .zip(gradient.par_chunks(width * ROWS))
        .for_each(|((out, logits), gradient)| {
            let rows = out.chunks_exact_mut(count).zip(logits.chunks_exact(count));
            for ((out, logits), gradient) in rows.zip(gradient.chunks_exact(width)) {
                self::gradient(experts, correction, logits, Routes::weights(gradient), out);
            }
        });
    out
}

/// Fills `out` `[count]` as [`gradients`] does for one token, where `gradient` `[used]` is that of the weights.
fn gradient(
    experts: &Experts,
    correction: Option<&[f32]>,
    logits: &[f32],
    gradient: &[f32],
    out: &mut [f32],
) {
    let Scored { scores, row, chosen } = Scored::of(experts, correction, logits);
    let mut gradient: Vec<f32> = gradient.iter().map(|d| d * experts.scale).collect();
    if scores == Scores::SparseMixer {
        return sparse_mixer::add_gradient(&row, &chosen, &gradient, out);
    }
    if scores == Scores::SoftmaxOfChosen {
        let mut weights: Vec<f32> = chosen.iter().map(|&expert| row[expert]).collect();
        math::softmax(&mut weights);
        math::softmax_gradient(&mut gradient, &weights);
    } else if experts.normalized {
        // The weights are `w = s / Σ s` for the scores `s` of the chosen experts.
        let sum: f32 = chosen.iter().map(|&expert| row[expert]).sum::<f32>() + TINY;
        let level: f32 = chosen.iter().zip(&gradient).map(|(&expert, d)| row[expert] / sum * d).sum();
        gradient.iter_mut().for_each(|d| *d = (*d - level) / sum);
    }
    for (&expert, d) in chosen.iter().zip(&gradient) {
        out[expert] = *d;
    }
    match scores {
        Scores::Softmax => math::softmax_gradient(out, &row),
        Scores::Sigmoid => math::sigmoid_gradient(out, &row),
        Scores::SoftmaxOfChosen | Scores::SparseMixer => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Experts = Experts {
        count: 4,
        used: 2,
        scores: None,
        normalized: true,
        scale: 1.0,
        groups: None,
        shared: false,
    };

    fn routes(experts: &Experts, correction: Option<&[f32]>, logits: &[f32]) -> Vec<f32> {
        let mut routes = vec![f32::NAN; logits.len() / experts.count * 2 * experts.used];
        route(experts, correction, logits, &mut routes);
        routes
    }

    fn close(a: &[f32], b: &[f32]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6)
    }

    #[test]
    fn softmax_chooses_the_largest_logits() {
        let logits = [0.0, 3f32.ln(), 0.0, 2f32.ln(), 1.0, 1.0, 1.0, 1.0];
        assert!(close(&routes(&PLAIN, None, &logits), &[1.0, 3.0, 0.6, 0.4, 0.0, 1.0, 0.5, 0.5]));
        let plain = Experts { normalized: false, scale: 7.0, ..PLAIN };
        assert!(close(&routes(&plain, None, &logits[..4]), &[1.0, 3.0, 3.0, 2.0]));
        let chosen = Experts { scores: Some(Scores::SoftmaxOfChosen), normalized: false, ..PLAIN };
        assert!(close(&routes(&chosen, None, &logits[..4]), &[1.0, 3.0, 0.6, 0.4]));
    }

    #[test]
    fn a_correction_decides_and_does_not_weigh() {
        let correction = [0.0, 0.0, 1.0, 0.0];
        let logits = [0.0, 3f32.ln(), 0.0, -1.0];
        assert!(close(&routes(&PLAIN, Some(&correction), &logits), &[2.0, 1.0, 0.4, 0.6]));
    }

    #[test]
    fn groups_limit_the_choice() {
        let logits = [3.0, -9.0, 2.0, 1.5];
        let limited = Experts { groups: Some((2, 1)), ..PLAIN };
        let of = |correction| routes(&limited, correction, &logits)[..2].to_vec();
        assert_eq!(of(None), [0.0, 1.0], "the group with the best");
        assert_eq!(of(Some(&[0.0; 4])), [2.0, 3.0], "the group with the best two");
    }
}
