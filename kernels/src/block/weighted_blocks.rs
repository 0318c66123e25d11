//! The encoders with importance of Q4_0, Q4_1, Q5_0 and Q5_1, whose block is one group of 32 weights.
//!
//! Sources: ggml's `quantize_row_q4_0_impl`, `quantize_row_q4_1_impl`, `quantize_row_q5_0_impl` and
//! `quantize_row_q5_1_impl`, which differ in the number of bits and in the search that they call.

use super::row::{AT_ONCE, blocks, vector_starts};
use crate::block::fit::affine;
use crate::block::fit::affine::{Loss, ScaleGrid, Steps};
use crate::block::fit::symmetric;
use crate::block::fit::weights::{importance_weights, sum_of_squares};
use crate::lanes::{Simd, to_slice, transposed};

/// The number of weights of a block.
const ELEMENTS: usize = 32;

/// A type whose block holds a scale and codes around zero.
pub(super) trait SymmetricBlock<const BYTES: usize> {
    /// The code of weight zero.
    const HALF: i32;

    /// Stores scale and codes.
    fn write(scale: f32, codes: &[u8; ELEMENTS], out: &mut [u8; BYTES]);
}

/// A type whose block holds a scale, a minimum and codes.
pub(super) trait AffineBlock<const BYTES: usize> {
    /// The largest code.
    const TOP: u8;

    /// Stores scale, minimum and codes.
    fn write(scale: f32, minimum: f32, codes: &[u8; ELEMENTS], out: &mut [u8; BYTES]);
}

/// Encodes a row as the symmetric type `T`: `row` and `importance` are `[columns]`.
#[inline(always)]
pub(super) fn symmetric<V, T, const BYTES: usize>(row: &[f32], importance: &[f32], out: &mut [u8])
where
    V: Simd,
    T: SymmetricBlock<BYTES>,
{
    let variance = V::splat(mean_square(row));
    for (x, importance, out) in batches(row, importance, out) {
        let (mut scales, mut inverses) = ([0.0; AT_ONCE], [0.0; AT_ONCE]);
        for first in vector_starts::<V>(x.len()) {
            let x = transposed::<V, ELEMENTS>(&x[first..]);
            let weights = importance_weights(&x, &transposed(&importance[first..]), variance);
            let fit = symmetric::fit(&x, &weights, T::HALF);
            to_slice(fit.scale, &mut scales[first..]);
            to_slice(fit.inverse, &mut inverses[first..]);
        }
        for (i, (x, out)) in x.iter().zip(out).enumerate() {
            T::write(scales[i], &symmetric::codes(x, inverses[i], T::HALF), out);
        }
    }
}

/// Encodes a row as the affine type `T`: `row` and `importance` are `[columns]`.
#[inline(always)]
pub(super) fn affine<V, T, const BYTES: usize>(row: &[f32], importance: &[f32], out: &mut [u8])
where
    V: Simd,
    T: AffineBlock<BYTES>,
{
    let variance = V::splat(mean_square(row));
    for (x, importance, out) in batches(row, importance, out) {
        let zeros = [0.0; AT_ONCE];
        let (mut scales, mut offsets, mut inverses, mut minimums) = (zeros, zeros, zeros, zeros);
        for first in vector_starts::<V>(x.len()) {
            let x = transposed::<V, ELEMENTS>(&x[first..]);
            let weights = importance_weights(&x, &transposed(&importance[first..]), variance);
            let fit = affine::fit(&x, &weights, T::TOP, &ScaleGrid::WEIGHTED, Loss::Squared);
            to_slice(fit.scale, &mut scales[first..]);
            to_slice(fit.offset, &mut offsets[first..]);
            to_slice(fit.steps.inverse, &mut inverses[first..]);
            to_slice(fit.steps.minimum, &mut minimums[first..]);
        }
        for (i, (x, out)) in x.iter().zip(out).enumerate() {
            let steps = Steps { inverse: inverses[i], minimum: minimums[i] };
            T::write(scales[i], -offsets[i], &affine::codes(x, steps, T::TOP), out);
        }
    }
}

/// Returns the blocks of weights, of importance and of bytes, [`AT_ONCE`] at a time.
#[inline(always)]
fn batches<'a, const BYTES: usize>(
    row: &'a [f32],
    importance: &'a [f32],
    out: &'a mut [u8],
) -> impl Iterator<Item = (&'a [[f32; ELEMENTS]], &'a [[f32; ELEMENTS]], &'a mut [[u8; BYTES]])> {
    let inputs = blocks(row).chunks(AT_ONCE).zip(blocks(importance).chunks(AT_ONCE));
    inputs.zip(out.as_chunks_mut().0.chunks_mut(AT_ONCE)).map(|((x, importance), out)| (x, importance, out))
}

/// Returns the mean square of the row, which these types take for the variance of every block.
#[inline(always)]
fn mean_square(row: &[f32]) -> f32 {
    sum_of_squares(row) / row.len() as f32
}
