//! One-sided codes: the scales and offsets of a superblock (ggml's `make_qp_quants`).

use super::projection::Projection;
use super::rounding::nearest_int;
use super::{Fit, ZERO_GROUP};

/// The grid: the largest value lands on `top + 0.1 * step`, for steps -4 to 4; step 0 goes first.
const STEPS: std::ops::RangeInclusive<i32> = -4..=4;
const STEP: f32 = 0.1;
/// Sweeps over the values at most.
const SWEEPS: usize = 5;

/// Finds scale and codes that make `Σ weights·(x - scale·code)²` small, codes in `0..=top`.
///
/// The values are not meant to be negative. Where a degenerate fit makes one so, its code is the low byte of the
/// negative integer, which can be above `top`.
pub(crate) fn fit<const N: usize>(x: &[f32; N], weights: &[f32; N], top: u8) -> Fit<N> {
    let largest = x.iter().fold(0.0, |largest: f32, &v| if largest > v { largest } else { v });
    if largest < ZERO_GROUP {
        return Fit::ZERO;
    }
    let top = i32::from(top);
    let inverse = best_inverse(x, weights, top, largest);
    let rounded = x.map(|v| nearest_int(inverse * v).min(top));
    let mut sums = Projection::of(x, weights, &rounded);
    let mut codes = rounded.map(|code| code as u8);
    for _ in 0..SWEEPS {
        if !sweep(x, weights, top, &mut codes, &mut sums) {
            break;
        }
    }
    Fit { scale: sums.scale(), codes }
}

/// The inverse scale of the grid that rounds with the least weighted squared error.
fn best_inverse<const N: usize>(x: &[f32; N], weights: &[f32; N], top: i32, largest: f32) -> f32 {
    let error = |scale: f32, codes: [i32; N]| -> f32 {
        let mut sum = 0.0;
        for ((&x, &w), code) in x.iter().zip(weights).zip(codes) {
            let deviation = x - scale * code as f32;
            sum += w * deviation * deviation;
        }
        sum
    };
    let mut best = top as f32 / largest;
    // Only here ggml judges the codes as stored, and does not bound them.
    let mut least = error(1.0 / best, x.map(|v| i32::from(nearest_int(best * v) as u8)));
    for step in STEPS.filter(|&step| step != 0) {
        let inverse = (STEP * step as f32 + top as f32) / largest;
        let candidate = error(1.0 / inverse, x.map(|v| nearest_int(inverse * v).min(top)));
        if candidate < least {
            (best, least) = (inverse, candidate);
        }
    }
    best
}

/// Offers every value a better code once; says whether any took it.
fn sweep<const N: usize>(
    x: &[f32; N],
    weights: &[f32; N],
    top: i32,
    codes: &mut [u8; N],
    sums: &mut Projection,
) -> bool {
    let mut changed = false;
    for ((&x, &w), code) in x.iter().zip(weights).zip(codes) {
        let others = sums.without(w, x, i32::from(*code));
        if others.lx > 0.0 && others.ll > 0.0 {
            let better = nearest_int(x * others.ll / others.lx).min(top);
            let moved = others.with(w, x, better);
            if better != i32::from(*code) && moved.beats(*sums) {
                *code = better as u8;
                *sums = moved;
                changed = true;
            }
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values<const N: usize>(fit: &Fit<N>) -> [f32; N] {
        fit.codes.map(|code| fit.scale * f32::from(code))
    }

    #[test]
    fn an_exact_grid_is_recovered_without_error() {
        for (top, scale) in [(15u8, 0.5f32), (63, 0.25)] {
            let x: [f32; 8] =
                std::array::from_fn(|i| (usize::from(top) - 5 * i % usize::from(top)) as f32 * scale);
            assert_eq!(values(&fit(&x, &[2.0; 8], top)), x, "top {top}");
        }
    }

    #[test]
    fn values_that_all_vanish_have_scale_and_codes_zero() {
        assert_eq!(fit(&[0.0, -1.0, 1e-16, -0.0], &[1.0; 4], 63), Fit::ZERO);
    }

    #[test]
    fn without_any_weight_the_scale_is_zero() {
        assert_eq!(fit(&[1.0, 2.0, 3.0, 4.0], &[0.0; 4], 63).scale, 0.0);
    }

    #[test]
    fn the_weighted_value_is_met_best() {
        let x = [1.0, 0.34, 0.71, 0.55];
        let error = |weights: [f32; 4]| (values(&fit(&x, &weights, 3))[3] - x[3]).abs();
        assert!(error([1.0, 1.0, 1.0, 1000.0]) < error([1000.0, 1.0, 1.0, 1.0]));
    }
}
