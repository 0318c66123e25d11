//! Gradients through several matrices in one tensor, and through what chooses among them.

use kquant_kernels::math;
use rayon::prelude::*;

use super::super::ModelError;
use super::super::mixture::{Meeting, Scored, TINY};
use super::super::products::Packed;
use crate::graph::{By, Experts, Scores};
use crate::model::GradientObserver;
use crate::text::{block_tokens, for_blocks};

/// Rows that one task takes.
const ROWS: usize = 64;

/// Which rows meet which matrix.
pub(super) fn meeting(by: By, matrices: usize, used: usize, routes: &[f32]) -> Meeting<'_> {
    Meeting { by, matrices, used, routes }
}

/// A tensor of several matrices and the tokens that met them.
pub(super) struct Block<'a> {
    pub meeting: Meeting<'a>,
    /// Tokens per chunk.
    pub context: usize,
    /// Tokens of the tile.
    pub tokens: usize,
    /// Columns of each matrix.
    pub inputs: usize,
    /// Rows of each matrix.
    pub outputs: usize,
}

impl Block<'_> {
    /// Shows `observer` the gradient of what each matrix gave, a block of text at a time: `gradient` `[tokens][parts][outputs]`.
    pub(super) fn observe(
        &self,
        tensor: &str,
        gradient: &[f32],
        observer: &mut dyn GradientObserver,
    ) -> Result<(), ModelError> {
        let width = self.meeting.parts() * self.outputs;
        let block = block_tokens(self.context);
        for first in (0..self.tokens).step_by(block) {
            let tokens = first..self.tokens.min(first + block);
            let rows = self.meeting.inputs(gradient, width, self.outputs, tokens);
            for (matrix, rows) in rows.iter().enumerate() {
                observer.expert_output_gradient(tensor, matrix, self.meeting.matrices, rows, self.outputs)?;
            }
        }
        Ok(())
    }

    /// Adds to `out`, whose rows are `width` wide, the gradient of what each matrix read. Matrices come in their order.
    pub(super) fn apply(&self, back: &[Packed], gradient: &[f32], out: &mut [f32], width: usize) {
        let parts = self.meeting.parts();
        let shared = width == self.inputs;
        let all = self.meeting.rows(0..self.tokens);
        let inputs = self.meeting.inputs(gradient, parts * self.outputs, self.outputs, 0..self.tokens);
        let mut x = Vec::new();
        for ((back, rows), gradient) in back.iter().zip(&all).zip(&inputs) {
            if rows.is_empty() {
                continue;
            }
            x.clear();
            x.resize(rows.len() * self.inputs, 0.0);
            for_blocks(self.context, (gradient, self.outputs), (&mut x, self.inputs), |gradient, x| {
                back.apply(x, gradient);
            });
            for (x, &(token, part)) in x.chunks_exact(self.inputs).zip(rows) {
                let at = token * width + if shared { 0 } else { part * self.inputs };
                math::add(&mut out[at..at + self.inputs], x);
            }
        }
    }
}

/// Gradients of what the experts say, `[tokens][used * hidden]`, and of the routes, `[tokens][2 * used]`, from that of their
/// weighted sum, `[tokens][hidden]`.
pub(super) fn combine(said: &[f32], routes: &[f32], gradient: &[f32], hidden: usize) -> [Vec<f32>; 2] {
    let tokens = (gradient.len() / hidden).max(1);
    let (said_width, routes_width) = (said.len() / tokens, routes.len() / tokens);
    let (mut d_said, mut d_routes) = (vec![0.0; said.len()], vec![0.0; routes.len()]);
    d_said
        .par_chunks_mut(said_width)
        .zip(d_routes.par_chunks_mut(routes_width))
        .zip(said.par_chunks(said_width))
        .zip(routes.par_chunks(routes_width))
        .zip(gradient.par_chunks(hidden))
        .for_each(|((((d_said, d_routes), said), routes), gradient)| {
            let used = routes_width / 2;
            let experts = d_said.chunks_exact_mut(hidden).zip(said.chunks_exact(hidden));
            for ((d_said, said), (weight, d_weight)) in
                experts.zip(routes[used..].iter().zip(&mut d_routes[used..]))
            {
                math::add_scaled(d_said, gradient, *weight);
                let products = said.iter().zip(gradient).map(|(x, y)| f64::from(*x) * f64::from(*y));
                *d_weight = products.sum::<f64>() as f32;
            }
        });
    [d_said, d_routes]
}

/// The gradient of the router's logits, `[rows][count]`, from that of the routes, `[rows][2 * used]`. The choice is constant.
pub(super) fn route(
    experts: &Experts,
    correction: Option<&[f32]>,
    logits: &[f32],
    gradient: &[f32],
) -> Vec<f32> {
    let mut out = vec![0.0; logits.len()];
    let (count, width) = (experts.count, 2 * experts.used);
    out.par_chunks_mut(count * ROWS)
        .zip(logits.par_chunks(count * ROWS))
        .zip(gradient.par_chunks(width * ROWS))
        .for_each(|((out, logits), gradient)| {
            let rows = out.chunks_exact_mut(count).zip(logits.chunks_exact(count));
            for ((out, logits), gradient) in rows.zip(gradient.chunks_exact(width)) {
                route_row(experts, correction, (logits, &gradient[experts.used..]), out);
            }
        });
    out
}

fn route_row(
    experts: &Experts,
    correction: Option<&[f32]>,
    (logits, gradient): (&[f32], &[f32]),
    out: &mut [f32],
) {
    let Scored { scores, row, chosen } = Scored::of(experts, correction, logits);
    let mut gradient: Vec<f32> = gradient.iter().map(|d| d * experts.scale).collect();
    if scores == Scores::SoftmaxOfChosen {
        let mut weights: Vec<f32> = chosen.iter().map(|&expert| row[expert]).collect();
        math::softmax(&mut weights);
        math::softmax_gradient(&mut gradient, &weights);
    } else if experts.normalized {
        // w = s / Σ s
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
        Scores::SoftmaxOfChosen => {}
    }
}
