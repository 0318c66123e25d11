//! Matrices for the tests of this room.

pub(super) use crate::symmetric::samples::{noise, positive_definite};
use crate::symmetric::{dot, product_transposed};

/// `1/2 tr(F E H E')` of errors `[rows][n]`.
pub(super) fn cost_of_errors(errors: &[f64], h: &[f64], f: &[f64], n: usize) -> f64 {
    let outer = product_transposed(&product_transposed(errors, h, n), errors, n);
    0.5 * dot(&outer, f)
}
