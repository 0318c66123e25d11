//! The corrected target: the weights with which the quantized stream's inputs give the original's outputs.
//!
//! With `G = E[lost' x]`, where `lost` is the original's output less `x W'`, the least-squares answer is `W + G H⁻¹`; the
//! share of the correction that is taken is the one with the least loss on held-out text.

use kquant_kernels::linalg::{View, ViewMut, gemm};
use rayon::prelude::*;

use super::moments::MeanMoments;
use crate::encode::feedback::{Feedback, Hessian};

/// Share of the correction that is taken where there is no held-out text. The value is chosen, not derived.
const UNJUDGED: f32 = 0.5;

/// Number of rows that decide on the share: enough for two digits.
const JUDGED_ROWS: usize = 512;

/// Number of rows of one product: enough to outweigh the copying of the matrix.
const ROWS: usize = 256;

/// Moves `weights` (`[rows][columns]`) to the corrected target and returns the share of the correction that was taken, 0
/// to 1.
///
/// `cross` (`E[lost' x]` of the training text) and `held_out` are means. If their losses are those of inputs, `[columns]`
/// wide, the weights carry them to the outputs; otherwise they are those of the outputs themselves.
pub(super) fn correct(
    weights: &mut [f32],
    feedback: &Feedback,
    cross: &[f32],
    held_out: Option<&MeanMoments>,
    of_inputs: bool,
) -> f32 {
    let mut change = if of_inputs { product(weights, cross, feedback.columns()) } else { cross.to_vec() };
    feedback.solve(&mut change);
    let judge = held_out.and_then(|h| Some((&h.hessian, h.cross.as_deref()?)));
    let taken = match judge {
        Some((hessian, cross)) => strength(weights, &change, hessian, cross, of_inputs),
        None => UNJUDGED,
    };
    weights.par_iter_mut().zip(&change).for_each(|(w, &c)| *w += taken * c);
    taken
}

/// Returns the `s` in 0..=1 with the least held-out loss of `W + s · change`: the loss is a parabola in `s`.
fn strength(weights: &[f32], change: &[f32], hessian: &Hessian, cross: &[f32], of_inputs: bool) -> f32 {
    let n = hessian.columns;
    let rows = change.len() / n;
    let step = rows.div_ceil(JUDGED_ROWS);
    let pick = |all: &[f32]| -> Vec<f32> { all.chunks_exact(n).step_by(step).flatten().copied().collect() };
    let change = pick(change);
    let gain = if of_inputs { product(&pick(weights), cross, n) } else { pick(cross) };
    let cost = product(&change, &hessian.mean, n);
    let (gained, paid) = (dot(&change, &gain), dot(&change, &cost));
    if paid > 0.0 { (gained / paid).clamp(0.0, 1.0) as f32 } else { 0.0 }
}

/// Returns `a · b`, with `a` `[rows][n]` and `b` `[n][n]`.
fn product(a: &[f32], b: &[f32], n: usize) -> Vec<f32> {
    let mut out = vec![0.0; a.len()];
    out.par_chunks_mut(ROWS * n).zip(a.par_chunks(ROWS * n)).for_each(|(out, a)| {
        gemm(ViewMut::row_major(out, n), View::row_major(a, n), View::row_major(b, n), 1.0, 0.0);
    });
    out
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}
