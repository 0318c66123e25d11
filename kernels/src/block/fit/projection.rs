//! The running sums that score codes against the elements that they stand for.

use crate::lanes::Lanes;

/// `lx = Σ w·x·code` and `ll = Σ w·code²`.
///
/// The best scale for fixed codes is `lx / ll`, and it removes `lx² / ll` of the weighted squared error `Σ w·x²`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Projection<V> {
    pub(super) lx: V,
    pub(super) ll: V,
}

impl<V: Lanes> Projection<V> {
    /// Of no element.
    #[inline(always)]
    pub(super) fn empty() -> Self {
        Self { lx: V::splat(0.0), ll: V::splat(0.0) }
    }

    /// The sums over all elements; codes are integers.
    #[inline(always)]
    pub(super) fn of<const N: usize>(x: &[V; N], weights: &[V; N], codes: &[V; N]) -> Self {
        let mut sums = Self::empty();
        for i in 0..N {
            sums = sums.with(weights[i], x[i], codes[i]);
        }
        sums
    }

    /// With one element more.
    #[inline(always)]
    pub(super) fn with(self, w: V, x: V, code: V) -> Self {
        Self { lx: self.lx + w * x * code, ll: self.ll + w * code * code }
    }

    /// With one element less.
    #[inline(always)]
    pub(super) fn without(self, w: V, x: V, code: V) -> Self {
        Self { lx: self.lx - w * x * code, ll: self.ll - w * code * code }
    }

    /// Whether these codes leave less error than `other`.
    #[inline(always)]
    pub(super) fn beats(self, other: Self) -> V::Mask {
        (other.lx * other.lx * self.ll).less(self.lx * self.lx * other.ll)
    }

    /// The least-squares scale; 0 when no code counts.
    #[inline(always)]
    pub(super) fn scale(self) -> V {
        let zero = V::splat(0.0);
        V::select(zero.less(self.ll), self.lx / self.ll, zero)
    }

    /// `yes` where `mask` is set, else `no`.
    #[inline(always)]
    pub(super) fn select(mask: V::Mask, yes: Self, no: Self) -> Self {
        Self { lx: V::select(mask, yes.lx, no.lx), ll: V::select(mask, yes.ll, no.ll) }
    }
}
