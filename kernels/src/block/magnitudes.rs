//! The search of IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS and IQ3_S, whose blocks hold signs, points of a codebook of
//! magnitudes, and scales that are odd multiples.
//!
//! `weight = scale * (2 * level + 1)`, with its sign.
//!
//! Source: ggml's `quantize_row_iq2_xxs_impl` and its four siblings. For each scale of a grid the magnitudes are
//! rounded to levels; levels that are no point of the codebook are replaced by the best of their neighbours. The
//! scales of a grid run side by side, and so do 16 neighbours. Scales in the lanes and points one by one gave IQ3_XXS
//! 10 % and took 10 % from the others: not taken.

use super::contenders::Room;
use super::points::{Codebook, Found, Odd};
use crate::block::fit::integer::nearest_int;
use crate::block::fit::nonnegative;
use crate::block::fit::weights::{importance_weights, squares, sum_of_squares};
use crate::lanes::{MOST, Simd, to_slice, transposed};

/// The number of weights of a superblock.
pub(super) const ELEMENTS: usize = 256;
/// The largest number of scales in a grid, a whole number of vectors.
const CANDIDATES: usize = 32;

/// The differences between the types. All numbers are those of ggml's encoders.
pub(super) struct Rules {
    /// The number of levels of a coordinate.
    pub(super) levels: u8,
    /// The factor from the mean square of a superblock to the variance that weights its errors.
    pub(super) variance: f32,
    /// True if the number of negative signs of eight weights is even, so that seven of them are stored.
    pub(super) even_signs: bool,
    /// The magnitude below which all elements of a group count as zero.
    pub(super) zero: f32,
    /// True if the grid is laid around a first fit, false if it is laid around the largest magnitude.
    pub(super) first_fit: bool,
    /// The number of scales of the grid on either side of its middle: the largest magnitude lands on the largest value
    /// plus `step` times -`steps` to `steps`.
    pub(super) steps: i32,
    pub(super) step: f32,
    /// The points that are searched once more under the scale that was found.
    pub(super) again: Again,
    /// The factor by which ggml changes the stored scale, found there by trial.
    pub(super) fudge: f32,
}

/// The choice of the points that are searched once more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// All points are searched once more.
    All,
    /// All points are searched once more if some do not have the levels of their weights.
    AllIfInexact,
    /// The points that do not have the levels of their weights are searched once more.
    Inexact,
}

/// A group's fit: a scale, `P` points and `S` bytes of signs.
#[derive(Clone, Copy)]
pub(super) struct MagnitudeFit<const P: usize, const S: usize> {
    pub(super) scale: f32,
    pub(super) points: [u16; P],
    /// One bit for each weight, the first in the lowest bit; it is set where the weight is negative.
    pub(super) signs: [u8; S],
}

/// The magnitudes of a group, their weights, and the square roots of the weights, by which ggml compares points.
struct MagnitudeGroup<'a, const N: usize> {
    x: &'a [f32; N],
    weights: &'a [f32; N],
    roots: [f32; N],
}

/// Fits the `G` groups of a superblock, which have `N` weights and `P` points of `D` weights each.
#[inline(always)]
pub(super) fn fit<V: Simd, const N: usize, const D: usize, const P: usize, const S: usize, const G: usize>(
    rules: &Rules,
    book: &Codebook<D>,
    x: &[[f32; N]; G],
    importance: Option<&[[f32; N]; G]>,
) -> [MagnitudeFit<P, S>; G] {
    let variance = rules.variance * sum_of_squares(x.as_flattened()) / ELEMENTS as f32;
    let mut all = MagnitudeGroups { x: [[0.0; N]; G], weights: [[0.0; N]; G] };
    let mut signs = [[0u8; S]; G];
    for g in 0..G {
        all.weights[g] = match importance {
            Some(importance) => importance_weights(&x[g], &importance[g], variance),
            // Of these types only IQ3_S can be encoded without importance.
            None => squares(&x[g]),
        };
        (all.x[g], signs[g]) = split_signs::<N, S>(&x[g], &all.weights[g], rules.even_signs);
    }
    let scales = if rules.first_fit { all.first_scales::<V>(rules) } else { [0.0; G] };
    let mut room = Room::NEW;
    let mut fits = [MagnitudeFit { scale: 0.0, points: [0; P], signs: [0; S] }; G];
    for g in 0..G {
        let mut roots = all.weights[g];
        for root in &mut roots {
            *root = root.sqrt();
        }
        let group = MagnitudeGroup { x: &all.x[g], weights: &all.weights[g], roots };
        fits[g] = group.fit::<V, D, P, S>(rules, book, scales[g], signs[g], &mut room);
    }
    fits
}

/// The magnitudes of all groups and their weights.
struct MagnitudeGroups<const N: usize, const G: usize> {
    x: [[f32; N]; G],
    weights: [[f32; N]; G],
}

impl<const N: usize, const G: usize> MagnitudeGroups<N, G> {
    /// Returns the scales of the groups' fits to consecutive integers, around which the grids are laid. All groups
    /// run side by side; one by one these fits took a third of the time.
    #[inline(always)]
    fn first_scales<V: Simd>(&self, rules: &Rules) -> [f32; G] {
        let mut scales = [0.0; G];
        for first in (0..G).step_by(V::WIDTH) {
            let (x, weights) = (transposed(&self.x[first..]), transposed(&self.weights[first..]));
            let fit = nonnegative::fit::<V, N>(&x, &weights, rules.levels + 1);
            to_slice(fit.scale, &mut scales[first..]);
        }
        scales
    }
}

/// Splits elements into magnitudes and signs. Where the number of negative signs must be even, the element that counts
/// least changes its sign and gets a negative magnitude.
#[inline(always)]
fn split_signs<const N: usize, const S: usize>(
    x: &[f32; N],
    weights: &[f32; N],
    even: bool,
) -> ([f32; N], [u8; S]) {
    let mut magnitudes = *x;
    let mut signs = [0u8; S];
    for (k, signs) in signs.iter_mut().enumerate() {
        for i in 0..8 {
            let v = x[8 * k + i];
            // A comparison and not the sign bit decides, because minus zero counts as positive.
            if v < 0.0 {
                magnitudes[8 * k + i] = -v;
                *signs |= 1 << i;
            }
        }
        if even && signs.count_ones() % 2 == 1 {
            let cost = |i: usize| weights[8 * k + i] * x[8 * k + i] * x[8 * k + i];
            let mut least = 0;
            for i in 1..8 {
                if cost(i) < cost(least) {
                    least = i;
                }
            }
            magnitudes[8 * k + least] = -magnitudes[8 * k + least];
            *signs ^= 1 << least;
        }
    }
    (magnitudes, signs)
}

impl<const N: usize> MagnitudeGroup<'_, N> {
    /// Fits the group. `first` is the scale of the first fit, 0 for types without one.
    #[inline(always)]
    fn fit<V: Simd, const D: usize, const P: usize, const S: usize>(
        &self,
        rules: &Rules,
        book: &Codebook<D>,
        first: f32,
        mut signs: [u8; S],
        room: &mut Room,
    ) -> MagnitudeFit<P, S> {
        let nothing = MagnitudeFit { scale: 0.0, points: [0; P], signs: [0; S] };
        let mut largest = self.x[0];
        for &v in self.x {
            largest = if largest > v { largest } else { v };
        }
        if largest < rules.zero {
            return nothing;
        }
        let top = f32::from(2 * rules.levels - 1);
        let (mut scale, reach) =
            if rules.first_fit { (first, first * f32::from(rules.levels)) } else { (largest / top, largest) };
        if reach <= 0.0 {
            return nothing;
        }
        // These points stay if all weights are zero, since no scale is better than another then.
        let mut points = [Found { number: 0, exact: rules.again != Again::AllIfInexact }; P];
        self.best_of_grid::<V, D, P>(rules, book, reach, &mut scale, &mut points, room);
        self.search_again::<V, D, P>(rules, book, &mut scale, &mut points);
        if scale < 0.0 {
            scale = -scale;
            signs = signs.map(|signs| !signs);
        }
        MagnitudeFit { scale, points: points.map(|found| found.number), signs }
    }

    /// Tries every scale of the grid; the resulting points are compared under their own least-squares scale. The
    /// scales run side by side in the lanes.
    #[inline(always)]
    fn best_of_grid<V: Simd, const D: usize, const P: usize>(
        &self,
        rules: &Rules,
        book: &Codebook<D>,
        reach: f32,
        scale: &mut f32,
        points: &mut [Found; P],
        room: &mut Room,
    ) {
        let count = 2 * rules.steps as usize + 1;
        let (mut inverses, mut scales) = ([0.0; CANDIDATES], [0.0; CANDIDATES]);
        for (c, (inverse, scale)) in inverses.iter_mut().zip(&mut scales).enumerate() {
            let step = c as i32 - rules.steps;
            *inverse = (f32::from(2 * rules.levels - 1) + step as f32 * rules.step) / reach;
            *scale = 1.0 / *inverse;
        }
        let codes = self.codes::<V, D, P, CANDIDATES>(rules, &inverses);
        let mut found = [[Found::default(); CANDIDATES]; P];
        let mut odds = [[0.0f32; CANDIDATES]; N];
        if book.has_long_lists() {
            for k in 0..P {
                let (x, roots) = (&self.x.as_chunks().0[k], &self.roots.as_chunks().0[k]);
                book.find_each::<V>(&codes[k][..count], x, roots, &scales, &mut found[k], room);
            }
        }
        for c in 0..count {
            for k in 0..P {
                if !book.has_long_lists() {
                    found[k][c] = self.find::<V, D>(book, k, codes[k][c], scales[c]);
                }
                let point = book.odds(found[k][c].number);
                for i in 0..D {
                    odds[D * k + i][c] = point[i];
                }
            }
        }
        let (mut qx, mut qq) = ([0.0; CANDIDATES], [0.0; CANDIDATES]);
        for first in (0..CANDIDATES).step_by(V::WIDTH) {
            let (mut sum_qx, mut sum_qq) = (V::splat(0.0), V::splat(0.0));
            for (odds, (&x, &w)) in odds.iter().zip(self.x.iter().zip(self.weights)) {
                let odd = V::load(&odds[first..]);
                sum_qx = sum_qx + V::splat(w * x) * odd;
                sum_qq = sum_qq + V::splat(w) * odd * odd;
            }
            sum_qx.store(&mut qx[first..]);
            sum_qq.store(&mut qq[first..]);
        }
        let mut best = 0.0;
        for c in 0..count {
            if qq[c] > 0.0 && qx[c] * qx[c] > best * qq[c] {
                *scale = qx[c] / qq[c];
                best = *scale * qx[c];
                *points = std::array::from_fn(|k| found[k][c]);
            }
        }
    }

    /// Searches points once more, under the scale that was found, and fits the scale to them.
    #[inline(always)]
    fn search_again<V: Simd, const D: usize, const P: usize>(
        &self,
        rules: &Rules,
        book: &Codebook<D>,
        scale: &mut f32,
        points: &mut [Found; P],
    ) {
        let inexact = points.iter().any(|found| !found.exact);
        if *scale <= 0.0 || rules.again != Again::All && !inexact {
            return;
        }
        let codes = self.codes::<f32, D, P, 1>(rules, &[1.0 / *scale]);
        for (k, found) in points.iter_mut().enumerate() {
            if rules.again != Again::Inexact || !found.exact {
                *found = self.find::<V, D>(book, k, codes[k][0], *scale);
            }
        }
        let (mut qx, mut qq) = (0.0, 0.0);
        for (k, found) in points.iter().enumerate() {
            for (i, &odd) in book.odds(found.number).iter().enumerate() {
                let w = self.weights[D * k + i];
                qx += w * self.x[D * k + i] * odd;
                qq += w * odd * odd;
            }
        }
        if qq > 0.0 {
            *scale = qx / qq;
        }
    }

    /// Returns, for each point, the packed levels of its elements under several scales, whose inverses are given.
    #[inline(always)]
    fn codes<V: Simd, const D: usize, const P: usize, const C: usize>(
        &self,
        rules: &Rules,
        inverses: &[f32; C],
    ) -> [[u16; C]; P] {
        let mut codes = [[0; C]; P];
        let top = i32::from(rules.levels) - 1;
        for first in (0..C).step_by(V::WIDTH) {
            let inverse = V::load(&inverses[first..]);
            for (k, codes) in codes.iter_mut().enumerate() {
                // A code is an integer of 16 bits, which is exact as a float.
                let mut sum = V::splat(0.0);
                for i in 0..D {
                    let steps = V::splat(0.5) * (inverse * V::splat(self.x[D * k + i]) - V::splat(1.0));
                    let place = (1 << (Codebook::<D>::BITS * i)) as f32;
                    sum = sum + steps.nearest_int(0, top) * V::splat(place);
                }
                let mut lanes = [0.0; MOST];
                sum.store(&mut lanes);
                for (code, lane) in codes[first..].iter_mut().zip(lanes).take(V::WIDTH) {
                    *code = lane as u16;
                }
            }
        }
        codes
    }

    /// Returns the point for the `k`-th `D` elements of the group.
    #[inline(always)]
    fn find<V: Simd, const D: usize>(&self, book: &Codebook<D>, k: usize, code: u16, scale: f32) -> Found {
        book.find::<V>(code, &self.x.as_chunks().0[k], &self.roots.as_chunks().0[k], Odd(scale))
    }
}

/// Returns the scale that a superblock stores and the code of each group's scale, which stands for
/// `d * (2 * code + 1)`; `None` when all scales are 0.
#[inline(always)]
pub(super) fn code_scales<const P: usize, const S: usize, const G: usize>(
    rules: &Rules,
    fits: &[MagnitudeFit<P, S>; G],
) -> Option<(f32, [u8; G])> {
    let mut largest = 0.0f32;
    for fit in fits {
        largest = if largest > fit.scale { largest } else { fit.scale };
    }
    if largest == 0.0 {
        return None;
    }
    let d = largest / 31.0;
    let inverse = 1.0 / d;
    let codes = fits.each_ref().map(|fit| nearest_int(0.5 * (inverse * fit.scale - 1.0)).clamp(0, 15) as u8);
    Some((d * rules.fudge, codes))
}
