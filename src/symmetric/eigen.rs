//! Eigenvectors of symmetric matrices: Householder reflections to a tridiagonal matrix, then implicit QL steps.
//!
//! The method is that of Golub and Van Loan, Matrix Computations, chapter 8. Only sums, products, quotients and square roots are used,
//! in a fixed order, so that every machine gives the same bits.

use rayon::prelude::*;

use super::{add_scaled, dot};

/// The most QL steps for one eigenvalue; a handful is usual.
const STEPS: usize = 60;
/// Number of rows that one task works on.
const ROWS: usize = 32;

/// Returns the eigenvectors of the symmetric matrix `a` `[n][n]` as rows `[n][n]`, with their eigenvalues; `None` if a value is not
/// finite or the steps do not converge.
pub(crate) fn eigenvectors(a: Vec<f64>, n: usize) -> Option<(Vec<f64>, Vec<f64>)> {
    if a.iter().any(|v| !v.is_finite()) {
        return None;
    }
    let mut reduced = Tridiagonal::of(a, n);
    for at in 0..n {
        reduced.separate(at)?;
    }
    Some((reduced.vectors, reduced.diagonal))
}

/// A tridiagonal matrix and the basis in which it stands for another.
struct Tridiagonal {
    n: usize,
    diagonal: Vec<f64>,
    /// Element i stands between diagonal elements i and i + 1; the last is 0.
    beside: Vec<f64>,
    /// Rows of the basis, `[n][n]`.
    vectors: Vec<f64>,
}

impl Tridiagonal {
    /// Reflects `a` `[n][n]` column by column.
    fn of(mut a: Vec<f64>, n: usize) -> Self {
        let mut beside = vec![0.0; n];
        let mut reflections = Vec::new();
        for k in 0..n.saturating_sub(2) {
            let mut v = a[k * n + k + 1..(k + 1) * n].to_vec();
            let length = dot(&v, &v).sqrt();
            let image = if v[0] > 0.0 { -length } else { length };
            v[0] -= image;
            let square = dot(&v, &v);
            beside[k] = image;
            if square > 0.0 {
                let factor = 2.0 / square;
                reflect(&mut a, n, k + 1, &v, factor);
                reflections.push((k + 1, v, factor));
            } else {
                beside[k] = 0.0;
            }
        }
        if n > 1 {
            beside[n - 2] = a[(n - 1) * n + n - 2];
        }
        let diagonal = a.iter().step_by(n + 1).copied().collect();
        Self { n, diagonal, beside, vectors: basis(&reflections, n) }
    }

    /// Makes element `l` beside the diagonal zero, with those before it zero already.
    fn separate(&mut self, l: usize) -> Option<()> {
        for _ in 0..STEPS {
            let m = (l..self.n).find(|&m| self.is_negligible(m)).unwrap_or(self.n - 1);
            if m == l {
                return Some(());
            }
            self.step(l, m);
        }
        None
    }

    fn is_negligible(&self, m: usize) -> bool {
        let around = self.diagonal[m].abs() + self.diagonal.get(m + 1).map_or(0.0, |d| d.abs());
        self.beside[m].abs() <= f64::EPSILON * around
    }

    /// Makes a QL step with Wilkinson's shift in rows `l..=m`.
    fn step(&mut self, l: usize, m: usize) {
        let (d, e) = (&mut self.diagonal, &mut self.beside);
        let half = (d[l + 1] - d[l]) / (2.0 * e[l]);
        let root = (half * half + 1.0).sqrt();
        let shift = d[l] - e[l] / (half + if half < 0.0 { -root } else { root });
        let (mut s, mut c, mut moved) = (1.0, 1.0, 0.0);
        let mut g = d[m] - shift;
        let mut turns = Vec::new();
        for i in (l..m).rev() {
            let (f, b) = (s * e[i], c * e[i]);
            let r = (f * f + g * g).sqrt();
            e[i + 1] = r;
            if r == 0.0 {
                d[i + 1] -= moved;
                e[m] = 0.0;
                self.turn(&turns);
                return;
            }
            (s, c) = (f / r, g / r);
            g = d[i + 1] - moved;
            let t = (d[i] - g) * s + 2.0 * c * b;
            moved = s * t;
            d[i + 1] = g + moved;
            g = c * t - b;
            turns.push((i, c, s));
        }
        d[l] -= moved;
        e[l] = g;
        e[m] = 0.0;
        self.turn(&turns);
    }

    /// Turns neighbouring rows of the basis: rows i and i + 1 by (c, s).
    fn turn(&mut self, turns: &[(usize, f64, f64)]) {
        let n = self.n;
        for &(i, c, s) in turns {
            let (low, high) = self.vectors.split_at_mut((i + 1) * n);
            for (low, high) in low[i * n..].iter_mut().zip(&mut high[..n]) {
                (*high, *low) = (s * *low + c * *high, c * *low - s * *high);
            }
        }
    }
}

/// Replaces `a` by `P a P` on rows and columns from `first` on, with `P = 1 - factor v v'`.
fn reflect(a: &mut [f64], n: usize, first: usize, v: &[f64], factor: f64) {
    let below = &mut a[first * n..];
    let product: Vec<f64> = below.par_chunks(n).map(|row| factor * dot(&row[first..], v)).collect();
    let along = factor / 2.0 * dot(v, &product);
    let mut w = product;
    add_scaled(&mut w, -along, v);
    below.par_chunks_mut(ROWS * n).enumerate().for_each(|(batch, rows)| {
        for (i, row) in rows.chunks_exact_mut(n).enumerate() {
            let i = batch * ROWS + i;
            add_scaled(&mut row[first..], -v[i], &w);
            add_scaled(&mut row[first..], -w[i], v);
        }
    });
}

/// Returns the product of the reflections, from the last to the first, as rows: row i is the image of unit vector i.
fn basis(reflections: &[(usize, Vec<f64>, f64)], n: usize) -> Vec<f64> {
    let mut rows = vec![0.0; n * n];
    rows.iter_mut().step_by(n + 1).for_each(|v| *v = 1.0);
    rows.par_chunks_mut(n).for_each(|row| {
        for (first, v, factor) in reflections.iter().rev() {
            let along = factor * dot(&row[*first..], v);
            add_scaled(&mut row[*first..], -along, v);
        }
    });
    rows
}

#[cfg(test)]
mod tests {
    use super::super::samples::{noise, positive_definite};
    use super::super::{product_transposed, transposed};
    use super::*;

    /// Checks that the rows are orthonormal and that the matrix stretches each by its value.
    fn check(a: Vec<f64>, n: usize) {
        let (vectors, values) = eigenvectors(a.clone(), n).unwrap();
        let unit = product_transposed(&vectors, &vectors, n);
        let image = product_transposed(&vectors, &a, n);
        let size = values.iter().fold(1e-300, |size: f64, v| size.max(v.abs()));
        for i in 0..n {
            for j in 0..n {
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!((unit[i * n + j] - expected).abs() < 1e-11, "{n}: {i} {j}");
                let error = image[i * n + j] - values[i] * vectors[i * n + j];
                assert!(error.abs() < 1e-11 * size, "{n}: {i} {j} {error}");
            }
        }
    }

    #[test]
    fn eigenvectors_are_stretched_by_their_values() {
        for n in [1, 2, 3, 7, 33, 100] {
            check(positive_definite(n, 5), n);
            // Not positive definite.
            let x = noise(n * n, 9);
            let y = transposed(&x, n);
            check(x.iter().zip(&y).map(|(x, y)| x + y).collect(), n);
        }
    }

    #[test]
    fn equal_and_zero_values_are_found_too() {
        check(vec![0.0; 25], 5);
        let mut unit = vec![0.0; 36];
        unit.iter_mut().step_by(7).for_each(|v| *v = 3.0);
        check(unit, 6);
        // Rank one.
        let x = noise(40, 2);
        check(x.iter().flat_map(|a| x.iter().map(move |b| a * b)).collect(), 40);
        assert!(eigenvectors(vec![1.0, f64::NAN, f64::NAN, 1.0], 2).is_none());
    }
}
