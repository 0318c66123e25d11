//! The search of IQ1_S and IQ1_M: weights become -1, 0 or 1 times a scale, all shifted a little up or down.
//!
//! Sorted by size, the elements of a group are cut into three runs, which get the three values: every pair of cuts and every
//! choice of shifts is tried. Then the codebook's nearest points replace what is not in it. Source: ggml's
//! `quantize_row_iq1_s_impl` and `quantize_row_iq1_m_impl`.

use super::iq1_s::SHIFT;
use super::points::{Codebook, Found, Shifted};
use crate::lanes::Lanes;

/// Coordinates of a point.
pub(super) const D: usize = 8;

/// The values up and down, without the scale.
pub(super) const UP: [f32; 3] = [-1.0 + SHIFT, SHIFT, 1.0 + SHIFT];
pub(super) const DOWN: [f32; 3] = [-1.0 - SHIFT, -SHIFT, 1.0 - SHIFT];

/// The elements of a group with their weights, and in which order they are sorted.
pub(super) struct Group<'a, const N: usize> {
    pub(super) x: &'a [f32; N],
    pub(super) weights: &'a [f32; N],
    pub(super) order: [u8; N],
}

/// Where the sorted elements are cut, with which scale, and which choice of shifts.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    pub(super) first: usize,
    pub(super) second: usize,
    pub(super) scale: f32,
    pub(super) shifts: usize,
}

/// The best cut so far.
pub(super) struct Best {
    pub(super) cut: Cut,
    score: f32,
}

impl Best {
    pub(super) fn new() -> Self {
        Self { cut: Cut { first: 0, second: 0, scale: 0.0, shifts: 0 }, score: f32::MIN }
    }

    /// Whether any of these choices is better than the best so far. `qx` `Σ w·q·x`, `qq` `Σ w·q²`.
    #[inline(always)]
    pub(super) fn beaten<V: Lanes>(&self, qx: V, qq: V) -> bool {
        V::any(V::splat(0.0).less(qq) & (V::splat(self.score) * qq).less(qx * qx))
    }

    #[inline(always)]
    pub(super) fn offer(&mut self, first: usize, second: usize, shifts: usize, qx: f32, qq: f32) {
        if qq > 0.0 && qx * qx > self.score * qq {
            let scale = qx / qq;
            self.score = scale * qx;
            self.cut = Cut { first, second, scale, shifts };
        }
    }
}

/// A group's fit.
#[derive(Clone, Copy)]
pub(super) struct GroupFit<const P: usize> {
    pub(super) scale: f32,
    pub(super) points: [u16; P],
    /// Which choice of shifts.
    pub(super) shifts: usize,
}

impl<const P: usize> GroupFit<P> {
    /// Of a group of zeros.
    pub(super) const ZERO: Self = Self { scale: 0.0, points: [0; P], shifts: 0 };
}

/// The elements' places, by size; equals stay in their order.
pub(super) fn sorted<const N: usize>(x: &[f32; N]) -> [u8; N] {
    let mut order = std::array::from_fn(|i| i as u8);
    // Adding zero makes minus zero equal to zero, as it is.
    order.sort_by(|&a, &b| (x[usize::from(a)] + 0.0).total_cmp(&(x[usize::from(b)] + 0.0)));
    order
}

impl<const N: usize> Group<'_, N> {
    /// The points for the cut's levels, and the scale once more where they had to give. `shift` is that of the point whose
    /// number it gets; `opposite` the choice of shifts that stands for the negative values of another.
    #[inline(always)]
    pub(super) fn to_points<V: Lanes, const P: usize>(
        &self,
        book: &Codebook<D>,
        cut: Cut,
        shift: impl Fn(usize, usize) -> f32,
        opposite: impl Fn(usize) -> usize,
    ) -> GroupFit<P> {
        let mut levels = [2u8; N];
        for (j, &place) in self.order.iter().enumerate().take(cut.second) {
            levels[usize::from(place)] = u8::from(j >= cut.first);
        }
        let mut fit = GroupFit { scale: cut.scale, points: [0; P], shifts: cut.shifts };
        if cut.scale < 0.0 {
            levels = levels.map(|level| 2 - level);
            fit.scale = -cut.scale;
            fit.shifts = opposite(cut.shifts);
        }
        let mut found = [Found::default(); P];
        for (k, found) in found.iter_mut().enumerate() {
            let value = Shifted { scale: fit.scale, shift: shift(fit.shifts, k) };
            let (x, weights) = (&self.x.as_chunks().0[k], &self.weights.as_chunks().0[k]);
            let levels: &[u8; D] = &levels.as_chunks().0[k];
            let code = levels.iter().rev().fold(0, |code, &level| code << 2 | u16::from(level));
            *found = book.find::<V>(code, x, weights, value);
        }
        fit.points = found.map(|found| found.number);
        if found.iter().any(|found| !found.exact) {
            let (mut qx, mut qq) = (0.0, 0.0);
            for (k, found) in found.iter().enumerate() {
                let shifts = shift(fit.shifts, k);
                self.add_products(k, book.odds(found.number), shifts, 1.0, (&mut qx, &mut qq));
            }
            if qx > 0.0 && qq > 0.0 {
                fit.scale = qx / qq;
            }
        }
        fit
    }

    /// Adds `w·q·x` and `w·q²` of point number `k`, given `2 * level + 1` of its coordinates: values shifted, times `multiple`.
    #[inline(always)]
    pub(super) fn add_products(
        &self,
        k: usize,
        odds: &[f32; D],
        shift: f32,
        multiple: f32,
        sums: (&mut f32, &mut f32),
    ) {
        let unit = Shifted { scale: 1.0, shift };
        for (j, &odd) in odds.iter().enumerate() {
            let (x, w) = (self.x[D * k + j], self.weights[D * k + j]);
            let q = unit.unit(odd) * multiple;
            *sums.0 += w * q * x;
            *sums.1 += w * q * q;
        }
    }
}

/// Whether all elements are smaller than `zero`.
#[inline(always)]
pub(super) fn vanishes(x: &[f32], zero: f32) -> bool {
    super::layout::abs_max(x) < zero
}
