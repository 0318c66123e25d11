//! Losses on the statistics that candidates are compared by: held-out ones if there are any.

use kquant_kernels::feedback::{LANES, Lanes, dot};
use kquant_kernels::linalg::{View, ViewMut, gemm};
use rayon::prelude::*;

use super::tile::{BATCH, strip, strips_for, to_tile};
use super::{Feedback, Hessian};

/// The matrix of a quadratic loss that candidates are compared by.
#[derive(Clone, Copy)]
pub(super) struct Judge<'a> {
    /// The Hessian, `[n][n]`.
    hessian: &'a [f32],
    /// The damping, `[n]`, which is taken off the Hessian's diagonal.
    added: Option<&'a [f32]>,
}

impl<'a> Judge<'a> {
    /// Creates a judge of the held-out Hessian, or else of the training one without its damping.
    pub(super) fn new(feedback: &'a Feedback, held_out: Option<&'a Hessian>) -> Self {
        match held_out {
            Some(held_out) => Self { hessian: &held_out.mean, added: None },
            None => Self { hessian: &feedback.hessian, added: Some(&feedback.added) },
        }
    }

    /// Creates a judge of `hessian` as it is.
    pub(super) fn by(hessian: &'a [f32]) -> Self {
        Self { hessian, added: None }
    }

    /// Returns `e H e'` of each row e of `errors` `[rows][n]`, computed on all threads.
    pub(super) fn losses_of_rows(&self, errors: &[f32], n: usize) -> Vec<f64> {
        let (rows, as_they_are) = (errors.len() / n, Vec::from_iter(0..n));
        let strips = strips_for(rows);
        let losses = errors.par_chunks(strips * LANES * n).map(|rows| {
            let losses = self.losses(&to_tile(rows, &as_they_are, strips), strips);
            losses.as_flattened()[..rows.len() / n].to_vec()
        });
        losses.collect::<Vec<_>>().concat()
    }

    /// Returns `e H e'` of every row, by strip; `errors` is `[n][strips]`.
    pub(super) fn losses(&self, errors: &[Lanes], strips: usize) -> Vec<[f64; LANES]> {
        let n = errors.len() / strips;
        let mut losses = vec![[0.0; LANES]; strips];
        let mut product = vec![[0.0; LANES]; BATCH.min(n) * strips];
        for first in (0..n).step_by(BATCH) {
            let end = n.min(first + BATCH);
            let product = &mut product[..(end - first) * strips];
            // As H is symmetric, what is right of the diagonal's block counts twice.
            let row = &self.hessian[first * n..];
            let block = &errors[first * strips..end * strips];
            multiply(product, &row[end.min(n - 1)..], n, &errors[end * strips..], strips, 2.0, 0.0);
            multiply(product, &row[first..], n, block, strips, 1.0, 1.0);
            for (s, losses) in losses.iter_mut().enumerate() {
                let errors = strip(block, strips, s);
                let sum = dot(&errors, &strip(product, strips, s));
                losses.iter_mut().zip(sum).for_each(|(loss, x)| *loss += f64::from(x));
                for (error, &added) in errors.iter().zip(self.added.unwrap_or(&[]).iter().skip(first)) {
                    for l in 0..LANES {
                        losses[l] -= f64::from(added) * f64::from(error[l]) * f64::from(error[l]);
                    }
                }
            }
        }
        losses
    }
}

/// Computes `out = alpha * h · errors + beta * out`, with `h` in rows of `stride` elements, `errors` and `out`
/// `[..][strips]`.
fn multiply(
    out: &mut [Lanes],
    h: &[f32],
    stride: usize,
    errors: &[Lanes],
    strips: usize,
    alpha: f32,
    beta: f32,
) {
    let (rows, columns, lanes) = (out.len() / strips, errors.len() / strips, strips * LANES);
    gemm(
        ViewMut::row_major(out.as_flattened_mut(), lanes),
        View::new(h, rows, columns, stride, 1),
        View::row_major(errors.as_flattened(), lanes),
        alpha,
        beta,
    );
}
