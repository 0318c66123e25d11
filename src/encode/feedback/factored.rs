//! A damped Hessian with its factors.

use kquant_kernels::feedback::{LANES, Lanes, Tiles, substitute};
use kquant_kernels::linalg::{View, ViewMut, gemm};
use rayon::prelude::*;
use thiserror::Error;

use super::Hessian;
use super::factor::{NotPositive, Real, factor};
use super::tile::{BATCH, set_strip, strip, strips_for, to_tile};

/// The damping of a Hessian: `mean * mean(diag) + diagonal * diag` is added to its diagonal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Damping {
    /// The part of the damping that is the same for all elements, as a fraction of the diagonal's mean.
    pub mean: f64,
    /// The part of the damping that is proportional to each element, as a fraction of it.
    pub diagonal: f64,
}

/// The reason why a Hessian gives no feedback; the remedy is to encode without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FeedbackError {
    /// The matrix is not `[n][n]`, or n is no multiple of 8.
    #[error("a Hessian of {elements} elements is none of {columns} columns, a multiple of 8")]
    Shape {
        /// Number of columns that the Hessian claims.
        columns: usize,
        /// Number of elements that the Hessian holds.
        elements: usize,
    },
    /// The Hessian holds a NaN, an infinity or a negative mean square.
    #[error("the Hessian of the inputs is not finite, or a mean square in it is negative")]
    NotFinite,
    /// All activations are 0.
    #[error("the inputs were zero in all of the calibration text")]
    Inactive,
    /// A pivot is too small even with more damping.
    #[error("the Hessian of the inputs has no factors, even damped by {damping} of its mean")]
    NotPositive {
        /// Damping of the last attempt, in millionths of the diagonal's mean.
        damping: Millionths,
    },
}

/// A fraction in millionths, which can be compared for equality.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Millionths(u64);

impl std::fmt::Display for Millionths {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0 as f64 / 1e6)
    }
}

impl Damping {
    /// Returns the damping for a Hessian of `tokens` vectors of length `columns`: `0.15 columns / tokens` of the mean,
    /// between 0.01 and 0.3. All tokens count as independent.
    pub fn for_tokens(columns: usize, tokens: u64) -> Self {
        let mean = (0.15 * columns as f64 / tokens.max(1) as f64).clamp(0.01, 0.3);
        Self { mean, diagonal: 0.0 }
    }
}

/// The factors `H' = U D U'` of the damped Hessian with its columns in order of falling activation: they say how the
/// error of a column is compensated by the columns after it.
#[derive(Debug)]
pub struct Feedback {
    pub(super) columns: usize,
    /// Column at each place of the order.
    pub(super) order: Vec<usize>,
    /// The damped Hessian, `[n][n]`, with columns in the order of the tensor.
    pub(super) hessian: Vec<f32>,
    /// The Hessian's diagonal before damping, `[n]`, with columns in the order of the tensor.
    pub(super) importance: Vec<f32>,
    /// What the damping added to the diagonal, `[n]`, with columns in the order of the tensor.
    pub(super) added: Vec<f32>,
    /// The factor `U'`, `[n][n]`, in rounding order: row k holds the weights of the errors before column k in its target.
    pub(super) lower: Vec<f32>,
    /// The pivots D, `[n]`, in rounding order.
    pub(super) pivots: Vec<f32>,
    /// Number of neighbouring columns that stay together in the order.
    pub(super) unit: usize,
    damping: Damping,
    in_f64: bool,
}

/// The factor by which damping grows when it did not suffice.
const MORE_DAMPING: f64 = 10.0;

impl Feedback {
    /// Damps and factors `train`: in f32, in f64 if a pivot is too small in f32, and once more with ten times the damping
    /// if it is too small in f64 as well.
    ///
    /// # Errors
    ///
    /// Fails when `train` is not a Hessian or has no factors even with more damping.
    pub fn new(train: Hessian, damping: Damping) -> Result<Self, FeedbackError> {
        Self::in_units(train, damping, 1)
    }

    /// Damps and factors `train` as [`Feedback::new`] does, for types that round `unit` columns together.
    ///
    /// # Errors
    ///
    /// Fails as [`Feedback::new`] does.
    pub fn in_units(train: Hessian, damping: Damping, unit: usize) -> Result<Self, FeedbackError> {
        let Hessian { columns, mean: hessian, .. } = train;
        if columns == 0 || !columns.is_multiple_of(8) || hessian.len() != columns * columns {
            return Err(FeedbackError::Shape { columns, elements: hessian.len() });
        }
        let diagonal: Vec<f32> = hessian.iter().copied().step_by(columns + 1).collect();
        let is_finite = hessian.par_chunks(columns).all(|row| row.iter().all(|x| x.is_finite()));
        if !is_finite || diagonal.iter().any(|&x| x < 0.0) {
            return Err(FeedbackError::NotFinite);
        }
        if diagonal.iter().all(|&x| x == 0.0) {
            return Err(FeedbackError::Inactive);
        }
        let mut feedback = Self {
            columns,
            order: Vec::new(),
            hessian,
            importance: diagonal,
            unit: 0,
            added: vec![0.0; columns],
            lower: Vec::new(),
            pivots: Vec::new(),
            damping,
            in_f64: false,
        };
        feedback.damp(damping);
        feedback.arrange(unit)?;
        Ok(feedback)
    }

    /// Orders columns by falling activation, keeping `unit` neighbours together, and factors the Hessian anew if the
    /// order changed.
    ///
    /// # Errors
    ///
    /// Fails when there are no factors even with more damping.
    pub fn arrange(&mut self, unit: usize) -> Result<(), FeedbackError> {
        if unit == self.unit {
            return Ok(());
        }
        self.order = in_order(&self.importance, unit);
        self.unit = unit;
        let Damping { mean, diagonal } = self.damping;
        for more in [1.0, MORE_DAMPING] {
            if more > 1.0 {
                self.damp(Damping { mean: mean * more, diagonal: diagonal * more });
            }
            if self.factor::<f32>().is_ok() {
                return Ok(());
            }
            if self.factor::<f64>().is_ok() {
                self.in_f64 = true;
                return Ok(());
            }
        }
        Err(FeedbackError::NotPositive { damping: Millionths((self.damping.mean * 1e6) as u64) })
    }

    /// Returns the pivots D with columns in the order of the tensor: the part of each column's activation that the
    /// columns rounded after it cannot compensate.
    pub fn pivots(&self) -> Vec<f32> {
        let mut pivots = vec![0.0; self.columns];
        for (&column, &pivot) in self.order.iter().zip(&self.pivots) {
            pivots[column] = pivot;
        }
        pivots
    }

    /// Returns the length of the rows.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Returns the damping that was needed.
    pub fn damping(&self) -> Damping {
        self.damping
    }

    /// Returns true if f32 did not suffice.
    pub fn in_f64(&self) -> bool {
        self.in_f64
    }

    fn damp(&mut self, damping: Damping) {
        let mean = self.importance.iter().map(|&x| f64::from(x)).sum::<f64>() / self.columns as f64;
        for (j, &h) in self.importance.iter().enumerate() {
            let damped = (f64::from(h) * (1.0 + damping.diagonal) + damping.mean * mean) as f32;
            self.hessian[j * self.columns + j] = damped;
            self.added[j] = damped - h;
        }
        self.damping = damping;
    }

    /// Factors the damped Hessian in the precision of `R`. Each pivot must reach half of what the damping added to it; in
    /// exact arithmetic it reaches all of it.
    fn factor<R: Real>(&mut self) -> Result<(), NotPositive> {
        let n = self.columns;
        let mut a: Vec<R> = vec![R::of(0.0); n * n];
        a.par_chunks_mut(n).zip(&self.order).for_each(|(row, &i)| {
            let hessian = &self.hessian[i * n..][..n];
            for (x, &j) in row.iter_mut().zip(&self.order) {
                *x = R::of(hessian[j].into());
            }
        });
        let least: Vec<f64> = self.order.iter().map(|&j| 0.5 * f64::from(self.added[j])).collect();
        let pivots = factor(&mut a, &least)?;
        self.pivots = pivots.iter().map(|&pivot| pivot as f32).collect();
        self.lower = R::into_f32(a);
        Ok(())
    }

    /// Solves `x H' = y` for every row y of `rows` `[rows][n]`, in place.
    ///
    /// # Panics
    ///
    /// Panics when `rows` is not a whole number of rows.
    pub fn solve(&self, rows: &mut [f32]) {
        let n = self.columns;
        assert!(rows.len().is_multiple_of(n), "{} elements are no whole number of rows of {n}", rows.len());
        let strips = strips_for(rows.len() / n);
        rows.par_chunks_mut(strips * LANES * n).for_each(|rows| {
            let mut tile = to_tile(rows, &self.order, strips);
            self.solve_backward(&mut tile, strips);
            for (x, pivot) in tile.chunks_exact_mut(strips).zip(&self.pivots) {
                x.as_flattened_mut().iter_mut().for_each(|x| *x /= pivot);
            }
            self.solve_forward(&mut tile, strips);
            for (r, row) in rows.chunks_exact_mut(n).enumerate() {
                for (x, &j) in tile[r / LANES..].iter().step_by(strips).zip(&self.order) {
                    row[j] = x[r % LANES];
                }
            }
        });
    }

    /// Solves `x U' = y` from the last column to the first; `tile` is `[n][strips]` in rounding order.
    fn solve_backward(&self, tile: &mut [Lanes], strips: usize) {
        let n = self.columns;
        for first in (0..n).step_by(BATCH).rev() {
            let end = n.min(first + BATCH);
            let b = end - first;
            let (head, later) = tile.split_at_mut(end * strips);
            let batch = &mut head[first * strips..];
            let lower = &self.lower[end.min(n - 1) * n + first..];
            subtract(batch, View::new(lower, b, n - end, 1, n), later, strips);
            let turned: Vec<f32> =
                (0..b * b).map(|i| self.lower[(end - 1 - i % b) * n + end - 1 - i / b]).collect();
            let within = Tiles::new(&turned, b, b, b);
            let turn = |mut x: Vec<Lanes>| {
                x.reverse();
                x
            };
            for s in 0..strips {
                let x = turn(strip(batch, strips, s));
                let mut y = vec![[0.0; LANES]; b];
                substitute(&within, &x, &mut y);
                set_strip(batch, strips, s, &turn(y));
            }
        }
    }

    /// Solves `x U = y` from the first column to the last; `tile` is `[n][strips]` in rounding order.
    fn solve_forward(&self, tile: &mut [Lanes], strips: usize) {
        let n = self.columns;
        for first in (0..n).step_by(BATCH) {
            let b = BATCH.min(n - first);
            let (earlier, batch) = tile.split_at_mut(first * strips);
            let batch = &mut batch[..b * strips];
            subtract(batch, View::new(&self.lower[first * n..], b, first, n, 1), earlier, strips);
            let within = Tiles::new(&self.lower[first * n + first..], n, b, b);
            for s in 0..strips {
                let x = strip(batch, strips, s);
                let mut y = vec![[0.0; LANES]; b];
                substitute(&within, &x, &mut y);
                set_strip(batch, strips, s, &y);
            }
        }
    }
}

/// Returns the columns in order of the summed activation of the `unit` neighbours that they belong to, the highest first.
fn in_order(importance: &[f32], unit: usize) -> Vec<usize> {
    let sums: Vec<f32> = importance.chunks(unit).map(|chunk| chunk.iter().sum()).collect();
    let mut units: Vec<usize> = (0..sums.len()).collect();
    units.sort_by(|&a, &b| sums[b].total_cmp(&sums[a]).then(a.cmp(&b)));
    units.into_iter().flat_map(|u| u * unit..(u + 1) * unit).collect()
}

/// Computes `batch -= a · others`, with `batch` and `others` `[..][strips]`.
pub(super) fn subtract(batch: &mut [Lanes], a: View, others: &[Lanes], strips: usize) {
    let lanes = strips * LANES;
    gemm(
        ViewMut::row_major(batch.as_flattened_mut(), lanes),
        a,
        View::row_major(others.as_flattened(), lanes),
        -1.0,
        1.0,
    );
}
