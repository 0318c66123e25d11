//! Statistics of one input of linear maps over the tokens: second moments of the quantized stream, and its cross moments
//! with what quantization has lost so far.

use kquant_kernels::linalg::{View, ViewMut, gemm, mirror, syrk};
use rayon::prelude::*;

use crate::encode::feedback::Hessian;

/// Sums over tokens.
#[derive(Debug)]
pub(crate) struct InputMoments {
    tokens: u64,
    columns: usize,
    lost: usize,
    /// The sum of `x'x` over the tokens, `[n][n]`, on and above the diagonal.
    outer: Vec<f32>,
    /// The sum of `lost' x` over the tokens, `[k][n]`, with `lost` `[tokens][k]`.
    cross: Vec<f32>,
}

/// Means over tokens.
#[derive(Debug)]
pub(crate) struct MeanMoments {
    /// The mean of `x'x`.
    pub hessian: Hessian,
    /// The mean of `lost' x`, `[k][n]`, with `lost` `[tokens][k]`; `None` if no losses are known.
    pub cross: Option<Vec<f32>>,
}

impl InputMoments {
    /// Creates empty sums for inputs of `columns` columns and losses of width `lost`; a width of 0 stands for no losses.
    pub(crate) fn new(columns: usize, lost: usize) -> Self {
        let zeros = |rows: usize| vec![0.0; rows * columns];
        Self { tokens: 0, columns, lost, outer: zeros(columns), cross: zeros(lost) }
    }

    /// Returns the number of columns of the inputs.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Returns the width of the losses.
    pub(crate) fn lost(&self) -> usize {
        self.lost
    }

    /// Adds tokens: their inputs `x` `[tokens][columns]` and losses `lost` `[tokens][lost]`.
    ///
    /// Every element is one chain of sums over the tokens in their order, so it does not matter how the tokens are
    /// divided.
    pub(crate) fn add(&mut self, x: &[f32], lost: &[f32]) {
        let (n, k) = (self.columns, self.lost);
        let tokens = x.len() / n;
        let panel = panel(n);
        self.outer.par_chunks_mut(panel * n).enumerate().for_each(|(i, rows)| {
            let (first, count) = (i * panel, rows.len() / n);
            let rows = ViewMut::new(&mut rows[first..], count, n - first, n, 1);
            syrk(rows, View::new(&x[first..], tokens, n - first, n, 1), 1.0, 1.0);
        });
        self.cross.par_chunks_mut(panel * n).enumerate().for_each(|(i, rows)| {
            let (first, count) = (i * panel, rows.len() / n);
            let left = View::new(&lost[first..], tokens, count, k, 1).transposed();
            gemm(ViewMut::row_major(rows, n), left, View::row_major(x, n), 1.0, 1.0);
        });
        self.tokens += tokens as u64;
    }

    /// Returns the means; `None` if there are no tokens.
    pub(crate) fn means(mut self) -> Option<MeanMoments> {
        let n = self.columns;
        if self.tokens == 0 {
            return None;
        }
        mirror(&mut self.outer, n);
        let tokens = self.tokens as f32;
        self.outer.par_iter_mut().chain(self.cross.par_iter_mut()).for_each(|v| *v /= tokens);
        let hessian = Hessian { columns: n, mean: self.outer, tokens: self.tokens };
        Some(MeanMoments { hessian, cross: (self.lost > 0).then_some(self.cross) })
    }
}

/// Returns the number of rows that one task sums: there are enough tasks for the threads and enough work in each. The
/// choice changes no bit of the result.
fn panel(columns: usize) -> usize {
    (columns / 8).next_multiple_of(32).clamp(32, 512)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize, seed: u64) -> Vec<f32> {
        (0..len as u64).map(|i| ((i + seed) * 7919 % 2003) as f32 / 1001.0 - 1.0).collect()
    }

    #[test]
    fn moments_are_means_of_products_however_the_tokens_are_cut() {
        let (tokens, n, k) = (70, 96, 40);
        let (x, lost) = (noise(tokens * n, 1), noise(tokens * k, 2));
        let summed = |cuts: &[usize]| {
            let mut moments = InputMoments::new(n, k);
            let mut from = 0;
            for &to in cuts {
                moments.add(&x[from * n..to * n], &lost[from * k..to * k]);
                from = to;
            }
            let means = moments.means().unwrap();
            (means.hessian.mean, means.cross.unwrap())
        };
        let (outer, crossed) = summed(&[70]);
        for (i, j) in [(0, 0), (3, 90), (90, 3), (50, 51)] {
            let exact: f64 = (0..tokens).map(|t| f64::from(x[t * n + i]) * f64::from(x[t * n + j])).sum();
            assert!((f64::from(outer[i * n + j]) - exact / tokens as f64).abs() < 1e-5);
        }
        let exact: f64 = (0..tokens).map(|t| f64::from(lost[t * k + 39]) * f64::from(x[t * n + 7])).sum();
        assert!((f64::from(crossed[39 * n + 7]) - exact / tokens as f64).abs() < 1e-5);
        let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let parts = summed(&[1, 20, 21, 70]);
        assert!(bits(&parts.0) == bits(&outer) && bits(&parts.1) == bits(&crossed));
        assert!(InputMoments::new(n, k).means().is_none());
    }
}
