//! Symmetric codes by coordinate descent (ggml's `make_q3_quants` with `do_rmse`).

use super::projection::Projection;
use super::weights::squares;
use super::{Fit, ZERO_GROUP, signed_extreme};
use crate::lanes::Lanes;

/// Sweeps over the elements at most.
const SWEEPS: usize = 5;

/// Finds scale and codes that make `Σ x²·(x - scale·code)²` small, codes in `-half..half`.
///
/// Starts from the extreme element on `-half`, then moves one code at a time to the one nearest under the scale of
/// all the others, as long as that leaves less error.
#[inline(always)]
pub(crate) fn fit<V: Lanes, const N: usize>(x: &[V; N], half: i32) -> Fit<V, N> {
    let extreme = signed_extreme(x);
    let zero = V::splat(0.0);
    let vanishes = extreme.abs().less(V::splat(ZERO_GROUP));
    let weights = squares(x);
    let inverse = V::splat(-half as f32) / extreme;
    let mut codes = [zero; N];
    for i in 0..N {
        codes[i] = (inverse * x[i]).nearest_int(-half, half - 1);
    }
    let mut sums = Projection::of(x, &weights, &codes);
    for _ in 0..SWEEPS {
        // A sweep over codes that the last one left alone would leave them alone again: lanes can wait for each other.
        if !sweep(x, &weights, half, &mut codes, &mut sums) {
            break;
        }
    }
    for code in &mut codes {
        *code = V::select(vanishes, V::splat(-half as f32), *code);
    }
    Fit { scale: V::select(vanishes, zero, sums.scale()), codes }
}

/// Offers every element a better code once; says whether any took it.
#[inline(always)]
fn sweep<V: Lanes, const N: usize>(
    x: &[V; N],
    weights: &[V; N],
    half: i32,
    codes: &mut [V; N],
    sums: &mut Projection<V>,
) -> bool {
    let zero = V::splat(0.0);
    let mut changed = zero.less(zero);
    for i in 0..N {
        let (x, w, code) = (x[i], weights[i], codes[i]);
        let others = sums.without(w, x, code);
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

    /// Decodes.
    fn values<const N: usize>(fit: &Fit<f32, N>) -> [f32; N] {
        fit.codes.map(|code| fit.scale * code)
    }

    #[test]
    fn an_exact_grid_is_recovered_without_error() {
        let x: [f32; 16] = std::array::from_fn(|i| (i as i32 % 8 - 4) as f32 * 0.25);
        assert_eq!(values(&fit(&x, 4)), x);
    }

    #[test]
    fn a_group_of_zeros_has_scale_zero_and_the_least_codes() {
        assert_eq!(fit(&[0.0; 16], 4), Fit { scale: 0.0, codes: [-4.0; 16] });
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
}
