//! The search for codes that are not negative: those of a superblock's scales and offsets, and the first fit of
//! IQ2_XXS.
//!
//! Source: ggml's `make_qp_quants`.

use super::projection::Projection;
use super::{ScaledCodes, ZERO_GROUP};
use crate::lanes::Simd;

/// The steps of the grid, which ggml chose: the largest value lands on `top + 0.1 * step`, and step 0 goes first.
const STEPS: std::ops::RangeInclusive<i32> = -4..=4;
const STEP: f32 = 0.1;
/// The largest number of sweeps over the values, as in ggml.
const SWEEPS: usize = 5;

/// Finds scale and codes that make `Σ weights·(x - scale·code)²` small, codes in `0..=top`.
///
/// The values are not meant to be negative. Where a degenerate fit makes one so, its code is the low byte of the
/// negative integer, which can be above `top`.
#[inline(always)]
pub(crate) fn fit<V: Simd, const N: usize>(x: &[V; N], weights: &[V; N], top: u8) -> ScaledCodes<V, N> {
    let zero = V::splat(0.0);
    let mut largest = zero;
    for &v in x {
        largest = V::select(v.less(largest), largest, v);
    }
    let vanishes = largest.less(V::splat(ZERO_GROUP));
    let top = i32::from(top);
    let inverse = best_inverse(x, weights, top, largest);
    let mut codes = [zero; N];
    for i in 0..N {
        codes[i] = (inverse * x[i]).nearest_int(i32::MIN, top);
    }
    let mut sums = Projection::of(x, weights, &codes);
    for code in &mut codes {
        *code = code.low_byte();
    }
    for _ in 0..SWEEPS {
        // A lane that took no code in a sweep takes none in the next one either, so that lanes can wait for each other.
        if !sweep(x, weights, top, &mut codes, &mut sums) {
            break;
        }
    }
    for code in &mut codes {
        *code = V::select(vanishes, zero, *code);
    }
    ScaledCodes { scale: V::select(vanishes, zero, sums.scale()), codes }
}

/// Returns the inverse scale of the grid that rounds with the least weighted squared error.
#[inline(always)]
fn best_inverse<V: Simd, const N: usize>(x: &[V; N], weights: &[V; N], top: i32, largest: V) -> V {
    let mut best = V::splat(top as f32) / largest;
    // For this candidate alone ggml compares the codes as stored, and does not bound them.
    let mut least = error::<V, N, true>(x, weights, best, i32::MAX);
    for step in STEPS {
        if step == 0 {
            continue;
        }
        let inverse = V::splat(STEP * step as f32 + top as f32) / largest;
        let candidate = error::<V, N, false>(x, weights, inverse, top);
        let better = candidate.less(least);
        best = V::select(better, inverse, best);
        least = V::select(better, candidate, least);
    }
    best
}

/// Returns `Σ weights·(x - scale·code)²`, where the codes are `inverse·x`, rounded, and at most `top`, or their low
/// bytes.
#[inline(always)]
fn error<V: Simd, const N: usize, const LOW_BYTES: bool>(
    x: &[V; N],
    weights: &[V; N],
    inverse: V,
    top: i32,
) -> V {
    let scale = V::splat(1.0) / inverse;
    let mut sum = V::splat(0.0);
    for i in 0..N {
        let mut code = (inverse * x[i]).nearest_int(i32::MIN, top);
        if LOW_BYTES {
            code = code.low_byte();
        }
        let deviation = x[i] - scale * code;
        sum = sum + weights[i] * deviation * deviation;
    }
    sum
}

/// Offers every value a better code once; returns true if any value took it.
#[inline(always)]
fn sweep<V: Simd, const N: usize>(
    x: &[V; N],
    weights: &[V; N],
    top: i32,
    codes: &mut [V; N],
    sums: &mut Projection<V>,
) -> bool {
    let zero = V::splat(0.0);
    let mut changed = zero.less(zero);
    for i in 0..N {
        let (x, w, code) = (x[i], weights[i], codes[i]);
        let others = sums.without(w, x, code);
        let better = (x * others.ll / others.lx).nearest_int(i32::MIN, top);
        let moved = others.with(w, x, better);
        let moves = zero.less(others.lx) & zero.less(others.ll) & !better.equals(code) & moved.beats(*sums);
        codes[i] = V::select(moves, better.low_byte(), code);
        *sums = Projection::select(moves, moved, *sums);
        changed = changed | moves;
    }
    V::any(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values<const N: usize>(fit: &ScaledCodes<f32, N>) -> [f32; N] {
        fit.codes.map(|code| fit.scale * code)
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
        assert_eq!(
            fit(&[0.0, -1.0, 1e-16, -0.0], &[1.0; 4], 63),
            ScaledCodes { scale: 0.0, codes: [0.0; 4] }
        );
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
