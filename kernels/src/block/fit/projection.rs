//! The sums by which codes are compared: from them follow the best scale and the error that it leaves.

use crate::lanes::Simd;

/// The sums `lx = Σ w·x·code` and `ll = Σ w·code²` over a group.
///
/// The best scale for fixed codes is `lx / ll`, and it removes `lx² / ll` of the weighted squared error `Σ w·x²`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Projection<V> {
    pub(super) lx: V,
    pub(super) ll: V,
}

impl<V: Simd> Projection<V> {
    /// Returns the sums over no element.
    #[inline(always)]
    pub(super) fn empty() -> Self {
        Self { lx: V::splat(0.0), ll: V::splat(0.0) }
    }

    /// Returns the sums over all elements; codes are integers.
    #[inline(always)]
    pub(super) fn of<const N: usize>(x: &[V; N], weights: &[V; N], codes: &[V; N]) -> Self {
        let mut sums = Self::empty();
        for i in 0..N {
            sums = sums.with(weights[i], x[i], codes[i]);
        }
        sums
    }

    /// Returns the sums with one element more.
    #[inline(always)]
    pub(super) fn with(self, w: V, x: V, code: V) -> Self {
        Self { lx: self.lx + w * x * code, ll: self.ll + w * code * code }
    }

    /// Returns the sums with one element less.
    #[inline(always)]
    pub(super) fn without(self, w: V, x: V, code: V) -> Self {
        Self { lx: self.lx - w * x * code, ll: self.ll - w * code * code }
    }

    /// Returns the lanes in which these codes leave less error than those of `other`.
    #[inline(always)]
    pub(super) fn beats(self, other: Self) -> V::Mask {
        (other.lx * other.lx * self.ll).less(self.lx * self.lx * other.ll)
    }

    /// Returns the least-squares scale; 0 when no code counts.
    #[inline(always)]
    pub(super) fn scale(self) -> V {
        let zero = V::splat(0.0);
        V::select(zero.less(self.ll), self.lx / self.ll, zero)
    }

    /// Returns `yes` where `mask` is set, else `no`.
    #[inline(always)]
    pub(super) fn select(mask: V::Mask, yes: Self, no: Self) -> Self {
        Self { lx: V::select(mask, yes.lx, no.lx), ll: V::select(mask, yes.ll, no.ll) }
    }
}
