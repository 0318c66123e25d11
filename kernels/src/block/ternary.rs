//! The search of IQ1_S and IQ1_M, whose weights are -1, 0 or 1 times a scale, all shifted a little up or down.
//!
//! The elements of a group are sorted by size and cut into three runs, which get the three values. Every pair of cuts
//! and every choice of shifts is tried. Then the nearest points replace combinations that are not in the codebook.
//!
//! Sources: ggml's `quantize_row_iq1_s_impl` and `quantize_row_iq1_m_impl`. The second cut is in the lanes. Ranks
//! replace sorting, and pairs of cuts that are clearly worse than a guess are passed over, so that few vectors are
//! looked at lane by lane: IQ1_S went from 14.9 to 27.8 million weights per second, IQ1_M from 11.0 to 18.6.

use super::iq1_s::SHIFT;
use super::points::{Codebook, Found, Shifted};
use crate::lanes::{MOST, Simd};

/// The number of coordinates of a point.
pub(super) const D: usize = 8;

/// The three values in units of the scale, shifted up and, below, shifted down.
pub(super) const UP: [f32; 3] = [-1.0 + SHIFT, SHIFT, 1.0 + SHIFT];
pub(super) const DOWN: [f32; 3] = [-1.0 - SHIFT, -SHIFT, 1.0 - SHIFT];

/// The elements of a group with their weights, and their places in ascending order.
pub(super) struct SortedGroup<'a, const N: usize> {
    pub(super) x: &'a [f32; N],
    pub(super) weights: &'a [f32; N],
    pub(super) order: [u8; N],
}

/// The places at which the sorted elements are cut, the least-squares scale, and the choice of shifts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cut {
    pub(super) first: usize,
    pub(super) second: usize,
    pub(super) scale: f32,
    pub(super) shifts: usize,
}

/// The best cut so far.
///
/// A cut is taken if it is better than the best so far. Cuts that are clearly worse than a good one can be passed over
/// without a change of the winner, provided that the first cut taken is better than all those passed over by more than
/// rounding errors, some 2^-22. If it is not, it is in doubt, and the search starts again without passing over.
pub(super) struct BestCut {
    pub(super) cut: Cut,
    score: f32,
    /// The score above which the first cut taken is not in doubt.
    clear: f32,
    /// True once a cut was taken.
    taken: bool,
    doubtful: bool,
}

/// The fraction of the guess's score below which cuts are passed over, and below it the factor by which the first cut
/// taken must exceed that. Both are far above rounding errors.
const PASSED_OVER: f32 = 1.0 - 1e-4;
const CLEAR: f32 = 1.0 + 1e-5;
/// The squares of sums whose rounding errors are relative: none is subnormal, none overflows.
const SAFE: std::ops::Range<f32> = 1e-30..1e30;

impl BestCut {
    /// Returns a start that passes no cut over.
    fn new() -> Self {
        let cut = Cut { first: 0, second: 0, scale: 0.0, shifts: 0 };
        Self { cut, score: f32::MIN, clear: f32::MIN, taken: false, doubtful: false }
    }

    /// Returns a start that passes over cuts that are clearly worse than one with these sums.
    fn near((qx, qq): (f32, f32)) -> Self {
        let score = qx / qq * qx * PASSED_OVER;
        if !(qq > 0.0 && SAFE.contains(&(qx * qx)) && SAFE.contains(&score)) {
            return Self::new();
        }
        Self { score, clear: score * CLEAR, ..Self::new() }
    }

    /// Returns true if any lane is better than the best so far: `qx` is `Σ w·q·x`, `qq` is `Σ w·q²`.
    #[inline(always)]
    fn beaten<V: Simd>(&self, qx: V, qq: V) -> bool {
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

/// The sums over a group of `N` elements from which every pair of cuts is scored.
pub(super) trait CutSums<const N: usize> {
    /// The number of choices of shifts.
    const CHOICES: usize;

    /// Returns `Σ w·q·x` and `Σ w·q²` for a choice of shifts with the first cut at `first` and, lane by lane, the
    /// second cut at the places from `start` on.
    fn products<V: Simd>(&self, shifts: usize, first: usize, start: usize) -> (V, V);

    /// Returns the mean shift of the values under a choice of shifts.
    fn shift(shifts: usize) -> f32;

    /// Returns the best pair of cuts with any shifts.
    #[inline(always)]
    fn best_cut<V: Simd>(&self, group: &SortedGroup<'_, N>) -> Cut {
        let mut best = BestCut::near(self.guess::<V>(group));
        self.offer_all::<V>(&mut best);
        if best.doubtful || !best.taken {
            best = BestCut::new();
            self.offer_all::<V>(&mut best);
        }
        best.cut
    }

    #[inline(always)]
    fn offer_all<V: Simd>(&self, best: &mut BestCut) {
        for first in 0..=N {
            for start in (first / V::WIDTH * V::WIDTH..=N).step_by(V::WIDTH) {
                let (mut qx, mut qq) = ([[0.0; MOST]; 4], [[0.0; MOST]; 4]);
                let mut beaten = false;
                for shifts in 0..Self::CHOICES {
                    let (sum_qx, sum_qq) = self.products::<V>(shifts, first, start);
                    beaten |= best.beaten(sum_qx, sum_qq);
                    sum_qx.store(&mut qx[shifts]);
                    sum_qq.store(&mut qq[shifts]);
                }
                if beaten {
                    for second in first.max(start)..(start + V::WIDTH).min(N + 1) {
                        for shifts in 0..Self::CHOICES {
                            let lane = second - start;
                            best.offer(first, second, shifts, qx[shifts][lane], qq[shifts][lane]);
                        }
                    }
                }
            }
        }
    }

    /// Returns the sums of a good cut: by turns, elements go to the nearest of the three values, and the scale is
    /// fitted to them.
    #[inline(always)]
    fn guess<V: Simd>(&self, group: &SortedGroup<'_, N>) -> (f32, f32) {
        let mut best = (0.0, 1.0);
        for shifts in 0..Self::CHOICES {
            let mut sums: (f32, f32) = self.products(shifts, N / 4, N - N / 4);
            for _ in 0..GUESS_TURNS {
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

/// The number of turns of [`CutSums::guess`].
const GUESS_TURNS: usize = 2;

/// Returns the number of elements below `bound`.
#[inline(always)]
fn below<V: Simd, const N: usize>(x: &[f32; N], bound: f32) -> usize {
    let mut count = 0;
    for first in (0..N).step_by(V::WIDTH) {
        count += V::bits(V::load(&x[first..]).less(V::splat(bound))).count_ones();
    }
    count as usize
}

/// A group's fit.
#[derive(Clone, Copy)]
pub(super) struct TernaryFit<const P: usize> {
    pub(super) scale: f32,
    pub(super) points: [u16; P],
    /// The choice of shifts.
    pub(super) shifts: usize,
}

impl<const P: usize> TernaryFit<P> {
    /// The fit of a group of zeros.
    pub(super) const ZERO: Self = Self { scale: 0.0, points: [0; P], shifts: 0 };
}

/// Returns the places of the elements in ascending order of size; equals stay in their order. Each element counts those
/// before it, so that there are no branches to mispredict.
#[inline(always)]
pub(super) fn sorted<V: Simd, const N: usize>(x: &[f32; N]) -> [u8; N] {
    let places: [f32; N] = std::array::from_fn(|i| i as f32);
    let mut order = [0; N];
    for first in (0..N).step_by(V::WIDTH) {
        let (own, own_places) = (V::load(&x[first..]), V::load(&places[first..]));
        let mut ranks = V::splat(0.0);
        for (&other, &place) in x.iter().zip(&places) {
            let (other, place) = (V::splat(other), V::splat(place));
            let before = other.less(own) | other.equals(own) & place.less(own_places);
            ranks = ranks + V::select(before, V::splat(1.0), V::splat(0.0));
        }
        let mut lanes = [0.0; MOST];
        ranks.store(&mut lanes);
        for (lane, &rank) in lanes.iter().enumerate().take(V::WIDTH) {
            order[rank as usize] = (first + lane) as u8;
        }
    }
    order
}

impl<const N: usize> SortedGroup<'_, N> {
    /// Returns the points for the levels of a cut, and fits the scale once more if some levels were not in the
    /// codebook. `shift` returns the shift of a point, given the choice of shifts and the point's index in the group.
    /// `opposite` returns the choice of shifts that stands for the negative values of another.
    #[inline(always)]
    pub(super) fn to_points<V: Simd, const P: usize>(
        &self,
        book: &Codebook<D>,
        cut: Cut,
        shift: impl Fn(usize, usize) -> f32,
        opposite: impl Fn(usize) -> usize,
    ) -> TernaryFit<P> {
        let mut levels = [2u8; N];
        for (j, &place) in self.order.iter().enumerate().take(cut.second) {
            levels[usize::from(place)] = u8::from(j >= cut.first);
        }
        let mut fit = TernaryFit { scale: cut.scale, points: [0; P], shifts: cut.shifts };
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

    /// Adds `w·q·x` and `w·q²` of the group's point `k` to `sums`. The values q follow from `odds`, which are
    /// `2 * level + 1` of the coordinates: shifted, times `multiple`.
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

/// Returns true if all magnitudes are smaller than `zero`.
#[inline(always)]
pub(super) fn vanishes(x: &[f32], zero: f32) -> bool {
    super::layout::abs_max(x) < zero
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{iq1_m, iq1_s};

    fn check<const N: usize, S: CutSums<N>>(sums: impl Fn(&SortedGroup<'_, N>) -> S) {
        let noise = |k: usize| ((k * 7919 % 20011) as f32 / 10006.0 - 1.0).powi(3);
        for (seed, unit) in (0..3000).zip([1.0, 1e-3, 1e-12, 1e12, 1e-18].into_iter().cycle()) {
            // Some groups have elements that are all alike, some have elements of one sign.
            let bound = if seed % 7 == 0 { 0.1 } else { 10.0 };
            let x: [f32; N] = std::array::from_fn(|i| unit * noise(N * seed + i).clamp(-bound, bound));
            let x = if seed % 11 == 0 { x.map(f32::abs) } else { x };
            let weights = std::array::from_fn(|i| unit * noise(3 * seed + 17 * i).abs());
            let group = SortedGroup { x: &x, weights: &weights, order: sorted::<f32, N>(&x) };
            let sums = sums(&group);
            let mut all = BestCut::new();
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
