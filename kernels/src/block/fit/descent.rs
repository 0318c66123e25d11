//! The search for symmetric codes by coordinate descent, which Q3_K uses without importance.
//!
//! Source: ggml's `make_q3_quants` with `do_rmse`, which divides for each element. Products tell in most cases that a
//! quotient would change nothing: asked before each quotient of the descent they took Q3_K from 357 to 413 million
//! weights per second, and in the first sweep too from 499 to 507. A product in place of the last rounding's quotient
//! gave wrong codes and no speed.

use super::projection::Projection;
use super::weights::squares;
use super::{ScaledCodes, ZERO_GROUP, signed_extreme};
use crate::lanes::Simd;

/// The largest number of sweeps over the elements, as in ggml.
const SWEEPS: usize = 5;

/// The distance from a code within which an element is surely rounded to it under the scale of the others. It is a
/// little less than half a step, as products and quotients are rounded too.
const SURELY_NEAREST: f32 = 0.499_99;
/// The distance out of the range within which an element is surely bounded to the end of the range.
const SURELY_BOUNDED: f32 = 1e4;
/// The extreme element from which on no product of three elements that matters is subnormal.
const SURELY_NORMAL: f32 = 1e-9;

/// Finds scale and codes that make `Σ x²·(x - scale·code)²` small, codes in `-half..half`.
///
/// The search starts with the extreme element at code `-half`. Then it moves one code at a time to the nearest one
/// under the scale of all the others, as long as that leaves less error.
#[inline(always)]
pub(crate) fn fit<V: Simd, const N: usize>(x: &[V; N], half: i32) -> ScaledCodes<V, N> {
    let zero = V::splat(0.0);
    let weights = squares(x);
    let (extreme, mut codes, mut sums) = start(x, &weights, half);
    let vanishes = extreme.abs().less(V::splat(ZERO_GROUP));
    let tiny = extreme.abs().less(V::splat(SURELY_NORMAL));
    for _ in 0..SWEEPS {
        // A lane that took no code in a sweep takes none in the next one either, so that lanes can wait for each other.
        if !sweep(x, &weights, half, (&mut codes, &mut sums), tiny) {
            break;
        }
    }
    for code in &mut codes {
        *code = V::select(vanishes, V::splat(-half as f32), *code);
    }
    ScaledCodes { scale: V::select(vanishes, zero, sums.scale()), codes }
}

/// Returns the scale that [`fit`] finds in the lanes in which it surely leaves all codes as they are at the start, as
/// in four of five groups of Gaussian weights; NaN in the lanes in which codes may change. No element waits for
/// another one.
#[inline(always)]
pub(crate) fn settled_scale<V: Simd, const N: usize>(x: &[V; N], half: i32) -> V {
    let zero = V::splat(0.0);
    let weights = squares(x);
    let (extreme, codes, sums) = start(x, &weights, half);
    let vanishes = extreme.abs().less(V::splat(ZERO_GROUP));
    let mut settled = !extreme.abs().less(V::splat(SURELY_NORMAL));
    for i in 0..N {
        settled = settled & surely_stays(x[i], codes[i], sums.without(weights[i], x[i], codes[i]), half);
    }
    let scale = V::select(settled, sums.scale(), V::splat(f32::NAN));
    V::select(vanishes, zero, scale)
}

/// Returns the lanes in which `code` is surely the one nearest to `x` under the scale of the `others`, as products
/// tell. Products of three numbers must not be subnormal.
#[inline(always)]
fn surely_stays<V: Simd>(x: V, code: V, others: Projection<V>, half: i32) -> V::Mask {
    let zero = V::splat(0.0);
    let beyond = x * others.ll - code * others.lx;
    let above = code.equals(V::splat((half - 1) as f32)) & zero.less(beyond);
    let below = code.equals(V::splat(-half as f32)) & beyond.less(zero);
    let reach = V::select(above | below, V::splat(SURELY_BOUNDED), V::splat(SURELY_NEAREST));
    // Half of all groups can never move, because their sum is not positive.
    let limit = V::select(zero.less(others.lx), reach * others.lx, V::splat(f32::INFINITY));
    beyond.abs().less(limit)
}

/// Returns the extreme element, the codes that put it on `-half`, and their sums. In a group that vanishes the codes
/// are undefined.
#[inline(always)]
fn start<V: Simd, const N: usize>(x: &[V; N], weights: &[V; N], half: i32) -> (V, [V; N], Projection<V>) {
    let extreme = signed_extreme(x);
    let inverse = V::splat(-half as f32) / extreme;
    let mut codes = [V::splat(0.0); N];
    for i in 0..N {
        codes[i] = (inverse * x[i]).nearest_small_int(-half, half - 1);
    }
    (extreme, codes, Projection::of(x, weights, &codes))
}

/// Offers every element a better code once; returns true if any element took it. Where all lanes surely stay, no time
/// is lost on quotients, for which the next element would have to wait. Lanes that are `tiny` are never sure.
#[inline(always)]
fn sweep<V: Simd, const N: usize>(
    x: &[V; N],
    weights: &[V; N],
    half: i32,
    (codes, sums): (&mut [V; N], &mut Projection<V>),
    tiny: V::Mask,
) -> bool {
    let zero = V::splat(0.0);
    let mut changed = zero.less(zero);
    for i in 0..N {
        let (x, w, code) = (x[i], weights[i], codes[i]);
        let others = sums.without(w, x, code);
        if !V::any(tiny | !surely_stays(x, code, others, half)) {
            continue;
        }
        let better = (x * others.ll / others.lx).nearest_int(-half, half - 1);
        let moved = others.with(w, x, better);
        let moves = zero.less(others.lx) & !better.equals(code) & zero.less(moved.ll) & moved.beats(*sums);
        codes[i] = V::select(moves, better, code);
        *sums = Projection::select(moves, moved, *sums);
        changed = changed | moves;
    }
    V::any(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what the fit decodes to.
    fn values<const N: usize>(fit: &ScaledCodes<f32, N>) -> [f32; N] {
        fit.codes.map(|code| fit.scale * code)
    }

    #[test]
    fn an_exact_grid_is_recovered_without_error() {
        let x: [f32; 16] = std::array::from_fn(|i| (i as i32 % 8 - 4) as f32 * 0.25);
        assert_eq!(values(&fit(&x, 4)), x);
    }

    #[test]
    fn a_group_of_zeros_has_scale_zero_and_the_least_codes() {
        assert_eq!(fit(&[0.0; 16], 4), ScaledCodes { scale: 0.0, codes: [-4.0; 16] });
    }

    #[test]
    fn descent_improves_on_plain_rounding() {
        let x: [f32; 16] = std::array::from_fn(|i| ((i * i + 3 * i) % 17) as f32 / 9.0 - 0.8);
        let error =
            |values: [f32; 16]| -> f32 { x.iter().zip(values).map(|(x, y)| x * x * (x - y) * (x - y)).sum() };
        let step = -signed_extreme(&x) / 4.0;
        let rounded = x.map(|v| (v / step).round().clamp(-4.0, 3.0) * step);
        assert!(error(values(&fit(&x, 4))) < 0.9 * error(rounded));
    }

    /// The search as ggml has it, with a quotient for every element.
    fn by_quotients(x: &[f32; 16]) -> f32 {
        let weights = squares(x);
        let (extreme, mut codes, mut sums) = start(x, &weights, 4);
        if extreme.abs() < ZERO_GROUP {
            return 0.0;
        }
        for _ in 0..SWEEPS {
            let before = codes;
            for i in 0..16 {
                let others = sums.without(weights[i], x[i], codes[i]);
                let better = Simd::nearest_int(x[i] * others.ll / others.lx, -4, 3);
                let moved = others.with(weights[i], x[i], better);
                if others.lx > 0.0 && better != codes[i] && moved.ll > 0.0 && moved.beats(sums) {
                    (codes[i], sums) = (better, moved);
                }
            }
            if codes == before {
                break;
            }
        }
        sums.scale()
    }

    #[test]
    fn what_is_sure_without_quotients_is_so_with_them() {
        let mut settled = 0;
        for seed in 0..40_000u32 {
            // Sizes go from where products vanish to where they overflow; elements are on a grid or half way between
            // its points.
            let size = 10f32.powi(seed as i32 % 32 - 17);
            let noise = |i: u32| {
                (seed.wrapping_mul(2_654_435_761) ^ i.wrapping_mul(40_503)).wrapping_mul(2_246_822_519) >> 8
            };
            let grid = if seed % 3 == 0 { 1 << 21 } else { 1 };
            let x = std::array::from_fn(|i| {
                size * ((noise(i as u32) / grid * grid) as f32 / (1 << 23) as f32 - 1.0)
            });
            let expected = by_quotients(&x);
            let sure: f32 = settled_scale(&x, 4);
            settled += usize::from(!sure.is_nan());
            assert!(sure.is_nan() || sure.to_bits() == expected.to_bits(), "{x:?}: {sure} and {expected}");
            assert_eq!(fit(&x, 4).scale.to_bits(), expected.to_bits(), "{x:?}");
        }
        assert!(settled > 10_000, "{settled} are sure");
    }
}
