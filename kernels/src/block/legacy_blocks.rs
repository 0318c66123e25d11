//! The types whose block is one group of 32 weights with codes in planes: Q4_0, Q4_1, Q5_0 and Q5_1.
//!
//! A block begins with an f16 scale; in the affine types an f16 minimum follows. The codes fill the rest.
//!
//! Sources of the encoders: ggml's `quantize_row_q4_0_ref`, `quantize_row_q4_0_impl` and their siblings, which differ
//! in the number of bits and in the search that they call.

use super::codes::{read_f16, write_f16};
use super::layout::{decode_blocks, inverse, signed_extreme};
use super::row::{AT_ONCE, blocks, blocks_and_bytes, vector_starts};
use crate::block::fit::affine;
use crate::block::fit::affine::{Loss, ScaleGrid, Steps};
use crate::block::fit::integer::low_byte;
use crate::block::fit::symmetric;
use crate::block::fit::weights::{importance_weights, range, sum_of_squares};
use crate::codec::{Fields, FieldsMut, Layout};
use crate::lanes::{Simd, to_slice, transposed};

/// The number of weights of a block.
const ELEMENTS: usize = 32;
type Weights = [f32; ELEMENTS];
/// The first byte of the codes after the scale alone, and below it after scale and minimum.
const SYMMETRIC_CODES: usize = 2;
const AFFINE_CODES: usize = 4;

/// A type whose block holds a scale and codes around zero: `weight = d * (code - HALF)`.
pub(super) trait SymmetricBlock<const BYTES: usize>: Sized {
    /// The code of weight zero.
    const HALF: i32;

    /// The access to the fields of a block.
    const LAYOUT: Layout =
        Layout { read: read_symmetric::<Self, BYTES>, write: write_symmetric::<Self, BYTES> };

    /// Packs the codes of a block.
    fn pack(codes: &[u8], out: &mut [u8]);

    /// Returns the codes of a block.
    fn unpack(bytes: &[u8]) -> [u8; ELEMENTS];
}

/// A type whose block holds a scale, a minimum and codes: `weight = d * code + m`.
pub(super) trait AffineBlock<const BYTES: usize>: Sized {
    /// The largest code.
    const TOP: u8;
    /// The bound of the codes without importance. ggml bounds those of Q4_1 and not those of Q5_1.
    const PLAIN_BOUND: u8;

    /// The access to the fields of a block.
    const LAYOUT: Layout = Layout { read: read_affine::<Self, BYTES>, write: write_affine::<Self, BYTES> };

    /// Packs the codes of a block.
    fn pack(codes: &[u8], out: &mut [u8]);

    /// Returns the codes of a block.
    fn unpack(bytes: &[u8]) -> [u8; ELEMENTS];
}

/// Decodes blocks of the symmetric type `T`.
pub(super) fn decode_symmetric<T, const BYTES: usize>(bytes: &[u8], out: &mut [f32])
where
    T: SymmetricBlock<BYTES>,
{
    decode_blocks(bytes, out, |block: &[u8; BYTES], out: &mut Weights| {
        let d = read_f16(block);
        *out = T::unpack(&block[SYMMETRIC_CODES..]).map(|code| (i32::from(code) - T::HALF) as f32 * d);
    });
}

/// Decodes blocks of the affine type `T`.
pub(super) fn decode_affine<T, const BYTES: usize>(bytes: &[u8], out: &mut [f32])
where
    T: AffineBlock<BYTES>,
{
    decode_blocks(bytes, out, |block: &[u8; BYTES], out: &mut Weights| {
        let (d, m) = (read_f16(block), read_f16(&block[2..]));
        *out = T::unpack(&block[AFFINE_CODES..]).map(|code| f32::from(code) * d + m);
    });
}

fn read_symmetric<T: SymmetricBlock<BYTES>, const BYTES: usize>(block: &[u8], fields: FieldsMut<'_>) {
    fields.d[0] = read_f16(block);
    fields.codes.copy_from_slice(&T::unpack(&block[SYMMETRIC_CODES..]));
}

fn write_symmetric<T: SymmetricBlock<BYTES>, const BYTES: usize>(fields: Fields<'_>, block: &mut [u8]) {
    write_f16(fields.d[0], block);
    T::pack(fields.codes, &mut block[SYMMETRIC_CODES..]);
}

fn read_affine<T: AffineBlock<BYTES>, const BYTES: usize>(block: &[u8], fields: FieldsMut<'_>) {
    fields.d[0] = read_f16(block);
    fields.dmin[0] = -read_f16(&block[2..]);
    fields.codes.copy_from_slice(&T::unpack(&block[AFFINE_CODES..]));
}

fn write_affine<T: AffineBlock<BYTES>, const BYTES: usize>(fields: Fields<'_>, block: &mut [u8]) {
    write_f16(fields.d[0], block);
    write_f16(-fields.dmin[0], &mut block[2..]);
    T::pack(fields.codes, &mut block[AFFINE_CODES..]);
}

/// Encodes a row as the symmetric type `T`: `row` and `importance` are `[columns]`.
#[inline(always)]
pub(super) fn encode_symmetric<V, T, const BYTES: usize>(
    row: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) where
    V: Simd,
    T: SymmetricBlock<BYTES>,
{
    match importance {
        None => {
            for (x, out) in blocks_and_bytes(row, out) {
                plain_symmetric::<T, BYTES>(x, out);
            }
        }
        Some(importance) => weighted_symmetric::<V, T, BYTES>(row, importance, out),
    }
}

/// Encodes a row as the affine type `T`: `row` and `importance` are `[columns]`.
#[inline(always)]
pub(super) fn encode_affine<V, T, const BYTES: usize>(row: &[f32], importance: Option<&[f32]>, out: &mut [u8])
where
    V: Simd,
    T: AffineBlock<BYTES>,
{
    match importance {
        None => {
            for (x, out) in blocks_and_bytes(row, out) {
                plain_affine::<T, BYTES>(x, out);
            }
        }
        Some(importance) => weighted_affine::<V, T, BYTES>(row, importance, out),
    }
}

/// Encodes a block without importance: the weight of largest magnitude becomes code 0, and the others are rounded.
#[inline(always)]
fn plain_symmetric<T: SymmetricBlock<BYTES>, const BYTES: usize>(x: &Weights, out: &mut [u8; BYTES]) {
    let d = signed_extreme(x) / -(T::HALF as f32);
    let inverse = inverse(d);
    let mut codes = [0; ELEMENTS];
    for (code, &v) in codes.iter_mut().zip(x) {
        *code = low_byte((v * inverse + (T::HALF as f32 + 0.5)).trunc()).min((2 * T::HALF - 1) as u8);
    }
    write_f16(d, out);
    T::pack(&codes, &mut out[SYMMETRIC_CODES..]);
}

/// Encodes a block without importance: the least weight becomes code 0, the largest one the top code, and the others
/// are rounded.
#[inline(always)]
fn plain_affine<T: AffineBlock<BYTES>, const BYTES: usize>(x: &Weights, out: &mut [u8; BYTES]) {
    let (low, high) = range(x);
    let d = (high - low) / f32::from(T::TOP);
    let inverse = inverse(d);
    let mut codes = [0; ELEMENTS];
    for (code, &v) in codes.iter_mut().zip(x) {
        *code = low_byte(((v - low) * inverse + 0.5).trunc()).min(T::PLAIN_BOUND);
    }
    write_affine_block::<T, BYTES>(d, low, &codes, out);
}

#[inline(always)]
fn write_affine_block<T: AffineBlock<BYTES>, const BYTES: usize>(
    scale: f32,
    minimum: f32,
    codes: &[u8; ELEMENTS],
    out: &mut [u8; BYTES],
) {
    write_f16(scale, out);
    write_f16(minimum, &mut out[2..]);
    T::pack(codes, &mut out[AFFINE_CODES..]);
}

/// Encodes a row with importance as the symmetric type `T`.
#[inline(always)]
fn weighted_symmetric<V, T, const BYTES: usize>(row: &[f32], importance: &[f32], out: &mut [u8])
where
    V: Simd,
    T: SymmetricBlock<BYTES>,
{
    let variance = V::splat(mean_square(row));
    for (x, importance, out) in batches::<BYTES>(row, importance, out) {
        let (mut scales, mut inverses) = ([0.0; AT_ONCE], [0.0; AT_ONCE]);
        for first in vector_starts::<V>(x.len()) {
            let x = transposed::<V, ELEMENTS>(&x[first..]);
            let weights = importance_weights(&x, &transposed(&importance[first..]), variance);
            let fit = symmetric::fit(&x, &weights, T::HALF);
            to_slice(fit.scale, &mut scales[first..]);
            to_slice(fit.inverse, &mut inverses[first..]);
        }
        for (i, (x, out)) in x.iter().zip(out).enumerate() {
            write_f16(scales[i], out);
            T::pack(&symmetric::codes(x, inverses[i], T::HALF), &mut out[SYMMETRIC_CODES..]);
        }
    }
}

/// Encodes a row with importance as the affine type `T`.
#[inline(always)]
fn weighted_affine<V, T, const BYTES: usize>(row: &[f32], importance: &[f32], out: &mut [u8])
where
    V: Simd,
    T: AffineBlock<BYTES>,
{
    let variance = V::splat(mean_square(row));
    for (x, importance, out) in batches::<BYTES>(row, importance, out) {
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
            write_affine_block::<T, BYTES>(scales[i], -offsets[i], &affine::codes(x, steps, T::TOP), out);
        }
    }
}

/// Returns the blocks of weights, of importance and of bytes, [`AT_ONCE`] at a time.
#[inline(always)]
fn batches<'a, const BYTES: usize>(
    row: &'a [f32],
    importance: &'a [f32],
    out: &'a mut [u8],
) -> impl Iterator<Item = (&'a [Weights], &'a [Weights], &'a mut [[u8; BYTES]])> {
    let inputs = blocks(row).chunks(AT_ONCE).zip(blocks(importance).chunks(AT_ONCE));
    inputs.zip(out.as_chunks_mut().0.chunks_mut(AT_ONCE)).map(|((x, importance), out)| (x, importance, out))
}

/// Returns the mean square of the row, which these types take for the variance of every block.
#[inline(always)]
fn mean_square(row: &[f32]) -> f32 {
    sum_of_squares(row) / row.len() as f32
}
