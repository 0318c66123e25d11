//! Matrices for the tests of this room.

use super::symmetric::{dot, product_transposed};

/// Numbers from -1 to 1 that look random.
pub(super) fn noise(len: usize, seed: u64) -> Vec<f64> {
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
pub(super) fn positive_definite(n: usize, seed: u64) -> Vec<f64> {
    let x = noise(n * (n + 3), seed);
    let mut a = product_transposed(&x, &x, n + 3);
    a.iter_mut().step_by(n + 1).for_each(|v| *v += 0.1);
    a
}

/// `1/2 tr(F E H E')` of errors `[rows][n]`.
pub(super) fn cost_of_errors(errors: &[f64], h: &[f64], f: &[f64], n: usize) -> f64 {
    let outer = product_transposed(&product_transposed(errors, h, n), errors, n);
    0.5 * dot(&outer, f)
}
