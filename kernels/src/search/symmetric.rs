//! Symmetric codes by a grid of scales (ggml's `make_qx_quants`, `rmse_type` 1).

use super::projection::Projection;
use super::rounding::nearest_int;
use super::{Fit, ZERO_GROUP, signed_extreme};

/// The grid: the extreme element lands on `-(half + 0.1 * step)`, for steps -9 to 9; step 0 goes first.
const STEPS: std::ops::RangeInclusive<i32> = -9..=9;
const STEP: f32 = 0.1;

/// Finds scale and codes that make `Σ weights·(x - scale·(code - half))²` small, codes in `0..2·half`.
///
/// Each scale of the grid rounds the elements; those codes are judged with their own least-squares scale. The scale
/// is negative where the extreme element is positive, as the codes reach one further below `half` than above.
pub(crate) fn fit<const N: usize>(x: &[f32; N], weights: &[f32; N], half: i32) -> Fit<N> {
    let extreme = signed_extreme(x);
    if extreme.abs() < ZERO_GROUP {
        return Fit::ZERO;
    }
    let round = |inverse: f32| x.map(|v| nearest_int(inverse * v).clamp(-half, half - 1));

    let mut codes = round(-half as f32 / extreme);
    let sums = Projection::of(x, weights, &codes);
    let mut scale = if sums.ll != 0.0 { sums.lx / sums.ll } else { 0.0 };
    let mut best = scale * sums.lx;
    for step in STEPS.filter(|&step| step != 0) {
        let candidate = round(-(half as f32 + STEP * step as f32) / extreme);
        let sums = Projection::of(x, weights, &candidate);
        if sums.ll > 0.0 && sums.lx * sums.lx > best * sums.ll {
            codes = candidate;
            scale = sums.lx / sums.ll;
            best = scale * sums.lx;
        }
    }
    Fit { scale, codes: codes.map(|code| (code + half) as u8) }
}

/// Rounds the elements of a group again, to the codes under `scale` as the block stores it.
///
/// Under scale 0 the codes of the fit are kept.
pub(crate) fn round<const N: usize>(x: &[f32; N], scale: f32, half: i32, codes: &mut [u8; N]) {
    if scale != 0.0 {
        *codes = x.map(|v| (nearest_int(v / scale).clamp(-half, half - 1) + half) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes.
    fn values<const N: usize>(fit: &Fit<N>, half: i32) -> [f32; N] {
        fit.codes.map(|code| fit.scale * (i32::from(code) - half) as f32)
    }

    #[test]
    fn an_exact_grid_is_recovered_without_error() {
        for (half, scale) in [(4, 0.75f32), (8, -0.125), (16, 3.0), (32, 0.5)] {
            let x: [f32; 16] = std::array::from_fn(|i| ((i as i32 * 5) % (2 * half) - half) as f32 * scale);
            let fit = fit(&x, &[1.0; 16], half);
            assert_eq!(values(&fit, half), x, "half {half}");
        }
    }

    #[test]
    fn a_group_of_zeros_has_scale_and_codes_zero() {
        assert_eq!(fit(&[0.0; 32], &[1.0; 32], 8), Fit::ZERO);
        assert_eq!(fit(&[9e-16; 32], &[1.0; 32], 8), Fit::ZERO);
    }

    #[test]
    fn without_any_weight_the_scale_is_zero() {
        assert_eq!(fit(&[1.0, -2.0, 0.5, 3.0], &[0.0; 4], 8).scale, 0.0);
    }

    #[test]
    fn weights_move_the_fit_towards_what_counts() {
        let x = [1.0, 0.31, 0.29, -0.4];
        let error = |weights: [f32; 4], at: usize| (values(&fit(&x, &weights, 4), 4)[at] - x[at]).abs();
        assert!(error([1.0, 1000.0, 1.0, 1.0], 1) < error([1000.0, 1.0, 1.0, 1.0], 1));
    }
}
