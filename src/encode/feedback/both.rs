//! Feedback over rows as well as columns: the error of one output is compensated by the outputs that are rounded after
//! it.
//!
//! With H_O the Fisher matrix of the outputs, `E[g'g]` over gradients g of the model's loss, rounding a whole tensor by the
//! errors E (`[rows][columns]`) costs the loss `tr(H_O E H E')`. With `H_O = U D U'`, rows in order of falling diagonal, that is
//! `Σ_k D_k r_k H r_k'` with `r_k = e_k + Σ_{i before k} U_ik e_i`: row k is encoded towards `w_k - Σ_i U_ik e_i` by the encoder of
//! rows. Row coordinate descent follows: each row once more, towards what is best with all the others fixed,
//! `w_a - Σ_{b≠a} (H_ab / H_aa) e_b`, accepted if the whole loss falls.
//!
//! The rows of one tile do not compensate each other before the descent: tiles are small where a tensor has few rows, and
//! where it has many, little is lost.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use kquant_kernels::codec::Codec;
use kquant_kernels::linalg::View;
use rayon::prelude::*;

use super::judge::Judge;
use super::product::StridedRows;
use super::run::{Losses, RowEncoder};
use super::{Feedback, Hessian, Options};

/// Number of tiles that a tensor is cut into, unless they would be smaller than [`FEWEST`] or larger than [`MOST`] rows.
const TILES: usize = 32;
/// Number of rows of the smallest tile of a small tensor.
const FEWEST: usize = 8;
/// Number of rows of the smallest tile of a tensor that is not small: 16 rows fill the lanes.
const FILLED: usize = 16;
/// Number of rows of the largest tile.
const MOST: usize = 256;

/// A tensor to encode with feedback on both sides.
pub struct BothSides<'a> {
    /// The damped Hessian of the tensor's inputs.
    pub inputs: &'a Feedback,
    /// The damped Fisher matrix of the tensor's outputs, with one column for each row of the tensor.
    pub outputs: &'a Feedback,
    /// The inputs' Hessian that candidates are compared by, if it is not the training one.
    pub held_out: Option<&'a Hessian>,
    /// The codec of the tensor's type.
    pub codec: &'static Codec,
    /// The weights to encode, `[rows][columns]`.
    pub targets: &'a [f32],
    /// The amount of work that the encoder of rows does.
    pub options: &'a Options,
    /// A flag that is set from outside to stop early.
    pub cancel: &'a AtomicBool,
}

/// The state of an encoding under way.
struct Work<'a> {
    job: &'a BothSides<'a>,
    columns: usize,
    row_bytes: usize,
    /// Errors `ŵ - w`, `[rows][columns]`, in the order of the outputs' feedback.
    errors: Vec<f32>,
    /// The loss `tr(H_O E H E')` of the rows encoded so far, with H_O damped and H the Hessian that candidates are
    /// compared by.
    loss: f64,
}

impl BothSides<'_> {
    /// Encodes all rows into `out` and returns the losses. Each is a sum over rows, weighted with the row's diagonal
    /// element of H_O over the mean diagonal element; the loss of the result is `tr(H_O E H E')` over the mean diagonal
    /// element, with the Hessian that candidates are compared by.
    ///
    /// Returns `None` when it was cancelled.
    ///
    /// # Panics
    ///
    /// Panics when the lengths do not fit each other.
    pub fn encode(&self, out: &mut [u8]) -> Option<Losses> {
        let (columns, rows) = (self.inputs.columns, self.outputs.columns);
        assert!(self.targets.len() == rows * columns, "{} targets for {rows} rows", self.targets.len());
        let row_bytes = columns / self.codec.block.elements * self.codec.block.bytes;
        let mut work =
            Work { job: self, columns, row_bytes, errors: vec![0.0; self.targets.len()], loss: 0.0 };
        let mut losses = Losses::default();
        for tile in tiles(rows) {
            if self.cancel.load(Ordering::Relaxed) {
                return None;
            }
            losses.add(&work.encode_tile(tile, out));
        }
        for _ in 0..self.options.row_passes {
            for tile in tiles(rows) {
                if self.cancel.load(Ordering::Relaxed) {
                    return None;
                }
                work.improve_tile(tile, out);
            }
        }
        losses.result = work.loss / self.unit();
        Some(losses)
    }

    /// Returns the inputs' Hessian that candidates are compared by: the held-out one, if there is one.
    fn judge(&self) -> &[f32] {
        self.held_out.map_or(&self.inputs.hessian, |held_out| &held_out.mean)
    }

    /// Returns the mean of the outputs' diagonal.
    fn unit(&self) -> f64 {
        let all = &self.outputs.importance;
        all.iter().map(|&x| f64::from(x)).sum::<f64>() / all.len() as f64
    }
}

/// Yields the ranges of rows that are encoded together.
fn tiles(rows: usize) -> impl Iterator<Item = Range<usize>> {
    let least = (rows / FILLED).clamp(FEWEST, FILLED);
    let size = (rows / TILES).next_multiple_of(FEWEST).clamp(least, MOST);
    (0..rows).step_by(size).map(move |first| first..rows.min(first + size))
}

impl Work<'_> {
    /// Returns the targets of the rows at the places `tile` of the order.
    fn targets(&self, tile: Range<usize>) -> Vec<f32> {
        let rows = self.job.outputs.order[tile].iter();
        rows.map(|row| &self.job.targets[row * self.columns..][..self.columns]).collect::<Vec<_>>().concat()
    }

    /// Encodes a tile's rows towards targets that compensate the rows before it.
    fn encode_tile(&mut self, tile: Range<usize>, out: &mut [u8]) -> Losses {
        let (job, n) = (self.job, self.columns);
        let weights = self.targets(tile.clone());
        let mut targets = weights.clone();
        let earlier = &self.errors[..tile.start * n];
        let rows = job.outputs.columns;
        let factors = &job.outputs.lower[tile.start * rows..];
        let factors = StridedRows { data: factors, stride: rows, columns: tile.start };
        factors.multiply(View::row_major(earlier, n), -1.0, &mut targets, n);
        let (bytes, losses) = self.encode_targets(&targets, None);
        let errors = self.errors_of(&bytes, &weights);
        self.errors[tile.start * n..tile.end * n].copy_from_slice(&errors);
        self.loss += self.loss_of(tile.clone(), &weights, &targets);
        let (unit, mut total) = (job.unit(), Losses::default());
        for ((k, bytes), losses) in tile.zip(bytes.chunks_exact(self.row_bytes)).zip(losses) {
            let row = job.outputs.order[k];
            out[row * self.row_bytes..][..self.row_bytes].copy_from_slice(bytes);
            total.add(&losses.times(f64::from(job.outputs.importance[row]) / unit));
        }
        total
    }

    /// Encodes rows towards `targets` and returns their bytes and losses; where there are `present` bytes, the rows are
    /// improved from these and no losses are computed.
    fn encode_targets(&self, targets: &[f32], present: Option<&[u8]>) -> (Vec<u8>, Vec<Losses>) {
        let BothSides { inputs: feedback, held_out, codec, options, .. } = *self.job;
        let mut bytes = vec![0; targets.len() / self.columns * self.row_bytes];
        let rows = RowEncoder { feedback, held_out, codec, options, present };
        let losses = rows.encode(targets, &mut bytes);
        (bytes, losses)
    }

    /// Returns what the rows of `tile` add to the loss, `Σ_k D_k r_k H r_k'`. The rows of a tile did not compensate each
    /// other: `targets` are `weights` corrected for the tiles before alone.
    fn loss_of(&self, tile: Range<usize>, weights: &[f32], targets: &[f32]) -> f64 {
        let (outputs, n) = (self.job.outputs, self.columns);
        let mut residuals: Vec<f32> =
            weights.iter().zip(targets).map(|(weight, target)| weight - target).collect();
        let within = &outputs.lower[tile.start * (outputs.columns + 1)..];
        let within = StridedRows { data: within, stride: outputs.columns, columns: tile.len() };
        let errors = View::row_major(&self.errors[tile.start * n..tile.end * n], n);
        within.multiply(errors, 1.0, &mut residuals, n);
        let losses = Judge::by(self.job.judge()).losses_of_rows(&residuals, n);
        outputs.pivots[tile].iter().zip(losses).map(|(&pivot, loss)| f64::from(pivot) * loss).sum()
    }

    fn errors_of(&self, bytes: &[u8], weights: &[f32]) -> Vec<f32> {
        let mut errors = vec![0.0; weights.len()];
        let rows = errors.par_chunks_exact_mut(self.columns).zip(weights.par_chunks_exact(self.columns));
        rows.zip(bytes.par_chunks_exact(self.row_bytes)).for_each(|((errors, weights), bytes)| {
            (self.job.codec.block.decode)(bytes, errors);
            errors.iter_mut().zip(weights).for_each(|(error, weight)| *error -= weight);
        });
        errors
    }

    /// Returns the gradient `H_O E` at the rows of `tile`, with H_O damped.
    fn pulls(&self, tile: &Range<usize>) -> Vec<f32> {
        let (outputs, n) = (self.job.outputs, self.columns);
        let rows = outputs.columns;
        let mut fisher = vec![0.0; tile.len() * rows];
        fisher.par_chunks_exact_mut(rows).zip(&outputs.order[tile.clone()]).for_each(|(row, a)| {
            let hessian = &outputs.hessian[a * rows..][..rows];
            row.iter_mut().zip(&outputs.order).for_each(|(x, &b)| *x = hessian[b]);
        });
        let mut pulls = vec![0.0; tile.len() * n];
        StridedRows::new(&fisher, rows).multiply(View::row_major(&self.errors, n), 1.0, &mut pulls, n);
        pulls
    }

    /// Encodes a tile's rows again with all other rows fixed, and keeps those that lower the loss, one by one.
    fn improve_tile(&mut self, tile: Range<usize>, out: &mut [u8]) {
        let (outputs, n) = (self.job.outputs, self.columns);
        let (weights, pulls) = (self.targets(tile.clone()), self.pulls(&tile));
        let rows = outputs.columns;
        let own = |k: usize| outputs.hessian[outputs.order[k] * (rows + 1)];
        let mut targets = weights.clone();
        for (k, (row, pulls)) in tile.clone().zip(targets.chunks_exact_mut(n).zip(pulls.chunks_exact(n))) {
            let (inverse, errors) = (1.0 / own(k), &self.errors[k * n..][..n]);
            for ((target, error), pull) in row.iter_mut().zip(errors).zip(pulls) {
                *target += error - inverse * pull;
            }
        }
        let order = outputs.order[tile.clone()].iter();
        let present =
            order.map(|row| &out[row * self.row_bytes..][..self.row_bytes]).collect::<Vec<_>>().concat();
        let (bytes, _) = self.encode_targets(&targets, Some(&present));
        let mut changes = self.errors_of(&bytes, &weights);
        changes.iter_mut().zip(&self.errors[tile.start * n..]).for_each(|(change, error)| *change -= error);
        let products = self.through_judge(&changes);
        let mut among = vec![0.0; tile.len() * tile.len()];
        let turned = View::row_major(&changes, n).transposed();
        StridedRows::new(&products, n).multiply(turned, 1.0, &mut among, tile.len());
        let mut slopes: Vec<f64> =
            products.par_chunks_exact(n).zip(pulls.par_chunks_exact(n)).map(|(a, b)| dot(a, b)).collect();
        for a in 0..tile.len() {
            let k = tile.start + a;
            let curvature = f64::from(own(k)) * f64::from(among[a * tile.len() + a]);
            let change = 2.0 * slopes[a] + curvature;
            if change >= 0.0 {
                continue;
            }
            self.loss += change;
            for (b, slope) in slopes.iter_mut().enumerate() {
                let fisher = outputs.hessian[outputs.order[k] * rows + outputs.order[tile.start + b]];
                *slope += f64::from(fisher) * f64::from(among[b * tile.len() + a]);
            }
            let errors = &mut self.errors[k * n..][..n];
            errors.iter_mut().zip(&changes[a * n..]).for_each(|(error, change)| *error += change);
            out[outputs.order[k] * self.row_bytes..][..self.row_bytes]
                .copy_from_slice(&bytes[a * self.row_bytes..][..self.row_bytes]);
        }
    }

    /// Returns `x H`, with the Hessian that candidates are compared by.
    fn through_judge(&self, x: &[f32]) -> Vec<f32> {
        let mut product = vec![0.0; x.len()];
        let hessian = View::row_major(self.job.judge(), self.columns);
        StridedRows::new(x, self.columns).multiply(hessian, 1.0, &mut product, self.columns);
        product
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}
