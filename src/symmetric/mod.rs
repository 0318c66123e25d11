//! Symmetric matrices in f64: inverse, eigenvectors and products, with sums in a fixed order whatever the number of
//! threads.

mod eigen;

use rayon::prelude::*;

pub(crate) use eigen::eigenvectors;

/// Number of rows that are worked on together, so that what they read stays in the cache.
const ROWS: usize = 32;

/// Returns the sum of the products of `a` and `b`, in eight chains that are added at the end.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a8, a_rest), (b8, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a8.iter().zip(b8) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

/// Adds `factor * x` to `out`.
pub(crate) fn add_scaled(out: &mut [f64], factor: f64, x: &[f64]) {
    out.iter_mut().zip(x).for_each(|(out, x)| *out += factor * x);
}

/// Returns `a · b'`, `[rows of a][rows of b]`, for rows of `columns` values.
pub(crate) fn product_transposed(a: &[f64], b: &[f64], columns: usize) -> Vec<f64> {
    let width = b.len() / columns;
    let mut out = vec![0.0; a.len() / columns * width];
    out.par_chunks_mut(ROWS * width).zip(a.par_chunks(ROWS * columns)).for_each(|(out, a)| {
        for (j, b) in b.chunks_exact(columns).enumerate() {
            for (i, a) in a.chunks_exact(columns).enumerate() {
                out[i * width + j] = dot(a, b);
            }
        }
    });
    out
}

/// Returns the transpose of `a`, whose rows have `columns` values.
pub(crate) fn transposed<T: Copy + Default + Send + Sync>(a: &[T], columns: usize) -> Vec<T> {
    let rows = a.len() / columns;
    let mut out = vec![T::default(); a.len()];
    out.par_chunks_mut(rows.max(1)).enumerate().for_each(|(j, out)| {
        out.iter_mut().enumerate().for_each(|(i, out)| *out = a[i * columns + j]);
    });
    out
}

/// Returns the inverse of the symmetric matrix `a` `[n][n]`; `None` if it is not positive definite.
pub(crate) fn inverse(mut a: Vec<f64>, n: usize) -> Option<Vec<f64>> {
    cholesky(&mut a, n)?;
    // Row c is column c of the inverse of the lower factor, whose values before c are zero.
    let mut columns = vec![0.0; n * n];
    columns.par_chunks_mut(ROWS * n).enumerate().for_each(|(batch, batched)| {
        let first = batch * ROWS;
        for i in first..n {
            let row = &a[i * n..i * n + n];
            for (c, x) in (first..=i).zip(batched.chunks_exact_mut(n)) {
                let unit = if c == i { 1.0 } else { 0.0 };
                x[i] = (unit - dot(&row[c..i], &x[c..i])) / row[i];
            }
        }
    });
    a.par_chunks_mut(ROWS * n).enumerate().for_each(|(batch, rows)| {
        for (d, y) in columns.chunks_exact(n).enumerate() {
            for (i, row) in rows.chunks_exact_mut(n).enumerate() {
                let c = batch * ROWS + i;
                let from = c.max(d);
                row[d] = dot(&columns[c * n + from..(c + 1) * n], &y[from..]);
            }
        }
    });
    Some(a)
}

/// Replaces `a` `[n][n]`, on and below the diagonal, by its lower Cholesky factor.
fn cholesky(a: &mut [f64], n: usize) -> Option<()> {
    for first in (0..n).step_by(ROWS) {
        let last = n.min(first + ROWS);
        let (above, below) = a.split_at_mut(last * n);
        for i in first..last {
            factor_row(&mut above[first * n..], i - first, first, n)?;
        }
        let panel = &above[first * n..];
        below.par_chunks_mut(n).for_each(|row| {
            for (k, other) in panel.chunks_exact(n).enumerate() {
                let j = first + k;
                row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
            }
        });
    }
    Some(())
}

/// Factors row `i` of `panel`, whose rows begin with row `first` of the matrix, after the rows above it.
fn factor_row(panel: &mut [f64], i: usize, first: usize, n: usize) -> Option<()> {
    let (above, row) = panel.split_at_mut(i * n);
    let row = &mut row[..n];
    for (k, other) in above.chunks_exact(n).enumerate() {
        let j = first + k;
        row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
    }
    let j = first + i;
    let pivot = row[j] - dot(&row[..j], &row[..j]);
    row[j] = pivot.sqrt();
    (pivot > 0.0 && pivot.is_finite()).then_some(())
}

/// Matrices for tests.
#[cfg(test)]
pub(crate) mod samples {
    use super::product_transposed;

    /// Numbers from -1 to 1 that look random.
    pub(crate) fn noise(len: usize, seed: u64) -> Vec<f64> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    /// A positive definite matrix `[n][n]`.
    pub(crate) fn positive_definite(n: usize, seed: u64) -> Vec<f64> {
        let x = noise(n * (n + 3), seed);
        let mut a = product_transposed(&x, &x, n + 3);
        a.iter_mut().step_by(n + 1).for_each(|v| *v += 0.1);
        a
    }
}

#[cfg(test)]
mod tests {
    use super::samples::positive_definite;
    use super::*;

    #[test]
    fn a_matrix_times_its_inverse_is_the_identity() {
        for n in [1, 7, 32, 33, 100] {
            let a = positive_definite(n, 5);
            let inverted = inverse(a.clone(), n).unwrap();
            let identity = product_transposed(&a, &inverted, n);
            for (at, value) in identity.iter().enumerate() {
                let expected = if at / n == at % n { 1.0 } else { 0.0 };
                assert!((value - expected).abs() < 1e-10, "{n}: {at}: {value}");
            }
        }
        assert!(inverse(vec![1.0, 2.0, 2.0, 1.0], 2).is_none());
    }

    #[test]
    fn transposing_swaps_rows_and_columns() {
        assert_eq!(transposed(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }
}
