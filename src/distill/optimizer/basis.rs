//! The eigenvectors of a tensor's Kronecker factors as coordinates of its gradient.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::precondition::product;
use crate::distill::DistillError;
use crate::distill::checkpoint::{State, Visit};
use crate::distill::parameters::{Parameter, Parameters};
use crate::encode::feedback::Hessian;
use crate::model::{EMBEDDING, OUTPUT, ParameterKind};
use crate::statistics::Factors;
use crate::symmetric::{eigenvectors, transposed};

/// Names of the arrays of a state.
const ROWS: &str = "basis_rows";
const COLUMNS: &str = "basis_columns";

/// Orthonormal coordinates of a gradient of matrices `[rows][columns]`.
#[derive(Debug)]
pub(super) struct Basis {
    /// Coordinates of the outputs, if they are others than the rows.
    rows: Option<Turn>,
    /// Coordinates of the inputs.
    columns: Turn,
}

/// An orthonormal matrix `[n][n]` and its transpose.
#[derive(Debug)]
struct Turn {
    n: usize,
    /// Eigenvectors as rows.
    vectors: Vec<f32>,
    transposed: Vec<f32>,
}

impl Turn {
    fn of(factor: &Hessian) -> Option<Self> {
        let n = factor.columns;
        let (vectors, _) = eigenvectors(factor.mean.iter().map(|&v| f64::from(v)).collect(), n)?;
        Some(Self::by(vectors.into_iter().map(|v| v as f32).collect(), n))
    }

    /// Creates the turn to the orthonormal `vectors` `[n][n]`.
    fn by(vectors: Vec<f32>, n: usize) -> Self {
        Self { n, transposed: transposed(&vectors, n), vectors }
    }
}

impl Basis {
    /// Shows `visit` the coordinates of trained tensor number `number`.
    pub(super) fn save(&self, number: usize, visit: &mut Visit) {
        if let Some(rows) = &self.rows {
            visit(ROWS, number, &rows.vectors);
        }
        visit(COLUMNS, number, &self.columns.vectors);
    }

    /// Returns the coordinates of trained tensor number `number` in `state`, if it has any.
    pub(super) fn load(number: usize, state: &State) -> Result<Option<Self>, DistillError> {
        let turn = |kind| -> Result<Option<Turn>, DistillError> {
            let found = state.array(kind, number)?;
            Ok(found.map(|vectors| {
                let n = vectors.len().isqrt();
                Turn::by(vectors, n)
            }))
        };
        let rows = turn(ROWS)?;
        Ok(turn(COLUMNS)?.map(|columns| Self { rows, columns }))
    }

    /// Returns `gradient` in these coordinates.
    pub(super) fn turned(&self, gradient: &[f32]) -> Vec<f32> {
        let n = self.columns.n;
        let right = product(gradient, &self.columns.transposed, n, n);
        match &self.rows {
            None => right,
            Some(rows) => of_matrices(&right, rows.n, n, &rows.vectors),
        }
    }

    /// Returns what has these coordinates.
    pub(super) fn turned_back(&self, coordinates: &[f32]) -> Vec<f32> {
        let n = self.columns.n;
        let right = product(coordinates, &self.columns.vectors, n, n);
        match &self.rows {
            None => right,
            Some(rows) => of_matrices(&right, rows.n, n, &rows.transposed),
        }
    }
}

/// Returns `left` `[rows][rows]` times each of `matrices` `[rows][columns]`.
fn of_matrices(matrices: &[f32], rows: usize, columns: usize, left: &[f32]) -> Vec<f32> {
    matrices.chunks_exact(rows * columns).flat_map(|matrix| product(left, matrix, rows, columns)).collect()
}

/// Returns the coordinates of all matrices and tables of `parameters`.
pub(super) fn bases(
    parameters: &Parameters,
    factors: &Factors,
) -> Result<BTreeMap<String, Basis>, DistillError> {
    let names: Vec<&str> = parameters.names().collect();
    let found = names.into_par_iter().filter_map(|name| {
        let of = |parameter: &Parameter| {
            let basis = of(name, parameter.kind, factors)?;
            Some(
                basis
                    .map(|basis| (name.to_owned(), basis))
                    .ok_or_else(|| DistillError::Statistics { tensor: name.to_owned() }),
            )
        };
        parameters.with(name, of).flatten()
    });
    found.collect()
}

/// Returns the coordinates of `name`: `None` if it has none but its own, `Some(None)` if its statistics do not suffice.
fn of(name: &str, kind: ParameterKind, factors: &Factors) -> Option<Option<Basis>> {
    let turn = |factor: Option<&Hessian>| factor.and_then(Turn::of);
    match kind {
        ParameterKind::Norm | ParameterKind::Bias | ParameterKind::Recurrent => None,
        ParameterKind::Linear => Some((|| {
            Some(Basis { rows: Some(turn(factors.output(name))?), columns: turn(factors.input(name))? })
        })()),
        ParameterKind::Table => {
            let factor = if name == OUTPUT { factors.input(OUTPUT) } else { factors.output(EMBEDDING) };
            Some(turn(factor).map(|columns| Basis { rows: None, columns }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_turned_and_turned_back_is_the_same() {
        let factor = |n: usize| {
            let x: Vec<f32> = (0..n).map(|i| (i as f32 * 1.7).sin()).collect();
            let mut mean: Vec<f32> = x.iter().flat_map(|a| x.iter().map(move |b| a * b)).collect();
            mean.iter_mut().step_by(n + 1).enumerate().for_each(|(i, v)| *v += 1.0 + i as f32);
            Hessian { columns: n, mean, tokens: 1 }
        };
        let gradient: Vec<f32> = (0..2 * 5 * 8).map(|i| ((i * 37 % 29) as f32) - 14.0).collect();
        for rows in [None, Turn::of(&factor(5))] {
            let basis = Basis { rows, columns: Turn::of(&factor(8)).unwrap() };
            let turned = basis.turned(&gradient);
            let length = |v: &[f32]| v.iter().map(|v| v * v).sum::<f32>();
            assert!((length(&turned) / length(&gradient) - 1.0).abs() < 1e-5);
            assert!(turned.iter().zip(&gradient).any(|(a, b)| (a - b).abs() > 0.1));
            let back = basis.turned_back(&turned);
            assert!(back.iter().zip(&gradient).all(|(a, b)| (a - b).abs() < 1e-4));
        }
    }
}
