//! Feedback over rows as well as columns: an error of one output is made up for by the outputs that are rounded after it.
//!
//! With H_O the Fisher matrix of the outputs, `E[g'g]` over gradients g of the model's loss, rounding a whole tensor by the
//! errors E (`[rows][columns]`) costs the loss `tr(H_O E H E')`. With `H_O = U D U'`, rows in order of falling diagonal, that is
//! `Σ_k D_k r_k H r_k'` with `r_k = e_k + Σ_{i before k} U_ik e_i`: row k is encoded towards `w_k - Σ_i U_ik e_i` by the encoder of
//! rows. Row coordinate descent follows: each row once more, towards what is best with all the others fixed,
//! `w_a - Σ_{b≠a} (H_ab / H_aa) e_b`, accepted if the whole loss falls.
//!
//! Rows of one tile do not hear of each other before the descent: the tiles are small where a tensor has few rows, and where
//! it has many, what is lost is little.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use kquant_kernels::lattice::Lattice;
use kquant_kernels::linalg::{View, ViewMut, gemm};
use rayon::prelude::*;

use super::run::{Losses, encode_rows};
use super::{Feedback, Hessian, Options};

/// Rows of one matrix product.
const PANEL: usize = 32;
/// Tiles that a tensor has at least, if they are not smaller than `FEWEST`.
const TILES: usize = 32;
/// Rows of the smallest and of the largest tile.
const FEWEST: usize = 8;
const MOST: usize = 256;

/// A tensor to encode with feedback on both sides.
pub struct BothSides<'a> {
    /// Of its inputs.
    pub inputs: &'a Feedback,
    /// Of its outputs, one column for each row of the tensor.
    pub outputs: &'a Feedback,
    /// The inputs' Hessian that decides, if it is not the training one.
    pub held_out: Option<&'a Hessian>,
    /// Of the type.
    pub lattice: &'static Lattice,
    /// What is to be encoded, `[rows][columns]`.
    pub targets: &'a [f32],
    /// How rows are encoded.
    pub options: &'a Options,
    /// Set from outside to stop early.
    pub cancel: &'a AtomicBool,
}

/// Rows under way.
struct Work<'a> {
    job: &'a BothSides<'a>,
    columns: usize,
    row_bytes: usize,
    /// `ŵ - w`, `[rows][columns]`, in the order of the outputs' feedback.
    errors: Vec<f32>,
}

impl BothSides<'_> {
    /// Encodes all rows into `out`. The losses are sums over rows, each weighted with its diagonal element of H_O over the mean
    /// one; that of the result is `tr(H_O E H E')`, by the mean diagonal element, on the statistics that decide.
    ///
    /// `None` when it was cancelled.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit.
    pub fn encode(&self, out: &mut [u8]) -> Option<Losses> {
        let (columns, rows) = (self.inputs.columns, self.outputs.columns);
        assert!(self.targets.len() == rows * columns, "{} targets for {rows} rows", self.targets.len());
        let row_bytes = columns / self.lattice.block.elements * self.lattice.block.bytes;
        let mut work = Work { job: self, columns, row_bytes, errors: vec![0.0; self.targets.len()] };
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
        losses.result = work.loss();
        Some(losses)
    }

    /// The Hessian of the inputs that decides.
    fn judge(&self) -> &[f32] {
        self.held_out.map_or(&self.inputs.hessian, |held_out| &held_out.mean)
    }

    /// Mean of the outputs' diagonal.
    fn unit(&self) -> f64 {
        let all = &self.outputs.importance;
        all.iter().map(|&x| f64::from(x)).sum::<f64>() / all.len() as f64
    }
}

/// The rows that are encoded together.
fn tiles(rows: usize) -> impl Iterator<Item = Range<usize>> {
    let size = (rows / TILES).next_multiple_of(FEWEST).clamp(FEWEST, MOST);
    (0..rows).step_by(size).map(move |first| first..rows.min(first + size))
}

impl Work<'_> {
    /// The targets of the rows that come at `tile` in the order.
    fn targets(&self, tile: Range<usize>) -> Vec<f32> {
        let row = |&row: &usize| &self.job.targets[row * self.columns..][..self.columns];
        self.job.outputs.order[tile].iter().flat_map(row).copied().collect()
    }

    /// Encodes a tile's rows towards what makes up for those before it.
    fn encode_tile(&mut self, tile: Range<usize>, out: &mut [u8]) -> Losses {
        let (job, n) = (self.job, self.columns);
        let weights = self.targets(tile.clone());
        let mut targets = weights.clone();
        let earlier = &self.errors[..tile.start * n];
        let rows = job.outputs.columns;
        let factors = &job.outputs.lower[tile.start * rows..];
        let factors = Rows { data: factors, stride: rows, columns: tile.start };
        factors.multiply(View::row_major(earlier, n), -1.0, &mut targets, n);
        let (bytes, losses) = self.encode_targets(&targets);
        let errors = self.errors_of(&bytes, &weights);
        self.errors[tile.start * n..tile.end * n].copy_from_slice(&errors);
        let (unit, mut total) = (job.unit(), Losses::default());
        for ((k, bytes), losses) in tile.zip(bytes.chunks_exact(self.row_bytes)).zip(losses) {
            let row = job.outputs.order[k];
            out[row * self.row_bytes..][..self.row_bytes].copy_from_slice(bytes);
            total.add(&losses.times(f64::from(job.outputs.importance[row]) / unit));
        }
        total
    }

    fn encode_targets(&self, targets: &[f32]) -> (Vec<u8>, Vec<Losses>) {
        let job = self.job;
        let mut bytes = vec![0; targets.len() / self.columns * self.row_bytes];
        let losses = encode_rows(job.inputs, job.held_out, job.lattice, targets, job.options, &mut bytes);
        (bytes, losses)
    }

    fn errors_of(&self, bytes: &[u8], weights: &[f32]) -> Vec<f32> {
        let mut errors = vec![0.0; weights.len()];
        (self.job.lattice.block.decode)(bytes, &mut errors);
        errors.iter_mut().zip(weights).for_each(|(error, weight)| *error -= weight);
        errors
    }

    /// `H_O E` at the rows of `tile`, H_O damped.
    fn pulls(&self, tile: &Range<usize>) -> Vec<f32> {
        let (outputs, n) = (self.job.outputs, self.columns);
        let rows = outputs.columns;
        let row = |&a: &usize| outputs.order.iter().map(move |&b| outputs.hessian[a * rows + b]);
        let fisher: Vec<f32> = outputs.order[tile.clone()].iter().flat_map(row).collect();
        let mut pulls = vec![0.0; tile.len() * n];
        Rows::new(&fisher, rows).multiply(View::row_major(&self.errors, n), 1.0, &mut pulls, n);
        pulls
    }

    /// Encodes a tile's rows again with all the others as they are, and keeps those by which the loss falls, one by one.
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
        let (bytes, _) = self.encode_targets(&targets);
        let mut changes = self.errors_of(&bytes, &weights);
        changes.iter_mut().zip(&self.errors[tile.start * n..]).for_each(|(change, error)| *change -= error);
        let products = self.through_judge(&changes);
        let mut among = vec![0.0; tile.len() * tile.len()];
        let turned = View::row_major(&changes, n).transposed();
        Rows::new(&products, n).multiply(turned, 1.0, &mut among, tile.len());
        let mut slopes: Vec<f64> =
            products.chunks_exact(n).zip(pulls.chunks_exact(n)).map(|(a, b)| dot(a, b)).collect();
        for a in 0..tile.len() {
            let k = tile.start + a;
            let curvature = f64::from(own(k)) * f64::from(among[a * tile.len() + a]);
            if 2.0 * slopes[a] + curvature >= 0.0 {
                continue;
            }
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

    /// `x H`, with the Hessian that decides.
    fn through_judge(&self, x: &[f32]) -> Vec<f32> {
        let mut product = vec![0.0; x.len()];
        let hessian = View::row_major(self.job.judge(), self.columns);
        Rows::new(x, self.columns).multiply(hessian, 1.0, &mut product, self.columns);
        product
    }

    /// `tr(H_O E H E')` in units of H_O's mean diagonal.
    fn loss(&self) -> f64 {
        let (n, rows) = (self.columns, self.job.outputs.columns);
        let of_tile = |tile: Range<usize>| {
            let products = self.through_judge(&self.errors[tile.start * n..tile.end * n]);
            dot(&products, &self.pulls(&tile))
        };
        tiles(rows).map(of_tile).sum::<f64>() / self.job.unit()
    }
}

/// A matrix by rows of `stride`, of which the first `columns` elements count.
struct Rows<'a> {
    data: &'a [f32],
    stride: usize,
    columns: usize,
}

impl<'a> Rows<'a> {
    fn new(data: &'a [f32], columns: usize) -> Self {
        Self { data, stride: columns, columns }
    }

    /// Adds `scale * self · b` to `out`, which has rows of `n`.
    fn multiply(&self, b: View, scale: f32, out: &mut [f32], n: usize) {
        if self.columns == 0 {
            return;
        }
        out.par_chunks_mut(PANEL * n).enumerate().for_each(|(panel, out)| {
            let rows = &self.data[panel * PANEL * self.stride..];
            let a = View::new(rows, out.len() / n, self.columns, self.stride, 1);
            gemm(ViewMut::row_major(out, n), a, b, scale, 1.0);
        });
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}
