//! What the encoders of Q2_K, Q4_K and Q5_K share: a superblock of `G` groups of `N` weights, each group with scale
//! and offset, which are themselves codes of the superblock's `d` and `dmin`.
//!
//! `weight = d * scale * code - dmin * offset`

use crate::search::affine::{self, AffineFit, Grid, Loss};
use crate::search::rounding::nearest_int;
use crate::search::weights::{importance_weights, total};
use crate::search::{Fit, nonnegative};

/// The groups of one superblock.
pub(super) type Groups<const G: usize, const N: usize> = [[f32; N]; G];

/// The fits of the groups, before their scales and offsets are coded.
pub(super) struct Fits<const G: usize, const N: usize> {
    scales: [f32; G],
    offsets: [f32; G],
    pub(super) codes: [[u8; N]; G],
}

/// Scales and offsets of all groups, coded.
pub(super) struct Coded<const G: usize> {
    /// Of the scales; codes from a degenerate fit can be above the top code.
    pub(super) scales: Fit<G>,
    /// Of the offsets.
    pub(super) offsets: Fit<G>,
}

impl<const G: usize> Coded<G> {
    /// With no code above `top`.
    pub(super) fn bounded(self, top: u8) -> Self {
        let bound = |fit: Fit<G>| Fit { codes: fit.codes.map(|code| code.min(top)), ..fit };
        Self { scales: bound(self.scales), offsets: bound(self.offsets) }
    }
}

impl<const G: usize, const N: usize> Fits<G, N> {
    fn collect(groups: &[AffineFit<N>; G]) -> Self {
        Self {
            scales: groups.each_ref().map(|fit| fit.scale),
            offsets: groups.each_ref().map(|fit| fit.offset),
            codes: groups.each_ref().map(|fit| fit.codes),
        }
    }
}

/// Fits and codes without importance: every group by `fit`; the largest scale and the largest offset get `top`.
pub(super) fn fit_plain<const G: usize, const N: usize>(
    x: &Groups<G, N>,
    top: u8,
    fit: impl Fn(&[f32; N]) -> AffineFit<N>,
) -> (Fits<G, N>, Coded<G>) {
    let fits = Fits::collect(&x.each_ref().map(fit));
    let coded = Coded { scales: by_maximum(&fits.scales, top), offsets: by_maximum(&fits.offsets, top) };
    (fits, coded)
}

/// Fits and codes with importance: element codes up to `code_top`, scales and offsets up to `top`, the latter by a
/// search in which a group counts what its elements count.
pub(super) fn fit_weighted<const G: usize, const N: usize>(
    x: &Groups<G, N>,
    importance: &Groups<G, N>,
    variance: f32,
    code_top: u8,
    top: u8,
) -> (Fits<G, N>, Coded<G>) {
    let weights: Groups<G, N> = std::array::from_fn(|g| importance_weights(&x[g], &importance[g], variance));
    let fits = Fits::collect(&std::array::from_fn(|g| {
        affine::fit(&x[g], &weights[g], code_top, &Grid::WEIGHTED, Loss::Squared)
    }));
    let totals = weights.each_ref().map(|group| total(group));
    let coded = Coded {
        scales: nonnegative::fit(&fits.scales, &totals, top),
        offsets: nonnegative::fit(&fits.offsets, &totals, top),
    };
    (fits, coded)
}

/// Codes of which the largest value gets `top`; all zero when none is positive.
fn by_maximum<const G: usize>(values: &[f32; G], top: u8) -> Fit<G> {
    let largest = values.iter().fold(0.0, |largest: f32, &v| if v > largest { v } else { largest });
    let top = f32::from(top);
    let inverse = if largest > 0.0 { top / largest } else { 0.0 };
    Fit { scale: largest / top, codes: values.map(|v| nearest_int(inverse * v) as u8) }
}
