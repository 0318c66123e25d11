//! The encoder that Q2_K, Q4_K and Q5_K share. A superblock has `G` groups of `N` weights; each group has a scale and
//! an offset, which are integers times the superblock's `d` and `dmin`.
//!
//! `weight = d * scale * code - dmin * offset`
//!
//! Sources: ggml's `quantize_row_q2_K_ref`, `quantize_row_q4_K_ref` and `quantize_row_q5_K_ref` (plain), and their
//! `_impl` siblings (weighted). The codes of the candidates are not kept while the grid of scales is searched: they
//! are made again from the winner's scale, and only for groups whose stored scale is 0.

use super::row::{AT_ONCE, EncodeBlocks, Groups, vector_starts};
use crate::block::fit::affine;
use crate::block::fit::affine::{Loss, ScaleGrid, Steps};
use crate::block::fit::integer::nearest_int;
use crate::block::fit::nonnegative;
use crate::block::fit::weights::{importance_weights, sums_of_squares, total};
use crate::lanes::{Simd, from_slice, to_slice, transposed};

/// The differences between the types.
pub(super) trait AffineSuperblock<const G: usize, const N: usize, const BYTES: usize> {
    /// The largest code.
    const CODE_TOP: u8;
    /// The largest scale or offset.
    const TOP: u8;
    /// The candidate scales of the search without importance, and below it the loss that they are compared by.
    const PLAIN_GRID: ScaleGrid;
    const PLAIN_LOSS: Loss;
    /// The largest scale or offset that is stored, without importance and, below it, with importance. A degenerate
    /// fit can be above [`TOP`](Self::TOP), and ggml does not bound it everywhere.
    const PLAIN_BOUND: u8;
    const WEIGHTED_BOUND: u8;
    /// The factor from the mean square of a superblock to the variance that weights its errors; each encoder of ggml
    /// has its own.
    const VARIANCE: f32;

    /// Returns the weights of a group's errors without importance.
    fn plain_weights<V: Simd>(x: &[V; N]) -> [V; N];

    /// Stores scales and offsets, rounds the weights once more under them as stored, and stores the codes. A group
    /// whose stored scale is 0 gets the codes of its fit.
    fn write(x: &Groups<G, N>, fits: &AffineFits<G>, coded: &CodedScales<G>, out: &mut [u8; BYTES]);
}

/// The fits of a superblock's groups, as far as codes are made from them: see [`Steps`].
pub(super) struct AffineFits<const G: usize> {
    inverses: [f32; G],
    minimums: [f32; G],
}

impl<const G: usize> AffineFits<G> {
    #[inline(always)]
    pub(super) fn steps(&self, group: usize) -> Steps<f32> {
        Steps { inverse: self.inverses[group], minimum: self.minimums[group] }
    }
}

/// Integers that are multiples of one scale.
#[derive(Clone, Copy)]
pub(super) struct Multiples<const G: usize> {
    pub(super) unit: f32,
    pub(super) codes: [u8; G],
}

/// The scales and offsets of a superblock's groups as integers.
pub(super) struct CodedScales<const G: usize> {
    pub(super) scales: Multiples<G>,
    pub(super) offsets: Multiples<G>,
}

impl<T, const G: usize, const N: usize, const BYTES: usize> EncodeBlocks<Groups<G, N>, BYTES> for T
where
    T: AffineSuperblock<G, N, BYTES>,
{
    /// Codes scales and offsets so that the largest one gets the top code.
    #[inline(always)]
    fn plain<V: Simd>(x: &[Groups<G, N>], out: &mut [[u8; BYTES]]) {
        let mut batch = Batch::new();
        let groups = x.as_flattened();
        for first in vector_starts::<V>(groups.len()) {
            let x = transposed::<V, N>(&groups[first..]);
            let fit = affine::fit(&x, &T::plain_weights(&x), T::CODE_TOP, &T::PLAIN_GRID, T::PLAIN_LOSS);
            batch.put(first, fit);
        }
        for (s, (x, out)) in x.iter().zip(out).enumerate() {
            let coded = CodedScales {
                scales: by_maximum(&batch.scales[s], T::TOP, T::PLAIN_BOUND),
                offsets: by_maximum(&batch.offsets[s], T::TOP, T::PLAIN_BOUND),
            };
            T::write(x, &batch.fits(s), &coded, out);
        }
    }

    /// Codes scales and offsets by a search in which a group counts as much as its elements together.
    #[inline(always)]
    fn weighted<V: Simd>(x: &[Groups<G, N>], importance: &[Groups<G, N>], out: &mut [[u8; BYTES]]) {
        let mut batch = Batch::new();
        let variances = variances::<T, G, N, BYTES>(x);
        let (groups, importance) = (x.as_flattened(), importance.as_flattened());
        let mut totals = [[0.0; G]; AT_ONCE];
        for first in vector_starts::<V>(groups.len()) {
            let x = transposed::<V, N>(&groups[first..]);
            let variance = from_slice(&variances.as_flattened()[first..]);
            let weights = importance_weights(&x, &transposed(&importance[first..]), variance);
            batch.put(first, affine::fit(&x, &weights, T::CODE_TOP, &ScaleGrid::WEIGHTED, Loss::Squared));
            to_slice(total(&weights), &mut totals.as_flattened_mut()[first..]);
        }
        let count = x.len();
        let scales = by_search::<V, G>(&batch.scales[..count], &totals, T::TOP, T::WEIGHTED_BOUND);
        let offsets = by_search::<V, G>(&batch.offsets[..count], &totals, T::TOP, T::WEIGHTED_BOUND);
        for (s, (x, out)) in x.iter().zip(out).enumerate() {
            T::write(x, &batch.fits(s), &CodedScales { scales: scales[s], offsets: offsets[s] }, out);
        }
    }
}

/// Returns the variance of each superblock, repeated for each of its groups.
#[inline(always)]
fn variances<T, const G: usize, const N: usize, const BYTES: usize>(x: &[Groups<G, N>]) -> [[f32; G]; AT_ONCE]
where
    T: AffineSuperblock<G, N, BYTES>,
{
    let mut sums = [0.0; AT_ONCE];
    sums_of_squares(x, &mut sums);
    sums.map(|sum| [T::VARIANCE * sum / (G * N) as f32; G])
}

/// The fits of the groups of up to [`AT_ONCE`] superblocks.
struct Batch<const G: usize> {
    scales: [[f32; G]; AT_ONCE],
    offsets: [[f32; G]; AT_ONCE],
    inverses: [[f32; G]; AT_ONCE],
    minimums: [[f32; G]; AT_ONCE],
}

impl<const G: usize> Batch<G> {
    #[inline(always)]
    fn new() -> Self {
        let zeros = [[0.0; G]; AT_ONCE];
        Self { scales: zeros, offsets: zeros, inverses: zeros, minimums: zeros }
    }

    /// Stores the fits of the groups from index `first` on.
    #[inline(always)]
    fn put<V: Simd>(&mut self, first: usize, fit: affine::AffineFit<V>) {
        to_slice(fit.scale, &mut self.scales.as_flattened_mut()[first..]);
        to_slice(fit.offset, &mut self.offsets.as_flattened_mut()[first..]);
        to_slice(fit.steps.inverse, &mut self.inverses.as_flattened_mut()[first..]);
        to_slice(fit.steps.minimum, &mut self.minimums.as_flattened_mut()[first..]);
    }

    #[inline(always)]
    fn fits(&self, superblock: usize) -> AffineFits<G> {
        AffineFits { inverses: self.inverses[superblock], minimums: self.minimums[superblock] }
    }
}

/// Codes `values` so that the largest one gets `top`; all codes are 0 when no value is positive.
#[inline(always)]
fn by_maximum<const G: usize>(values: &[f32; G], top: u8, bound: u8) -> Multiples<G> {
    let mut largest = 0.0f32;
    for &v in values {
        largest = if v > largest { v } else { largest };
    }
    let top = f32::from(top);
    let inverse = if largest > 0.0 { top / largest } else { 0.0 };
    let mut codes = [0; G];
    for (code, &v) in codes.iter_mut().zip(values) {
        *code = (nearest_int(inverse * v) as u8).min(bound);
    }
    Multiples { unit: largest / top, codes }
}

/// Codes the values of several superblocks by [`nonnegative::fit`].
#[inline(always)]
fn by_search<V: Simd, const G: usize>(
    values: &[[f32; G]],
    totals: &[[f32; G]],
    top: u8,
    bound: u8,
) -> [Multiples<G>; AT_ONCE] {
    let mut all = [Multiples { unit: 0.0, codes: [0; G] }; AT_ONCE];
    for first in vector_starts::<V>(values.len()) {
        let fit = nonnegative::fit::<V, G>(&transposed(&values[first..]), &transposed(&totals[first..]), top);
        let mut units = [0.0; AT_ONCE];
        to_slice(fit.scale, &mut units);
        for (multiples, unit) in all[first..].iter_mut().zip(units).take(V::WIDTH) {
            multiples.unit = unit;
        }
        for g in 0..G {
            let mut codes = [0.0; AT_ONCE];
            to_slice(fit.codes[g], &mut codes);
            for (multiples, code) in all[first..].iter_mut().zip(codes).take(V::WIDTH) {
                multiples.codes[g] = (code as u8).min(bound);
            }
        }
    }
    all
}
