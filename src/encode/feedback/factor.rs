//! The factorization `A = U D U'` with U unit upper triangular, block by block from the last to the first: a reverse
//! Cholesky decomposition without square roots.

use kquant_kernels::feedback::{LANES, Lanes, Tiles, factor_block, substitute, subtract_outer};
use kquant_kernels::linalg::{View, ViewMut, gemm};
use rayon::prelude::*;

/// Number of columns of a block.
const BLOCK: usize = 128;

/// The floating-point type that a matrix is factored in.
pub(super) trait Real: Copy + Send + Sync + Into<f64> {
    /// Rounds `x` to this type.
    fn of(x: f64) -> Self;

    /// Rounds a whole matrix to f32.
    fn into_f32(a: Vec<Self>) -> Vec<f32>;

    /// Solves `y_k = x_k - Σ_{m>k} lower[m][k] y_m` for rows `x` `[b][columns]` in place; `lower` is `[b][b]`.
    fn solve(lower: &[f64], x: &mut [Self], columns: usize);

    /// Computes `out -= factors' · panel`: `out` has `rows` rows of `stride` elements, of which the first `columns`
    /// count; `factors` is `[b][..]` in rows of `columns_all` elements and begins at the first of the rows; `panel` is
    /// `[b][columns_all]`.
    fn update(out: &mut [Self], shape: Update, factors: &[Self], panel: &[Self]);
}

/// The shape of one band's update, as [`Real::update`] takes it.
#[derive(Clone, Copy)]
pub(super) struct Update {
    rows: usize,
    columns: usize,
    stride: usize,
    columns_all: usize,
    b: usize,
}

/// The error of a pivot below its least value.
pub(super) struct NotPositive;

/// Factors the symmetric `a` `[n][n]`, of which only the lower triangle is read. Afterwards `a` holds `U'`, with ones on
/// the diagonal and zeros above; D is returned. Each pivot must reach its element of `least` `[n]`; n is a multiple of 8.
pub(super) fn factor<R: Real>(a: &mut [R], least: &[f64]) -> Result<Vec<f64>, NotPositive> {
    let n = least.len();
    let mut pivots = vec![0.0; n];
    for first in (0..n).step_by(BLOCK).rev() {
        let end = n.min(first + BLOCK);
        let lower = diagonal(a, first, &mut pivots[first..end], &least[first..end])?;
        let b = end - first;
        let mut panel: Vec<R> = Vec::with_capacity(b * first);
        for row in a[first * n..end * n].chunks_exact(n) {
            panel.extend_from_slice(&row[..first]);
        }
        R::solve(&lower, &mut panel, first);
        let mut factors = panel.clone();
        factors.par_chunks_mut(first.max(1)).zip(&pivots[first..end]).for_each(|(row, pivot)| {
            row.iter_mut().for_each(|x| *x = R::of((*x).into() / pivot));
        });
        for (k, row) in a[first * n..end * n].chunks_exact_mut(n).enumerate() {
            row[..first].copy_from_slice(&factors[k * first..][..first]);
            row[end..].fill(R::of(0.0));
        }
        a[..first * n].par_chunks_mut(BLOCK * n).enumerate().for_each(|(band, out)| {
            let start = band * BLOCK;
            let rows = out.len() / n;
            let shape = Update { rows, columns: start + rows, stride: n, columns_all: first, b };
            R::update(out, shape, &factors[start..], &panel);
        });
    }
    Ok(pivots)
}

/// Factors the block on the diagonal in f64 and returns its part of `U'`, `[b][b]`.
fn diagonal<R: Real>(
    a: &mut [R],
    first: usize,
    pivots: &mut [f64],
    least: &[f64],
) -> Result<Vec<f64>, NotPositive> {
    let (n, b) = (first + pivots.len(), pivots.len());
    let stride = a.len().isqrt();
    let rows = a[first * stride..n * stride].chunks_exact_mut(stride);
    let mut block: Vec<f64> = Vec::with_capacity(b * b);
    for row in rows {
        block.extend(row[first..n].iter().map(|&x| x.into()));
    }
    if !factor_block(&mut block, pivots, least) {
        return Err(NotPositive);
    }
    for (row, block) in a[first * stride..n * stride].chunks_exact_mut(stride).zip(block.chunks_exact(b)) {
        for (x, &factor) in row[first..n].iter_mut().zip(block) {
            *x = R::of(factor);
        }
    }
    Ok(block)
}

impl Real for f32 {
    fn of(x: f64) -> Self {
        x as f32
    }

    fn into_f32(a: Vec<Self>) -> Vec<f32> {
        a
    }

    fn solve(lower: &[f64], x: &mut [Self], columns: usize) {
        let b = lower.len().isqrt();
        // The system is solved from its last row; with the order of rows and columns reversed, it is one that is solved
        // from the first.
        let turned: Vec<f32> =
            (0..b * b).map(|i| lower[(b - 1 - i % b) * b + (b - 1 - i / b)] as f32).collect();
        let within = Tiles::new(&turned, b, b, b);
        let solved: Vec<Vec<Lanes>> = (0..columns / LANES)
            .into_par_iter()
            .map(|strip| {
                let row = |k: usize| &x[(b - 1 - k) * columns + strip * LANES..][..LANES];
                let strip: Vec<Lanes> = (0..b).map(|k| std::array::from_fn(|l| row(k)[l])).collect();
                let mut solved = vec![[0.0; LANES]; b];
                substitute(&within, &strip, &mut solved);
                solved
            })
            .collect();
        for (strip, solved) in solved.iter().enumerate() {
            for (k, solved) in solved.iter().enumerate() {
                x[(b - 1 - k) * columns + strip * LANES..][..LANES].copy_from_slice(solved);
            }
        }
    }

    fn update(out: &mut [Self], shape: Update, factors: &[Self], panel: &[Self]) {
        let Update { rows, columns, stride, columns_all, b } = shape;
        gemm(
            ViewMut::new(out, rows, columns, stride, 1),
            View::new(factors, rows, b, 1, columns_all),
            View::new(panel, b, columns, columns_all, 1),
            -1.0,
            1.0,
        );
    }
}

impl Real for f64 {
    fn of(x: f64) -> Self {
        x
    }

    fn into_f32(a: Vec<Self>) -> Vec<f32> {
        a.iter().map(|&x| x as f32).collect()
    }

    fn solve(lower: &[f64], x: &mut [Self], columns: usize) {
        let b = lower.len().isqrt();
        if columns == 0 {
            return;
        }
        for k in (0..b).rev() {
            let (row, later) = x[k * columns..].split_at_mut(columns);
            let factors: Vec<f64> = (k + 1..b).map(|m| lower[m * b + k]).collect();
            subtract_outer(row, &factors, later, columns);
        }
    }

    fn update(out: &mut [Self], shape: Update, factors: &[Self], panel: &[Self]) {
        let Update { columns, stride, columns_all, b, .. } = shape;
        for (i, row) in out.chunks_exact_mut(stride).enumerate() {
            let factors: Vec<f64> = (0..b).map(|k| factors[k * columns_all + i]).collect();
            subtract_outer(&mut row[..columns], &factors, panel, columns_all);
        }
    }
}
