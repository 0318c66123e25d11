//! The search of IQ1_S and IQ1_M: weights become -1, 0 or 1 times a scale, all shifted a little up or down.
//!
//! Sorted by size, the elements of a group are cut into three runs, which get the three values: every pair of cuts and every
//! choice of shifts is tried. Then the codebook's nearest points replace what is not in it. Source: ggml's
//! `quantize_row_iq1_s_impl` and `quantize_row_iq1_m_impl`.

use super::iq1_s::SHIFT;
use super::points::{Codebook, Found, Shifted};
use crate::lanes::{Lanes, MOST};

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
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cut {
    pub(super) first: usize,
    pub(super) second: usize,
    pub(super) scale: f32,
    pub(super) shifts: usize,
}

/// The best cut so far.
///
/// A choice is taken if it is better than the best so far. All that does not come near a good one can be passed over without
/// changing what is best in the end: rounding lets what is taken differ from what is passed over by some 2^-22, so that the
/// first that is taken must be better than what was passed over by more than that.
pub(super) struct Best {
    pub(super) cut: Cut,
    score: f32,
    /// The first that is taken must be better than this, or be in doubt.
    clear: f32,
    /// Whether something was taken.
    taken: bool,
    doubtful: bool,
}

/// How much worse than a good choice the others must be to be passed over, and how clear the first one that is not.
const PASSED_OVER: f32 = 1.0 - 1e-4;
const CLEAR: f32 = 1.0 + 1e-5;
/// Squares of sums for which rounding errors are relative.
const SAFE: std::ops::Range<f32> = 1e-30..1e30;

impl Best {
    /// Nothing is passed over.
    fn new() -> Self {
        let cut = Cut { first: 0, second: 0, scale: 0.0, shifts: 0 };
        Self { cut, score: f32::MIN, clear: f32::MIN, taken: false, doubtful: false }
    }

    /// Passes over what is clearly worse than a choice with these sums.
    fn near((qx, qq): (f32, f32)) -> Self {
        let score = qx / qq * qx * PASSED_OVER;
        if !(qq > 0.0 && SAFE.contains(&(qx * qx)) && SAFE.contains(&score)) {
            return Self::new();
        }
        Self { score, clear: score * CLEAR, ..Self::new() }
    }

    /// Whether any of these choices is better than the best so far. `qx` `Σ w·q·x`, `qq` `Σ w·q²`.
    #[inline(always)]
    fn beaten<V: Lanes>(&self, qx: V, qq: V) -> bool {
        V::any(V::splat(0.0).less(qq) & (V::splat(self.score) * qq).less(qx * qx))
    }

    #[inline(always)]
    fn offer(&mut self, first: usize, second: usize, shifts: usize, qx: f32, qq: f32) {
        if qq > 0.0 && qx * qx > self.score * qq {
            let scale = qx / qq;
            self.score = scale * qx;
            self.cut = Cut { first, second, scale, shifts };
            self.doubtful |= !self.taken && self.score <= self.clear;
            self.taken = true;
        }
    }
}

/// Sums of what the two cuts of a group of `N` elements give.
pub(super) trait Sums<const N: usize> {
    /// Choices of shifts.
    const CHOICES: usize;

    /// `Σ w·q·x` and `Σ w·q²` for a choice of shifts with the first cut at `first` and, lane by lane, the second at the places
    /// from `start` on.
    fn products<V: Lanes>(&self, shifts: usize, first: usize, start: usize) -> (V, V);

    /// The mean shift of the values.
    fn shift(shifts: usize) -> f32;

    /// The best pair of cuts with any shifts.
    #[inline(always)]
    fn best_cut<V: Lanes>(&self, group: &Group<'_, N>) -> Cut {
        let mut best = Best::near(self.guess::<V>(group));
        self.offer_all::<V>(&mut best);
        if best.doubtful || !best.taken {
            best = Best::new();
            self.offer_all::<V>(&mut best);
        }
        best.cut
    }

    #[inline(always)]
    fn offer_all<V: Lanes>(&self, best: &mut Best) {
        for first in 0..=N {
            for start in (first / V::LANES * V::LANES..=N).step_by(V::LANES) {
                let (mut qx, mut qq) = ([[0.0; MOST]; 4], [[0.0; MOST]; 4]);
                let mut beaten = false;
                for shifts in 0..Self::CHOICES {
                    let (sum_qx, sum_qq) = self.products::<V>(shifts, first, start);
                    beaten |= best.beaten(sum_qx, sum_qq);
                    sum_qx.store(&mut qx[shifts]);
                    sum_qq.store(&mut qq[shifts]);
                }
                if beaten {
                    for second in first.max(start)..(start + V::LANES).min(N + 1) {
                        for shifts in 0..Self::CHOICES {
                            let lane = second - start;
                            best.offer(first, second, shifts, qx[shifts][lane], qq[shifts][lane]);
                        }
                    }
                }
            }
        }
    }

    /// The sums of a choice that few are better than: elements go to the nearest of three values, and the values to their
    /// elements, in turn.
    #[inline(always)]
    fn guess<V: Lanes>(&self, group: &Group<'_, N>) -> (f32, f32) {
        let mut best = (0.0, 1.0);
        for shifts in 0..Self::CHOICES {
            let mut sums: (f32, f32) = self.products(shifts, N / 4, N - N / 4);
            for _ in 0..TURNS {
                let scale = sums.0 / sums.1;
                let first = below::<V, N>(group.x, scale * (Self::shift(shifts) - 0.5));
                let second = below::<V, N>(group.x, scale * (Self::shift(shifts) + 0.5));
                sums = self.products(shifts, first.min(second), second);
            }
            if sums.0 * sums.0 * best.1 > best.0 * best.0 * sums.1 {
                best = sums;
            }
        }
        best
    }
}

/// Turns of [`Sums::guess`].
const TURNS: usize = 2;

/// How many are below `bound`.
#[inline(always)]
fn below<V: Lanes, const N: usize>(x: &[f32; N], bound: f32) -> usize {
    let mut count = 0;
    for first in (0..N).step_by(V::LANES) {
        count += V::bits(V::load(&x[first..]).less(V::splat(bound))).count_ones();
    }
    count as usize
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

/// The elements' places, by size; equals stay in their order. Each element counts those before it: no branch is guessed.
#[inline(always)]
pub(super) fn sorted<V: Lanes, const N: usize>(x: &[f32; N]) -> [u8; N] {
    let places: [f32; N] = std::array::from_fn(|i| i as f32);
    let mut order = [0; N];
    for first in (0..N).step_by(V::LANES) {
        let (own, own_places) = (V::load(&x[first..]), V::load(&places[first..]));
        let mut ranks = V::splat(0.0);
        for (&other, &place) in x.iter().zip(&places) {
            let (other, place) = (V::splat(other), V::splat(place));
            let before = other.less(own) | other.equals(own) & place.less(own_places);
            ranks = ranks + V::select(before, V::splat(1.0), V::splat(0.0));
        }
        let mut lanes = [0.0; MOST];
        ranks.store(&mut lanes);
        for (lane, &rank) in lanes.iter().enumerate().take(V::LANES) {
            order[rank as usize] = (first + lane) as u8;
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{iq1_m, iq1_s};

    fn check<const N: usize, S: Sums<N>>(sums: impl Fn(&Group<'_, N>) -> S) {
        let noise = |k: usize| ((k * 7919 % 20011) as f32 / 10006.0 - 1.0).powi(3);
        for (seed, unit) in (0..3000).zip([1.0, 1e-3, 1e-12, 1e12, 1e-18].into_iter().cycle()) {
            // Some are all alike, some all of one sign.
            let bound = if seed % 7 == 0 { 0.1 } else { 10.0 };
            let x: [f32; N] = std::array::from_fn(|i| unit * noise(N * seed + i).clamp(-bound, bound));
            let x = if seed % 11 == 0 { x.map(f32::abs) } else { x };
            let weights = std::array::from_fn(|i| unit * noise(3 * seed + 17 * i).abs());
            let group = Group { x: &x, weights: &weights, order: sorted::<f32, N>(&x) };
            let sums = sums(&group);
            let mut all = Best::new();
            sums.offer_all::<f32>(&mut all);
            assert_eq!(sums.best_cut::<f32>(&group), all.cut, "{seed}");
        }
    }

    #[test]
    fn what_is_passed_over_is_not_the_best() {
        check::<{ iq1_s::GROUP }, _>(iq1_s::Running::new);
        check::<{ iq1_m::GROUP }, _>(iq1_m::Half::both);
    }

    #[test]
    fn equals_stay_in_their_order() {
        let mut x = [0.5; 16];
        (x[3], x[7], x[9], x[12]) = (-0.0, 0.0, -1.0, 0.0);
        assert_eq!(sorted::<f32, 16>(&x), [9, 3, 7, 12, 0, 1, 2, 4, 5, 6, 8, 10, 11, 13, 14, 15]);
    }
}
