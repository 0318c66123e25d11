//! Symmetric codes by coordinate descent (ggml's `make_q3_quants` with `do_rmse`).

use super::projection::Projection;
use super::rounding::nearest_int;
use super::weights::squares;
use super::{Fit, ZERO_GROUP, signed_extreme};

/// Sweeps over the elements at most.
const SWEEPS: usize = 5;

/// Finds scale and codes that make `Σ x²·(x - scale·(code - half))²` small, codes in `0..2·half`.
///
/// Starts from the extreme element on `-half`, then moves one code at a time to the one nearest under the scale of
/// all the others, as long as that leaves less error.
pub(crate) fn fit<const N: usize>(x: &[f32; N], half: i32) -> Fit<N> {
    let extreme = signed_extreme(x);
    if extreme.abs() < ZERO_GROUP {
        return Fit::ZERO;
    }
    let weights = squares(x);
    let inverse = -half as f32 / extreme;
    let mut codes = x.map(|v| nearest_int(inverse * v).clamp(-half, half - 1));
    let mut sums = Projection::of(x, &weights, &codes);
    for _ in 0..SWEEPS {
        if !sweep(x, &weights, half, &mut codes, &mut sums) {
            break;
        }
    }
    Fit { scale: sums.scale(), codes: codes.map(|code| (code + half) as u8) }
}

/// Offers every element a better code once; says whether any took it.
fn sweep<const N: usize>(
    x: &[f32; N],
    weights: &[f32; N],
    half: i32,
    codes: &mut [i32; N],
    sums: &mut Projection,
) -> bool {
    let mut changed = false;
    for ((&x, &w), code) in x.iter().zip(weights).zip(codes) {
        let others = sums.without(w, x, *code);
        if others.lx > 0.0 {
            let better = nearest_int(x * others.ll / others.lx).clamp(-half, half - 1);
            let moved = others.with(w, x, better);
            if better != *code && moved.ll > 0.0 && moved.beats(*sums) {
                *code = better;
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

    fn values<const N: usize>(fit: &Fit<N>, half: i32) -> [f32; N] {
        fit.codes.map(|code| fit.scale * (i32::from(code) - half) as f32)
    }

    #[test]
    fn an_exact_grid_is_recovered_without_error() {
        let x: [f32; 16] = std::array::from_fn(|i| (i as i32 % 8 - 4) as f32 * 0.25);
        assert_eq!(values(&fit(&x, 4), 4), x);
    }

    #[test]
    fn a_group_of_zeros_has_scale_and_codes_zero() {
        assert_eq!(fit(&[0.0; 16], 4), Fit::ZERO);
    }

    #[test]
    fn descent_improves_on_plain_rounding() {
        let x: [f32; 16] = std::array::from_fn(|i| ((i * i + 3 * i) % 17) as f32 / 9.0 - 0.8);
        let error =
            |values: [f32; 16]| -> f32 { x.iter().zip(values).map(|(x, y)| x * x * (x - y) * (x - y)).sum() };
        let step = -signed_extreme(&x) / 4.0;
        let rounded = x.map(|v| (v / step).round().clamp(-4.0, 3.0) * step);
        assert!(error(values(&fit(&x, 4), 4)) < 0.9 * error(rounded));
    }
}
