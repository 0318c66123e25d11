//! The scale searches that the block encoders share.
//!
//! Each search reproduces a function of ggml (`ggml-quants.c`) to the bit. The order of the floating-point operations
//! is part of its definition, since a block's bytes follow from it: sums run in element order, in f32, without fused
//! multiply-add. A search takes one group of elements per lane ([`Simd`]).
//!
//! | search | decoded weight | ggml |
//! |---|---|---|
//! | [`symmetric`] | `scale * code`, codes around zero, grid of scales | `make_qx_quants` |
//! | [`descent`] | `scale * code`, codes around zero, coordinate descent | `make_q3_quants` |
//! | [`affine`] | `scale * code + minimum` | `make_qkx2_quants`, `make_qkx3_quants` |
//! | [`nonnegative`] | `scale * code` of values that are not negative: the scales of a superblock | `make_qp_quants` |
//! | [`table`] | `scale * table[code]` | `quantize_row_iq4_nl_impl` |
//!
//! One group per lane made the k-quants 5 to 20 times as fast as one number at a time; `docs/measurements.md` has the
//! speeds by type and instruction set.

pub(crate) mod affine;
pub(crate) mod descent;
pub(crate) mod integer;
pub(crate) mod nonnegative;
pub(crate) mod symmetric;
pub(crate) mod table;
pub(crate) mod weights;

mod projection;

use crate::lanes::Simd;

/// A group whose largest magnitude is below this counts as all zero (ggml's `GROUP_MAX_EPS`).
pub(crate) const ZERO_GROUP: f32 = 1e-15;

/// Returns the element of largest magnitude, with its sign: the first of equals, or 0 for an all-zero group.
#[inline(always)]
pub(crate) fn signed_extreme<V: Simd>(x: &[V]) -> V {
    // The largest magnitude is found first, and then its element: these comparisons do not wait for each other, as
    // those of a running extreme would.
    let zero = V::splat(0.0);
    let mut largest = zero;
    for &v in x {
        largest = v.abs().or_larger(largest);
    }
    let mut extreme = zero;
    for &v in x.iter().rev() {
        extreme = V::select(v.abs().equals(largest), v, extreme);
    }
    V::select(largest.equals(zero), zero, extreme)
}

/// A group as `N` codes, which are integers, and the scale that they are multiplied by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ScaledCodes<V, const N: usize> {
    /// The factor of the codes.
    pub(crate) scale: V,
    /// The codes, as floats.
    pub(crate) codes: [V; N],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extreme_keeps_its_sign_and_the_first_of_equals_wins() {
        assert_eq!(signed_extreme(&[1.0, -3.0, 3.0, 2.0]), -3.0);
        assert_eq!(signed_extreme(&[1.0, 3.0, -3.0]), 3.0);
        assert_eq!(signed_extreme(&[-0.0f32, 0.0]).to_bits(), 0.0f32.to_bits());
    }
}
