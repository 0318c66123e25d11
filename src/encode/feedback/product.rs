//! Matrix products on all threads.

use kquant_kernels::linalg::{View, ViewMut, gemm};
use rayon::prelude::*;

/// Number of columns of the widest part: a thread copies the left factor for each part, but each row of the right one for
/// its own part alone.
const WIDEST: usize = 1024;
/// Number of columns of the narrowest part.
const NARROWEST: usize = 64;

/// A matrix in rows of `stride` elements, of which the first `columns` count.
pub(super) struct StridedRows<'a> {
    pub(super) data: &'a [f32],
    pub(super) stride: usize,
    pub(super) columns: usize,
}

impl<'a> StridedRows<'a> {
    /// Creates a view of all of `data` `[rows][columns]`.
    pub(super) fn new(data: &'a [f32], columns: usize) -> Self {
        Self { data, stride: columns, columns }
    }

    /// Adds `scale * self · b` to `out`, which has rows of `n` elements.
    ///
    /// Parts are columns of `out`, not rows, because the right factor is the large one: it has as many rows as there are
    /// errors, and is read from memory only once.
    pub(super) fn multiply(&self, b: View, scale: f32, out: &mut [f32], n: usize) {
        let (inputs, rows) = (self.columns, out.len() / n);
        if inputs == 0 {
            return;
        }
        let a = View::new(self.data, rows, inputs, self.stride, 1);
        let width = n.div_ceil(2 * rayon::current_num_threads()).next_multiple_of(NARROWEST).min(WIDEST);
        let part = |first: usize| {
            let width = width.min(n - first);
            let mut sums = Vec::with_capacity(rows * width);
            out.chunks_exact(n).for_each(|row| sums.extend_from_slice(&row[first..first + width]));
            gemm(ViewMut::row_major(&mut sums, width), a, b.columns(first..first + width), scale, 1.0);
            (first, sums)
        };
        let firsts: Vec<usize> = (0..n).step_by(width).collect();
        let parts: Vec<(usize, Vec<f32>)> = firsts.into_par_iter().map(part).collect();
        for (first, sums) in parts {
            let width = sums.len() / rows;
            for (row, sums) in out.chunks_exact_mut(n).zip(sums.chunks_exact(width)) {
                row[first..first + width].copy_from_slice(sums);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_show() {
        let noise =
            |n: usize| -> Vec<f32> { (0..n).map(|i| (i * 7919 % 1009) as f32 / 500.0 - 1.0).collect() };
        let (rows, inputs, stride) = (5, 33, 40);
        let a = noise(rows * stride);
        let a = StridedRows { data: &a, stride, columns: inputs };
        for n in [1, 63, 64, 200, 2500] {
            let (b, before) = (noise(inputs * n), noise(rows * n));
            for b in [View::row_major(&b, n), View::row_major(&b, inputs).transposed()] {
                let (mut whole, mut parts) = (before.clone(), before.clone());
                let left = View::new(a.data, rows, inputs, stride, 1);
                gemm(ViewMut::row_major(&mut whole, n), left, b, -1.0, 1.0);
                a.multiply(b, -1.0, &mut parts, n);
                assert!(whole.iter().zip(&parts).all(|(a, b)| a.to_bits() == b.to_bits()), "{n} columns");
            }
        }
    }
}
