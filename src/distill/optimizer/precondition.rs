//! A gradient times the inverse of the damped Fisher matrix of a tensor.

use kquant_kernels::linalg::{View, ViewMut, gemm};
use rayon::prelude::*;

use crate::distill::DistillError;
use crate::distill::checkpoint::{State, Visit};
use crate::encode::feedback::Hessian;
use crate::symmetric::inverse;

/// Number of rows of a product that one task computes.
const PANEL: usize = 64;

/// The inverse of a damped Fisher matrix, in the form that the tensor's size allows.
#[derive(Debug)]
pub(super) enum Precondition {
    /// A Kronecker product: `[rows][rows]` of the outputs and `[columns][columns]` of the inputs.
    Factors {
        /// Inverse of the outputs' factor.
        outputs: Vec<f32>,
        /// Inverse of the inputs' factor.
        inputs: Vec<f32>,
    },
    /// A number for each row, and a matrix `[columns][columns]` that all rows share.
    Rows {
        /// Inverse of each row's weight.
        rows: Vec<f32>,
        /// Inverse of the columns' factor.
        columns: Vec<f32>,
    },
    /// A number for each element.
    Elements(Vec<f32>),
}

/// Names of the arrays of a state.
const OUTPUTS: &str = "inverse_outputs";
const INPUTS: &str = "inverse_inputs";
const ROWS: &str = "inverse_rows";
const COLUMNS: &str = "inverse_columns";
const ELEMENTS: &str = "inverse_elements";

impl Precondition {
    /// Shows `visit` the inverse of trained tensor number `number`.
    pub(super) fn save(&self, number: usize, visit: &mut Visit) {
        match self {
            Self::Factors { outputs, inputs } => {
                visit(OUTPUTS, number, outputs);
                visit(INPUTS, number, inputs);
            }
            Self::Rows { rows, columns } => {
                visit(ROWS, number, rows);
                visit(COLUMNS, number, columns);
            }
            Self::Elements(all) => visit(ELEMENTS, number, all),
        }
    }

    /// Returns the inverse of trained tensor number `number` in `state`, if it has one.
    pub(super) fn load(number: usize, state: &State) -> Result<Option<Self>, DistillError> {
        let array = |kind| state.array(kind, number);
        if let (Some(outputs), Some(inputs)) = (array(OUTPUTS)?, array(INPUTS)?) {
            return Ok(Some(Self::Factors { outputs, inputs }));
        }
        if let (Some(rows), Some(columns)) = (array(ROWS)?, array(COLUMNS)?) {
            return Ok(Some(Self::Rows { rows, columns }));
        }
        Ok(array(ELEMENTS)?.map(Self::Elements))
    }

    /// Returns the inverse times `gradient`, matrices of `rows` rows of `columns` columns.
    pub(super) fn apply(&self, gradient: &[f32], (rows, columns): (usize, usize)) -> Vec<f32> {
        match self {
            Self::Factors { outputs, inputs } => {
                let matrices = gradient.chunks_exact((rows * columns).max(1));
                let through =
                    |matrix| product(outputs, &product(matrix, inputs, columns, columns), rows, columns);
                matrices.flat_map(through).collect()
            }
            Self::Rows { rows, columns: inverted } => {
                let mut out = product(gradient, inverted, columns, columns);
                out.par_chunks_mut(columns).zip(rows).for_each(|(out, row)| {
                    out.iter_mut().for_each(|value| *value *= row);
                });
                out
            }
            Self::Elements(all) => {
                gradient.iter().zip(all).map(|(gradient, inverse)| gradient * inverse).collect()
            }
        }
    }
}

/// Returns `a · b` of `a` `[..][inner]` and `b` `[inner][columns]`.
pub(super) fn product(a: &[f32], b: &[f32], inner: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; a.len() / inner * columns];
    out.par_chunks_mut(PANEL * columns).zip(a.par_chunks(PANEL * inner)).for_each(|(out, a)| {
        gemm(
            ViewMut::row_major(out, columns),
            View::row_major(a, inner),
            View::row_major(b, columns),
            1.0,
            0.0,
        );
    });
    out
}

/// Returns the inverse of `matrix` with `damping` of its mean diagonal added to the diagonal; `None` if the mean is not positive or
/// not finite.
pub(super) fn inverted(matrix: &Hessian, damping: f64) -> Option<Vec<f32>> {
    let n = matrix.columns;
    let mut damped: Vec<f64> = matrix.mean.iter().map(|&v| f64::from(v)).collect();
    let mean = damped.iter().step_by(n + 1).sum::<f64>() / n as f64;
    damped.iter_mut().step_by(n + 1).for_each(|v| *v += damping * mean);
    let positive = mean > 0.0 && mean.is_finite();
    positive
        .then(|| inverse(damped, n))
        .flatten()
        .map(|inverse| inverse.into_iter().map(|v| v as f32).collect())
}

/// Returns `1 / (v + damping * mean)` for each of `values`; `None` if the mean is not positive or not finite.
pub(super) fn reciprocals(
    values: impl ExactSizeIterator<Item = f64> + Clone,
    damping: f64,
) -> Option<Vec<f32>> {
    let mean = values.clone().sum::<f64>() / values.len().max(1) as f64;
    (mean > 0.0 && mean.is_finite()).then(|| values.map(|v| (1.0 / (v + damping * mean)) as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hessian(columns: usize, mean: &[f32]) -> Hessian {
        Hessian { columns, mean: mean.to_vec(), tokens: 1 }
    }

    #[test]
    fn factors_undo_the_fisher_matrix() {
        let (f, h) =
            (hessian(2, &[2.0, 0.5, 0.5, 1.0]), hessian(3, &[3.0, 1.0, 0.0, 1.0, 2.0, 0.5, 0.0, 0.5, 1.5]));
        let weight = [1.0, -2.0, 0.5, 3.0, 0.25, -1.0, 0.5, 0.0, 2.0, -0.5, 1.0, 1.5];
        // F W H for each of two matrices.
        let of = |w: &[f32]| product(&f.mean, &product(w, &h.mean, 3, 3), 2, 3);
        let gradient: Vec<f32> = weight.chunks_exact(6).flat_map(of).collect();
        let (outputs, inputs) = (inverted(&f, 0.0).unwrap(), inverted(&h, 0.0).unwrap());
        let found = Precondition::Factors { outputs, inputs }.apply(&gradient, (2, 3));
        assert!(found.iter().zip(&weight).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?}");
    }

    #[test]
    fn rows_and_elements_have_numbers_of_their_own() {
        let columns = inverted(&hessian(2, &[2.0, 0.0, 0.0, 4.0]), 0.0).unwrap();
        let rows = reciprocals([1.0, 3.0].into_iter(), 0.5).unwrap();
        assert_eq!(rows, [0.5, 0.25]);
        let found = Precondition::Rows { rows, columns }.apply(&[8.0; 4], (2, 2));
        assert_eq!(found, [2.0, 1.0, 1.0, 0.5]);
        assert_eq!(Precondition::Elements(vec![0.5, 2.0]).apply(&[3.0, 3.0], (1, 2)), [1.5, 6.0]);
        assert!(
            inverted(&hessian(1, &[0.0]), 0.1).is_none() && reciprocals([0.0].into_iter(), 0.1).is_none()
        );
    }
}
