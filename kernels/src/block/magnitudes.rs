//! The search of IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS and IQ3_S: signs, points of a codebook of magnitudes, and scales that are
//! odd multiples.
//!
//! `weight = scale * (2 * level + 1)`, with its sign. Source: ggml's `quantize_row_iq2_xxs_impl` and its four siblings.

use super::points::{Codebook, Found, Odd};
use crate::search::nonnegative;
use crate::search::rounding::nearest_int;
use crate::search::weights::{importance_weights, squares, sum_of_squares};

/// Weights of a superblock.
pub(super) const ELEMENTS: usize = 256;
/// Scales in a grid at most.
const CANDIDATES: usize = 32;

/// What sets the types apart.
pub(super) struct Rules {
    /// Levels of a coordinate.
    pub(super) levels: u8,
    /// Mean squares of a superblock that make up its variance.
    pub(super) variance: f32,
    /// Whether the number of negative signs of eight weights is even, so that seven are stored.
    pub(super) even_signs: bool,
    /// A group whose largest magnitude is below this is all zero.
    pub(super) zero: f32,
    /// Whether the grid is laid around a first fit, and not on the largest magnitude.
    pub(super) first_fit: bool,
    /// The grid: the largest magnitude lands on the largest value plus `step` times -`steps` to `steps`.
    pub(super) steps: i32,
    pub(super) step: f32,
    /// Which points are searched once more under the scale that was found.
    pub(super) again: Again,
    /// What the stored scale is multiplied by.
    pub(super) fudge: f32,
}

/// Which points are searched once more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// All.
    All,
    /// All, if some had not the levels of the weights.
    AllIfInexact,
    /// Those that had not.
    Inexact,
}

/// A group's fit: `P` points and `S` bytes of signs.
#[derive(Clone, Copy)]
pub(super) struct GroupFit<const P: usize, const S: usize> {
    pub(super) scale: f32,
    pub(super) points: [u16; P],
    /// Set where a weight is negative, the first in the lowest bit.
    pub(super) signs: [u8; S],
}

/// Magnitudes of a group, their weights, and the square roots of those.
struct Group<const N: usize> {
    x: [f32; N],
    weights: [f32; N],
    roots: [f32; N],
}

/// Fits the groups of a superblock, of `N` weights each; `D` are a point.
#[inline(always)]
pub(super) fn fit<const N: usize, const D: usize, const P: usize, const S: usize, const G: usize>(
    rules: &Rules,
    book: &Codebook<D>,
    x: &[[f32; N]; G],
    importance: Option<&[[f32; N]; G]>,
) -> [GroupFit<P, S>; G] {
    let variance = rules.variance * sum_of_squares(x.as_flattened()) / ELEMENTS as f32;
    let mut fits = [GroupFit { scale: 0.0, points: [0; P], signs: [0; S] }; G];
    for (g, fit) in fits.iter_mut().enumerate() {
        let weights = match importance {
            Some(importance) => importance_weights(&x[g], &importance[g], variance),
            // Only IQ3_S can be without.
            None => squares(&x[g]),
        };
        *fit = fit_group(rules, book, &x[g], weights);
    }
    fits
}

#[inline(always)]
fn fit_group<const N: usize, const D: usize, const P: usize, const S: usize>(
    rules: &Rules,
    book: &Codebook<D>,
    x: &[f32; N],
    weights: [f32; N],
) -> GroupFit<P, S> {
    let (x, mut signs) = split_signs::<N, S>(x, &weights, rules.even_signs);
    let mut roots = weights;
    for root in &mut roots {
        *root = root.sqrt();
    }
    let group = Group { x, weights, roots };
    let nothing = GroupFit { scale: 0.0, points: [0; P], signs: [0; S] };
    let mut largest = group.x[0];
    for &v in &group.x {
        largest = if largest > v { largest } else { v };
    }
    if largest < rules.zero {
        return nothing;
    }
    let top = f32::from(2 * rules.levels - 1);
    let (mut scale, reach) = if rules.first_fit {
        let scale = nonnegative::fit(&group.x, &group.weights, rules.levels + 1).scale;
        (scale, scale * f32::from(rules.levels))
    } else {
        (largest / top, largest)
    };
    if reach <= 0.0 {
        return nothing;
    }
    // Where nothing counts no scale is better than another: then these stay.
    let mut points = [Found { number: 0, exact: rules.again != Again::AllIfInexact }; P];
    group.best_of_grid(rules, book, reach, &mut scale, &mut points);
    group.search_again(rules, book, &mut scale, &mut points);
    if scale < 0.0 {
        scale = -scale;
        signs = signs.map(|signs| !signs);
    }
    GroupFit { scale, points: points.map(|found| found.number), signs }
}

/// Magnitudes and signs. Where the number of negative ones must be even, the element that counts least changes its sign.
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
            // Not the sign bit: minus zero counts as positive.
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

impl<const N: usize> Group<N> {
    /// Tries every scale of the grid, each judged with its own least-squares scale.
    #[inline(always)]
    fn best_of_grid<const D: usize, const P: usize>(
        &self,
        rules: &Rules,
        book: &Codebook<D>,
        reach: f32,
        scale: &mut f32,
        points: &mut [Found; P],
    ) {
        let count = 2 * rules.steps as usize + 1;
        let mut found = [[Found::default(); P]; CANDIDATES];
        // Candidates side by side, so that their sums are.
        let mut values = [[0.0f32; CANDIDATES]; N];
        for (c, found) in found.iter_mut().take(count).enumerate() {
            let step = c as i32 - rules.steps;
            let inverse = (f32::from(2 * rules.levels - 1) + step as f32 * rules.step) / reach;
            let levels = self.levels(rules, inverse);
            for (k, found) in found.iter_mut().enumerate() {
                *found = self.find(book, k, &levels, 1.0 / inverse);
                for (i, level) in book.levels(found.number).into_iter().enumerate() {
                    values[D * k + i][c] = f32::from(2 * level + 1);
                }
            }
        }
        let (mut qx, mut qq) = ([0.0; CANDIDATES], [0.0; CANDIDATES]);
        for (values, (&x, &w)) in values.iter().zip(self.x.iter().zip(&self.weights)) {
            for c in 0..CANDIDATES {
                qx[c] += w * x * values[c];
                qq[c] += w * values[c] * values[c];
            }
        }
        let mut best = 0.0;
        for c in 0..count {
            if qq[c] > 0.0 && qx[c] * qx[c] > best * qq[c] {
                *scale = qx[c] / qq[c];
                best = *scale * qx[c];
                *points = found[c];
            }
        }
    }

    /// Searches points once more, under the scale that was found, and fits the scale to them.
    #[inline(always)]
    fn search_again<const D: usize, const P: usize>(
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
        let levels = self.levels(rules, 1.0 / *scale);
        for (k, found) in points.iter_mut().enumerate() {
            if rules.again != Again::Inexact || !found.exact {
                *found = self.find(book, k, &levels, *scale);
            }
        }
        let (mut qx, mut qq) = (0.0, 0.0);
        for (k, found) in points.iter().enumerate() {
            for (i, level) in book.levels(found.number).into_iter().enumerate() {
                let (q, w) = (f32::from(2 * level + 1), self.weights[D * k + i]);
                qx += w * self.x[D * k + i] * q;
                qq += w * q * q;
            }
        }
        if qq > 0.0 {
            *scale = qx / qq;
        }
    }

    /// The level of each element under the scale whose inverse is given.
    #[inline(always)]
    fn levels(&self, rules: &Rules, inverse: f32) -> [u8; N] {
        let mut levels = [0; N];
        for (level, &x) in levels.iter_mut().zip(&self.x) {
            *level = nearest_int(0.5 * (inverse * x - 1.0)).clamp(0, i32::from(rules.levels) - 1) as u8;
        }
        levels
    }

    /// The point for the `D` elements number `k`.
    #[inline(always)]
    fn find<const D: usize>(&self, book: &Codebook<D>, k: usize, levels: &[u8; N], scale: f32) -> Found {
        let levels = &levels.as_chunks().0[k];
        book.find(levels, &self.x.as_chunks().0[k], &self.roots.as_chunks().0[k], Odd(scale))
    }
}

/// The stored scale of a superblock, and each group's: `d * (2 * code + 1)`; `None` when all vanish.
#[inline(always)]
pub(super) fn code_scales<const P: usize, const S: usize, const G: usize>(
    rules: &Rules,
    fits: &[GroupFit<P, S>; G],
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
