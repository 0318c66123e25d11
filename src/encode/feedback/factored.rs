//! A damped Hessian and its factors.

use kquant_kernels::feedback::{LANES, Lanes, Tiles, substitute};
use kquant_kernels::linalg::{View, ViewMut, gemm};
use rayon::prelude::*;
use thiserror::Error;

use super::Hessian;
use super::factor::{NotPositive, Real, factor};
use super::tile::{BATCH, set_strip, strip, strips_for, to_tile};

/// What is added to the diagonal of a Hessian: `mean * mean(diag) + diagonal * diag`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Damping {
    /// As a fraction of the diagonal's mean.
    pub mean: f64,
    /// As a fraction of each element itself.
    pub diagonal: f64,
}

/// Why there is no feedback; what to do about it is to encode without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FeedbackError {
    /// Not `[n][n]`, or n no multiple of 8.
    #[error("a Hessian of {elements} elements is none of {columns} columns, a multiple of 8")]
    Shape {
        /// Columns it says it has.
        columns: usize,
        /// Elements it has.
        elements: usize,
    },
    /// NaN, an infinity, or a negative mean square.
    #[error("the Hessian of the inputs is not finite, or a mean square in it is negative")]
    NotFinite,
    /// No activation ever was different from 0.
    #[error("the inputs were zero in all of the calibration text")]
    Inactive,
    /// Not even with more damping.
    #[error("the Hessian of the inputs has no factors, even damped by {damping} of its mean")]
    NotPositive {
        /// The last try, in millionths of the mean.
        damping: Millionths,
    },
}

/// A fraction that can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Millionths(u64);

impl std::fmt::Display for Millionths {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0 as f64 / 1e6)
    }
}

impl Damping {
    /// What `tokens` vectors of length `columns` need: `0.15 n / tokens` of the mean, between 0.01 and 0.3. All tokens
    /// count as independent.
    pub fn for_tokens(columns: usize, tokens: u64) -> Self {
        let mean = (0.15 * columns as f64 / tokens.max(1) as f64).clamp(0.01, 0.3);
        Self { mean, diagonal: 0.0 }
    }
}

/// `H' = U D U'`, the damped Hessian with its columns in order of falling activation: how the error of a column is made
/// up for by those after it.
#[derive(Debug)]
pub struct Feedback {
    pub(super) columns: usize,
    /// Which column comes k-th.
    pub(super) order: Vec<usize>,
    /// The damped Hessian, columns as in the tensor, `[n][n]`.
    pub(super) hessian: Vec<f32>,
    /// The diagonal before damping, columns as in the tensor.
    pub(super) importance: Vec<f32>,
    /// What the damping added to it.
    pub(super) added: Vec<f32>,
    /// `U'` `[n][n]`, in order: row k holds what column k takes from the errors before it.
    pub(super) lower: Vec<f32>,
    /// D, in order.
    pub(super) pivots: Vec<f32>,
    /// Columns that stay together in the order.
    pub(super) unit: usize,
    damping: Damping,
    in_f64: bool,
}

/// What a damping that did not suffice is multiplied by.
const MORE_DAMPING: f64 = 10.0;

impl Feedback {
    /// Damps and factors `train`. Where a pivot is not as large as it must be in f32, in f64; where it is not in f64
    /// either, with ten times the damping, once.
    ///
    /// # Errors
    ///
    /// When `train` is no Hessian, or has no factors even so.
    pub fn new(train: Hessian, damping: Damping) -> Result<Self, FeedbackError> {
        Self::in_units(train, damping, 1)
    }

    /// The same for types that round `unit` columns together.
    ///
    /// # Errors
    ///
    /// As [`Feedback::new`].
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

    /// Orders columns by falling activation, `unit` neighbours of which stay together, and factors anew if they were ordered
    /// otherwise.
    ///
    /// # Errors
    ///
    /// When there are no factors even with more damping.
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

    /// The pivots D, columns as in the tensor: what of each column's activation the columns rounded after it cannot make up for.
    pub fn pivots(&self) -> Vec<f32> {
        let mut pivots = vec![0.0; self.columns];
        for (&column, &pivot) in self.order.iter().zip(&self.pivots) {
            pivots[column] = pivot;
        }
        pivots
    }

    /// Length of the rows.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The damping that was needed.
    pub fn damping(&self) -> Damping {
        self.damping
    }

    /// Whether f32 did not suffice.
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

    /// Factors in the precision of `R`; a pivot must reach half of what the damping added, which in exact arithmetic it
    /// does.
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
    /// When `rows` is no whole number of rows.
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

    /// `x U' = y`, from the last column to the first: `tile` `[n][strips]`, in order.
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

    /// `x U = y`, from the first column to the last.
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

/// Columns by the activation of the `unit` neighbours that they are among, the highest first.
fn in_order(importance: &[f32], unit: usize) -> Vec<usize> {
    let sums: Vec<f32> = importance.chunks(unit).map(|chunk| chunk.iter().sum()).collect();
    let mut units: Vec<usize> = (0..sums.len()).collect();
    units.sort_by(|&a, &b| sums[b].total_cmp(&sums[a]).then(a.cmp(&b)));
    units.into_iter().flat_map(|u| u * unit..(u + 1) * unit).collect()
}

/// `batch -= a · others`, with `batch` and `others` `[..][strips]`.
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
