//! Q3_K: superblocks of 256 weights in 16 groups of 16, 6-bit scales, 3-bit codes around zero (`block_q3_K` in
//! ggml-common.h).
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..32 | `hmask` | third bits: bit `k` of byte `j` is of weight `j + 32·k` |
//! | 32..96 | `qs` | low 2 bits: 32 bytes hold 128 weights, byte `j` the weights `j`, `j + 32`, `j + 64`, `j + 96` |
//! | 96..104 | `scales` | low 4 bits: byte `j` holds scale `j` low, scale `j + 8` high |
//! | 104..108 | | high 2 bits: byte `j` holds those of the scales `j`, `j + 4`, `j + 8`, `j + 12` |
//! | 108..110 | `d` | f16 scale of the scales |
//!
//! `weight = d * (scale - 32) * (code - 4)`
//!
//! Source of the encoders: ggml's `quantize_row_q3_K_ref` (plain) and `quantize_row_q3_K_impl` (weighted). Without
//! importance four of five groups of Gaussian weights keep the codes that they start with, which products show
//! without a quotient ([`descent::settled_scale`]). The others are collected and descend together, sixteen at a time,
//! so that no lane waits for long. This took the plain encoder from 226 to 357 million weights per second.

use super::codes::{pack, read_f16, unpack, write_f16};
use super::layout::{decode_blocks, integers};
use super::row::{AT_ONCE, EncodeBlocks, Groups, encode_row, superblocks, vector_starts};
use super::{BlockCodec, BlockType, Importance, Limits};
use crate::block::fit::weights::{importance_weights, sums_of_squares, total};
use crate::block::fit::{descent, signed_extreme, symmetric};
use crate::codec::{Codec, Fields, FieldsMut, Float, Layout};
use crate::lanes::{MOST, Simd, from_slice, in_lanes, to_slice, transposed};

const ELEMENTS: usize = 256;
const BYTES: usize = 110;
const GROUPS: usize = 16;
const GROUP: usize = 16;

const HIGH_BITS: std::ops::Range<usize> = 0..32;
const CODES: std::ops::Range<usize> = 32..96;
const SCALES_LOW: std::ops::Range<usize> = 96..104;
const SCALES_HIGH: std::ops::Range<usize> = 104..108;
const D: usize = 108;

/// The code of weight zero, and below it the code of a scale of zero.
const ZERO: i32 = 4;
const SCALE_ZERO: i32 = 32;
const LEVELS: [f32; 8] = integers(-ZERO);

pub(super) static TYPE: BlockType = BlockType {
    name: "Q3_K",
    id: 11,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode,
    encode: Some(encode),
    importance: Importance::Optional,
    codec: BlockCodec::Scalar(&CODEC),
    limits: Limits::scaled::<BYTES, D>(32.0 * 4.0),
};

pub(crate) static CODEC: Codec = Codec {
    block: &TYPE,
    superblock: ELEMENTS,
    group: GROUP,
    levels: &LEVELS,
    scales: -32..=31,
    scale_step: 1,
    offsets: 0..=0,
    float: Float::F16,
    layout: Layout { read: read_fields, write: write_fields },
};

fn decode(bytes: &[u8], out: &mut [f32]) {
    decode_blocks(bytes, out, |block: &[u8; BYTES], out: &mut [f32; ELEMENTS]| {
        let codes = unpack_codes(block);
        let scales = group_scales(block);
        for (i, out) in out.iter_mut().enumerate() {
            *out = scales[i / GROUP] * (i32::from(codes[i]) - ZERO) as f32;
        }
    });
}

#[inline(always)]
fn unpack_codes(block: &[u8]) -> [u8; ELEMENTS] {
    let high = unpack::<1, 32, ELEMENTS>(&block[HIGH_BITS]);
    let low = unpack::<2, 32, ELEMENTS>(&block[CODES]);
    std::array::from_fn(|i| low[i] | high[i] << 2)
}

/// Returns the scale of each group, by which its codes are multiplied.
#[inline(always)]
fn group_scales(block: &[u8]) -> [f32; GROUPS] {
    let d = read_f16(&block[D..]);
    scale_multiples(block).map(|multiple| d * f32::from(multiple))
}

/// Returns the groups' scales as multiples of `d`.
#[inline(always)]
fn scale_multiples(block: &[u8]) -> [i16; GROUPS] {
    let low = unpack::<4, 8, GROUPS>(&block[SCALES_LOW]);
    let high = unpack::<2, 4, GROUPS>(&block[SCALES_HIGH]);
    std::array::from_fn(|g| i16::from(low[g] | high[g] << 4) - SCALE_ZERO as i16)
}

fn read_fields(block: &[u8], fields: FieldsMut<'_>) {
    fields.d[0] = read_f16(&block[D..]);
    fields.scales.copy_from_slice(&scale_multiples(block));
    fields.codes.copy_from_slice(&unpack_codes(block));
}

fn write_fields(fields: Fields<'_>, block: &mut [u8]) {
    write_f16(fields.d[0], &mut block[D..]);
    let scale_codes: [u8; GROUPS] = std::array::from_fn(|g| (fields.scales[g] + SCALE_ZERO as i16) as u8);
    pack_scales(&scale_codes, block);
    pack_codes(fields.codes, block);
}

#[inline(always)]
fn pack_scales(codes: &[u8; GROUPS], block: &mut [u8]) {
    pack::<4, 8>(codes, 0, &mut block[SCALES_LOW]);
    pack::<2, 4>(codes, 4, &mut block[SCALES_HIGH]);
}

#[inline(always)]
fn pack_codes(codes: &[u8], block: &mut [u8]) {
    pack::<2, 32>(codes, 0, &mut block[CODES]);
    pack::<1, 32>(codes, 2, &mut block[HIGH_BITS]);
}

in_lanes! {
    fn encode<V>(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        encode_row::<V, Q3K, _, BYTES>(superblocks::<GROUPS, GROUP>(row), importance.map(superblocks), out);
    }
}

struct Q3K;

impl EncodeBlocks<Groups<GROUPS, GROUP>, BYTES> for Q3K {
    #[inline(always)]
    fn plain<V: Simd>(x: &[Groups<GROUPS, GROUP>], out: &mut [[u8; BYTES]]) {
        let groups = x.as_flattened();
        let mut scales = [[0.0; GROUPS]; AT_ONCE];
        for first in vector_starts::<V>(groups.len()) {
            let settled = descent::settled_scale::<V, GROUP>(&transposed(&groups[first..]), ZERO);
            to_slice(settled, &mut scales.as_flattened_mut()[first..]);
        }
        descend::<V>(groups, scales.as_flattened_mut());
        let mut extremes = [0.0; AT_ONCE];
        for first in vector_starts::<V>(x.len()) {
            let extreme = signed_extreme(&transposed::<V, GROUPS>(&scales[first..x.len()]));
            to_slice(extreme, &mut extremes[first..]);
        }
        for (s, (x, out)) in x.iter().zip(out).enumerate() {
            let (d, codes) = by_extreme(&scales[s], extremes[s]);
            // A scale of 0 is rare, so that the codes of its fit are computed again instead of kept.
            write_block(x, d, &codes, out, |g| {
                descent::fit(&x[g], ZERO).codes.map(|code| (code as i32 + ZERO) as u8)
            });
        }
    }

    #[inline(always)]
    fn weighted<V: Simd>(
        x: &[Groups<GROUPS, GROUP>],
        importance: &[Groups<GROUPS, GROUP>],
        out: &mut [[u8; BYTES]],
    ) {
        let mut sums = [0.0; AT_ONCE];
        sums_of_squares(x, &mut sums);
        let variances = sums.map(|sum| [2.0 * sum / ELEMENTS as f32; GROUPS]);
        let (groups, importance) = (x.as_flattened(), importance.as_flattened());
        let mut scales = [[0.0; GROUPS]; AT_ONCE];
        let (mut inverses, mut totals) = (scales, scales);
        for first in vector_starts::<V>(groups.len()) {
            let x = transposed::<V, GROUP>(&groups[first..]);
            let variance = from_slice(&variances.as_flattened()[first..]);
            let weights = importance_weights(&x, &transposed(&importance[first..]), variance);
            let fit = symmetric::fit(&x, &weights, ZERO);
            to_slice(fit.scale, &mut scales.as_flattened_mut()[first..]);
            to_slice(fit.inverse, &mut inverses.as_flattened_mut()[first..]);
            to_slice(total(&weights), &mut totals.as_flattened_mut()[first..]);
        }
        let (mut units, mut unit_inverses) = ([0.0; AT_ONCE], [0.0; AT_ONCE]);
        for first in vector_starts::<V>(x.len()) {
            let (scales, totals) = (transposed::<V, GROUPS>(&scales[first..]), transposed(&totals[first..]));
            let fit = symmetric::fit(&scales, &totals, SCALE_ZERO);
            to_slice(fit.scale, &mut units[first..]);
            to_slice(fit.inverse, &mut unit_inverses[first..]);
        }
        for (s, (x, out)) in x.iter().zip(out).enumerate() {
            let codes = symmetric::codes(&scales[s], unit_inverses[s], SCALE_ZERO);
            write_block(x, units[s], &codes, out, |g| symmetric::codes(&x[g], inverses[s][g], ZERO));
        }
    }
}

/// Replaces the NaN among the scales of `groups` by fitted scales. The groups concerned are put together into full
/// vectors, because a single descending lane would make all others wait.
#[inline(always)]
fn descend<V: Simd>(groups: &[[f32; GROUP]], scales: &mut [f32]) {
    let mut places = [0; AT_ONCE * GROUPS];
    let mut count = 0;
    for (g, scale) in scales[..groups.len()].iter().enumerate() {
        places[count] = g;
        count += usize::from(scale.is_nan());
    }
    for first in vector_starts::<V>(count) {
        let mut moving = [[0.0; GROUP]; MOST];
        for lane in 0..V::WIDTH {
            moving[lane] = groups[places[(first + lane).min(count - 1)]];
        }
        let fit = descent::fit::<V, GROUP>(&transposed(&moving), ZERO);
        let mut found = [0.0; MOST];
        to_slice(fit.scale, &mut found);
        for (&place, &scale) in places[first..count].iter().zip(&found[..V::WIDTH]) {
            scales[place] = scale;
        }
    }
}

/// Codes the scales so that the extreme one gets code 0; returns the scale of the scales, and the codes. All are 0 when
/// all scales are zero.
#[inline(always)]
fn by_extreme(scales: &[f32; GROUPS], extreme: f32) -> (f32, [u8; GROUPS]) {
    if extreme == 0.0 {
        return (0.0, [0; GROUPS]);
    }
    let inverse = -SCALE_ZERO as f32 / extreme;
    (1.0 / inverse, symmetric::codes(scales, inverse, SCALE_ZERO))
}

/// Stores the scales and rounds the weights once more, under the scales as stored. A group whose stored scale is 0 gets
/// the codes of its fit.
#[inline(always)]
fn write_block(
    x: &Groups<GROUPS, GROUP>,
    d: f32,
    scales: &[u8; GROUPS],
    out: &mut [u8; BYTES],
    fitted: impl Fn(usize) -> [u8; GROUP],
) {
    write_f16(d, &mut out[D..]);
    pack_scales(scales, out);
    let scales = group_scales(out);
    let mut codes = [[0; GROUP]; GROUPS];
    for (g, codes) in codes.iter_mut().enumerate() {
        *codes = symmetric::round(&x[g], scales[g], ZERO, || fitted(g));
    }
    pack_codes(codes.as_flattened(), out);
}
