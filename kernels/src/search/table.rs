//! Codes that index a table of values (the group search of ggml's `quantize_row_iq4_nl_impl`).

use super::{ZERO_GROUP, signed_extreme};

/// The grid: the extreme element lands on `table[0] + step`, for steps -7 to 7.
const STEPS: std::ops::RangeInclusive<i32> = -7..=7;

/// The index of the value of `table` (ascending) that is nearest to `x`; the upper one of two as near.
#[inline]
pub(crate) fn nearest(table: &[i8; 16], x: f32) -> usize {
    let (first, last) = (f32::from(table[0]), f32::from(table[15]));
    if x <= first {
        return 0;
    }
    if x >= last {
        return 15;
    }
    // Counted from the top, so that NaN ends at the last value as in ggml.
    let upper = 15 - table[1..15].iter().filter(|&&v| x < f32::from(v)).count();
    let (below, above) = (f32::from(table[upper - 1]), f32::from(table[upper]));
    if x - below < above - x { upper - 1 } else { upper }
}

/// Finds the scale that makes `Σ weights·(x - scale·table[code])²` small, where each code is the nearest.
///
/// Each scale of the grid picks codes; those are judged with their own least-squares scale. 0 for an all-zero group.
pub(crate) fn fit_scale<const N: usize>(x: &[f32; N], weights: &[f32; N], table: &[i8; 16]) -> f32 {
    let extreme = signed_extreme(x);
    if extreme.abs() < ZERO_GROUP {
        return 0.0;
    }
    let first = f32::from(table[0]);
    let (qx, qq) = projection(x, weights, table, 1.0 / (-extreme / first));
    let mut scale = if qq > 0.0 { qx / qq } else { 0.0 };
    let mut best = scale * qx;
    for step in STEPS {
        let (qx, qq) = projection(x, weights, table, (step as f32 + first) / extreme);
        if qq > 0.0 && qx * qx > best * qq {
            scale = qx / qq;
            best = scale * qx;
        }
    }
    scale
}

/// `Σ w·q·x` and `Σ w·q²`, where `q` is the table's value nearest to `inverse·x`.
fn projection<const N: usize>(
    x: &[f32; N],
    weights: &[f32; N],
    table: &[i8; 16],
    inverse: f32,
) -> (f32, f32) {
    let (mut qx, mut qq) = (0.0, 0.0);
    for (&x, &w) in x.iter().zip(weights) {
        let q = f32::from(table[nearest(table, inverse * x)]);
        qx += w * q * x;
        qq += w * q * q;
    }
    (qx, qq)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: [i8; 16] = [-127, -100, -80, -60, -40, -30, -20, -10, 0, 10, 20, 30, 50, 70, 90, 110];

    #[test]
    fn nearest_agrees_with_trying_all() {
        for step in -1400..1400 {
            let x = step as f32 * 0.1;
            let distance = |i: usize| (x - f32::from(TABLE[i])).abs();
            let least = (0..16).map(distance).fold(f32::INFINITY, f32::min);
            assert!(distance(nearest(&TABLE, x)) <= least, "{x}");
        }
    }

    #[test]
    fn nearest_of_ties_is_the_upper_and_of_nan_the_last() {
        assert_eq!(nearest(&TABLE, 5.0), 9);
        assert_eq!(nearest(&TABLE, -90.0), 2);
        assert_eq!([f32::NEG_INFINITY, f32::INFINITY, f32::NAN].map(|x| nearest(&TABLE, x)), [0, 15, 15]);
    }

    #[test]
    fn an_exact_grid_is_recovered_without_error() {
        for sign in [-1.0, 1.0] {
            let x: [f32; 16] = std::array::from_fn(|i| f32::from(TABLE[i]) * 0.5 * sign);
            assert_eq!(fit_scale(&x, &[1.0; 16], &TABLE), 0.5 * sign);
        }
    }

    #[test]
    fn a_group_of_zeros_has_scale_zero() {
        assert_eq!(fit_scale(&[0.0; 32], &[1.0; 32], &TABLE), 0.0);
        assert_eq!(fit_scale(&[1.0; 32], &[0.0; 32], &TABLE), 0.0);
    }
}
