//! The search for codes that index a table of values, which IQ4_NL and IQ4_XS use.
//!
//! Source: the group search of ggml's `quantize_row_iq4_nl_impl`. The nearest of 16 values is found by 15 comparisons
//! with borders computed once, and not by two differences as in ggml.

use super::{ZERO_GROUP, signed_extreme};
use crate::lanes::Simd;

/// The steps of the grid, which ggml chose: the extreme element lands on `table[0] + step`.
const STEPS: std::ops::RangeInclusive<i32> = -7..=7;

/// A table of ascending values, and the borders between the numbers that are nearest to each.
#[derive(Debug)]
pub(crate) struct ValueTable {
    pub(crate) values: [i8; 16],
    /// `from[i]` is the number from which on `values[i + 1]` is the nearest value. It includes numbers as near to the
    /// value below.
    from: [f32; 15],
}

impl ValueTable {
    pub(crate) const fn new(values: [i8; 16]) -> Self {
        let mut from = [0.0; 15];
        let mut i = 0;
        while i < 15 {
            from[i] = border(values[i] as f32, values[i + 1] as f32);
            i += 1;
        }
        Self { values, from }
    }

    /// Returns the index of the value nearest to `x`: the upper one of two as near, and the last one for NaN.
    #[inline(always)]
    pub(crate) fn nearest(&self, x: f32) -> u8 {
        // The index counts down from the top, so that NaN ends at the last value as in ggml.
        let mut index = 15;
        for &from in &self.from {
            index -= u8::from(x < from);
        }
        index
    }

    /// Returns the value nearest to `x`.
    #[inline(always)]
    fn nearest_value<V: Simd>(&self, x: V) -> V {
        let mut value = V::splat(f32::from(self.values[0]));
        for i in 0..15 {
            let next = V::splat(f32::from(self.values[i + 1]));
            value = V::select(x.less(V::splat(self.from[i])), value, next);
        }
        value
    }
}

/// Returns the least number that is not nearer to `below` than to `above` by differences as f32 rounds them. Both are
/// integers of one byte.
const fn border(below: f32, above: f32) -> f32 {
    // The middle and both differences there are exact, and differences are monotonic.
    let mut border = (below + above) / 2.0;
    while border.next_down() - below >= above - border.next_down() {
        border = border.next_down();
    }
    border
}

/// Finds the scale that makes `Σ weights·(x - scale·table[code])²` small, where each code is the nearest.
///
/// Each scale of the grid picks codes, which are compared under their own least-squares scale. The result is 0 for an
/// all-zero group.
#[inline(always)]
pub(crate) fn fit_scale<V: Simd, const N: usize>(x: &[V; N], weights: &[V; N], table: &ValueTable) -> V {
    let zero = V::splat(0.0);
    let extreme = signed_extreme(x);
    let vanishes = extreme.abs().less(V::splat(ZERO_GROUP));
    let first = f32::from(table.values[0]);
    let (qx, qq) = projection(x, weights, table, V::splat(1.0) / (-extreme / V::splat(first)));
    let mut scale = V::select(zero.less(qq), qx / qq, zero);
    let mut best = scale * qx;
    for step in STEPS {
        let (qx, qq) = projection(x, weights, table, V::splat(step as f32 + first) / extreme);
        let better = zero.less(qq) & (best * qq).less(qx * qx);
        scale = V::select(better, qx / qq, scale);
        best = V::select(better, scale * qx, best);
    }
    V::select(vanishes, zero, scale)
}

/// Returns `Σ w·q·x` and `Σ w·q²`, where `q` is the table's value nearest to `inverse·x`.
#[inline(always)]
fn projection<V: Simd, const N: usize>(
    x: &[V; N],
    weights: &[V; N],
    table: &ValueTable,
    inverse: V,
) -> (V, V) {
    let (mut qx, mut qq) = (V::splat(0.0), V::splat(0.0));
    for i in 0..N {
        let q = table.nearest_value(inverse * x[i]);
        let weighted = weights[i] * q;
        qx = qx + weighted * x[i];
        qq = qq + weighted * q;
    }
    (qx, qq)
}

#[cfg(test)]
mod tests {
    use super::*;

    static TABLE: ValueTable =
        ValueTable::new([-127, -100, -80, -60, -40, -30, -20, -10, 0, 10, 20, 30, 50, 70, 90, 110]);

    #[test]
    fn nearest_agrees_with_trying_all() {
        for step in -1400..1400 {
            let x = step as f32 * 0.1;
            let distance = |i: usize| (x - f32::from(TABLE.values[i])).abs();
            let least = (0..16).map(distance).fold(f32::INFINITY, f32::min);
            let nearest = usize::from(TABLE.nearest(x));
            assert!(distance(nearest) <= least, "{x}");
            assert_eq!(TABLE.nearest_value(x), f32::from(TABLE.values[nearest]));
        }
    }

    #[test]
    fn nearest_of_ties_is_the_upper_and_of_nan_the_last() {
        assert_eq!(TABLE.nearest(5.0), 9);
        assert_eq!(TABLE.nearest(-90.0), 2);
        assert_eq!([f32::NEG_INFINITY, f32::INFINITY, f32::NAN].map(|x| TABLE.nearest(x)), [0, 15, 15]);
    }

    #[test]
    fn an_exact_grid_is_recovered_without_error() {
        for sign in [-1.0, 1.0] {
            let x: [f32; 16] = std::array::from_fn(|i| f32::from(TABLE.values[i]) * 0.5 * sign);
            assert_eq!(fit_scale(&x, &[1.0; 16], &TABLE), 0.5 * sign);
        }
    }

    #[test]
    fn a_group_of_zeros_has_scale_zero() {
        assert_eq!(fit_scale(&[0.0; 32], &[1.0; 32], &TABLE), 0.0);
        assert_eq!(fit_scale(&[1.0; 32], &[0.0; 32], &TABLE), 0.0);
    }
}
