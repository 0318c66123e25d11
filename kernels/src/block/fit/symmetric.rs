//! The search for symmetric codes by a grid of scales, which Q3_K, Q6_K, Q4_0 and Q5_0 use.
//!
//! Source: ggml's `make_qx_quants` with `rmse_type` 1.

use super::integer::nearest_int;
use super::projection::Projection;
use super::{ZERO_GROUP, signed_extreme};
use crate::lanes::Simd;

/// The steps of the grid, which ggml chose: the extreme element lands on `-(half + 0.1 * step)`, and step 0 goes first.
const STEPS: std::ops::RangeInclusive<i32> = -9..=9;
const STEP: f32 = 0.1;

/// A group's scale, and the inverse scale that rounds its elements: an element's code is `inverse * x`, rounded and
/// bounded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SymmetricFit<V> {
    /// The factor of the codes: the least-squares scale.
    pub(crate) scale: V,
    /// The inverse of the candidate scale that won; NaN for an all-zero group.
    pub(crate) inverse: V,
}

/// Returns the codes of a fit of `x` as the block stores them, in `0..2·half`; all 0 for an all-zero group.
#[inline(always)]
pub(crate) fn codes<const N: usize>(x: &[f32; N], inverse: f32, half: i32) -> [u8; N] {
    if inverse.is_nan() {
        return [0; N];
    }
    let mut codes = [0; N];
    for (code, &v) in codes.iter_mut().zip(x) {
        *code = (nearest_int(inverse * v).clamp(-half, half - 1) + half) as u8;
    }
    codes
}

/// Finds scale and codes that make `Σ weights·(x - scale·(code - half))²` small.
///
/// Each scale of the grid rounds the elements; the resulting codes are compared under their own least-squares scale.
/// The scale is negative where the extreme element is positive, as the codes reach one further below `half` than
/// above.
#[inline(always)]
pub(crate) fn fit<V: Simd, const N: usize>(x: &[V; N], weights: &[V; N], half: i32) -> SymmetricFit<V> {
    let extreme = signed_extreme(x);
    let zero = V::splat(0.0);
    let vanishes = extreme.abs().less(V::splat(ZERO_GROUP));

    let mut inverse = V::splat(-half as f32) / extreme;
    let sums = projection(x, weights, inverse, half);
    let mut scale = V::select(sums.ll.equals(zero), zero, sums.lx / sums.ll);
    let mut best = scale * sums.lx;
    for step in STEPS {
        if step == 0 {
            continue;
        }
        let candidate = V::splat(-(half as f32 + STEP * step as f32)) / extreme;
        let sums = projection(x, weights, candidate, half);
        let better = zero.less(sums.ll) & (best * sums.ll).less(sums.lx * sums.lx);
        inverse = V::select(better, candidate, inverse);
        scale = V::select(better, sums.lx / sums.ll, scale);
        best = V::select(better, scale * sums.lx, best);
    }
    SymmetricFit {
        scale: V::select(vanishes, zero, scale),
        inverse: V::select(vanishes, V::splat(f32::NAN), inverse),
    }
}

/// Returns the sums of the codes that `inverse` rounds to. Before they are bounded they are hardly larger than
/// `half`, so that the fast rounding is exact.
#[inline(always)]
fn projection<V: Simd, const N: usize>(x: &[V; N], weights: &[V; N], inverse: V, half: i32) -> Projection<V> {
    let mut sums = Projection::empty();
    for i in 0..N {
        sums = sums.with(weights[i], x[i], (inverse * x[i]).nearest_small_int(-half, half - 1));
    }
    sums
}

/// Rounds the elements of a group again, under `scale` as the block stores it.
///
/// Under scale 0 the codes are those that `fitted` returns.
#[inline(always)]
pub(crate) fn round<const N: usize>(
    x: &[f32; N],
    scale: f32,
    half: i32,
    fitted: impl FnOnce() -> [u8; N],
) -> [u8; N] {
    if scale == 0.0 {
        return fitted();
    }
    let mut codes = [0; N];
    for (code, &v) in codes.iter_mut().zip(x) {
        *code = (nearest_int(v / scale).clamp(-half, half - 1) + half) as u8;
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fits a group and returns what its codes decode to.
    fn values<const N: usize>(x: &[f32; N], weights: &[f32; N], half: i32) -> [f32; N] {
        let fit = fit(x, weights, half);
        codes(x, fit.inverse, half).map(|code| fit.scale * (i32::from(code) - half) as f32)
    }

    #[test]
    fn an_exact_grid_is_recovered_without_error() {
        for (half, scale) in [(4, 0.75f32), (8, -0.125), (16, 3.0), (32, 0.5)] {
            let x: [f32; 16] = std::array::from_fn(|i| ((i as i32 * 5) % (2 * half) - half) as f32 * scale);
            assert_eq!(values(&x, &[1.0; 16], half), x, "half {half}");
        }
    }

    #[test]
    fn a_group_of_zeros_has_scale_and_codes_zero() {
        for x in [[0.0; 32], [9e-16; 32]] {
            let fit = fit(&x, &[1.0; 32], 8);
            assert_eq!((fit.scale, codes(&x, fit.inverse, 8)), (0.0, [0; 32]));
        }
    }

    #[test]
    fn without_any_weight_the_scale_is_zero() {
        assert_eq!(fit(&[1.0, -2.0, 0.5, 3.0], &[0.0; 4], 8).scale, 0.0);
    }

    #[test]
    fn weights_move_the_fit_towards_what_counts() {
        let x = [1.0, 0.31, 0.29, -0.4];
        let error = |weights: [f32; 4], at: usize| (values(&x, &weights, 4)[at] - x[at]).abs();
        assert!(error([1.0, 1000.0, 1.0, 1.0], 1) < error([1000.0, 1.0, 1.0, 1.0], 1));
    }
}
