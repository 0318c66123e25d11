//! Sums of the outer products of activations.

use kquant_formats::hessian::packed_row;
use kquant_kernels::linalg::{View, ViewMut, gemm};
use rayon::prelude::*;

/// Number of rows of the triangle that one task sums.
const PANEL: usize = 128;
/// Number of columns of one product, which together with [`PANEL`] rows stays in a thread's second-level cache.
const WIDTH: usize = 512;

/// Adds `x'x` of one block of text `x` `[rows][n]` to `sums`, a packed upper triangle of `n` rows.
///
/// Products are summed in f32 over the rows of the block and added to the f64 sums. The division of the triangle depends
/// on `n` alone.
///
/// # Panics
/// Panics when `x` is not a whole number of rows, or `sums` has not the size of the triangle.
pub(super) fn add_outer(sums: &mut [f64], x: &[f32], n: usize) {
    assert!(x.len().is_multiple_of(n), "{} values are no rows of {n}", x.len());
    let mut panels = Vec::new();
    let mut rest = sums;
    for first in (0..n).step_by(PANEL) {
        let end = n.min(first + PANEL);
        let (panel, after) = rest.split_at_mut(packed_row(n, end).start - packed_row(n, first).start);
        panels.push((first, end - first, panel));
        rest = after;
    }
    assert!(rest.is_empty(), "the sums are more than a triangle of {n} rows");
    panels.into_par_iter().for_each_init(
        || vec![0.0; PANEL * WIDTH],
        |product, (first, rows, sums)| {
            for from in (first..n).step_by(WIDTH) {
                let width = WIDTH.min(n - from);
                let product = &mut product[..rows * width];
                gemm(
                    ViewMut::row_major(product, width),
                    columns(x, n, first, rows).transposed(),
                    columns(x, n, from, width),
                    1.0,
                    0.0,
                );
                for (row, product) in product.chunks_exact(width).enumerate() {
                    // In the part right of `first`, the columns from `row` on belong to the triangle.
                    let sums = &mut sums[packed_row(n - first, row)];
                    let skipped = (first + row).saturating_sub(from).min(width);
                    let at = from + skipped - first - row;
                    for (sum, &v) in sums[at..].iter_mut().zip(&product[skipped..]) {
                        *sum += f64::from(v);
                    }
                }
            }
        },
    );
}

/// Returns a view of the columns `first..first + width` of `x` `[rows][n]`.
fn columns(x: &[f32], n: usize, first: usize, width: usize) -> View<'_> {
    View::new(x.get(first..).unwrap_or_default(), x.len() / n, width, n, 1)
}

#[cfg(test)]
mod tests {
    use kquant_formats::hessian::packed;

    use super::*;

    /// Returns small integers, of which all sums are exact.
    fn integers(rows: usize, n: usize) -> Vec<f32> {
        (0..rows * n).map(|i| ((i * 37 + i / n * 11) % 17) as f32 - 8.0).collect()
    }

    fn naive(x: &[f32], n: usize) -> Vec<f64> {
        let product = |i, j| x.chunks(n).map(|row| f64::from(row[i]) * f64::from(row[j])).sum();
        (0..n).flat_map(|i| (i..n).map(move |j| product(i, j))).collect()
    }

    #[test]
    fn sums_are_those_of_the_definition() {
        for (rows, n) in
            [(1, 1), (5, 7), (3, PANEL), (9, PANEL + 1), (4, WIDTH + PANEL + 3), (2, 2 * WIDTH + 1)]
        {
            let x = integers(rows, n);
            let mut sums = vec![0.0; packed(n)];
            add_outer(&mut sums, &x, n);
            assert!(sums == naive(&x, n), "{rows} x {n}");
            add_outer(&mut sums, &x, n);
            assert!(
                sums.iter().zip(naive(&x, n)).all(|(&sum, once)| sum == 2.0 * once),
                "{rows} x {n} twice"
            );
        }
    }

    #[test]
    fn threads_change_no_bit() {
        let n = 3 * PANEL + 5;
        let x: Vec<f32> = integers(64, n).iter().map(|v| v * 0.1).collect();
        let of = |threads: usize| {
            let mut sums = vec![0.0; packed(n)];
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| add_outer(&mut sums, &x, n));
            sums
        };
        assert!(of(1) == of(3));
    }
}
