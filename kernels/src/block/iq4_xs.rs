//! IQ4_XS: superblocks of 256 weights in 8 groups of 32, 6-bit scales, codes into the table of IQ4_NL
//! (`block_iq4_xs` in ggml-common.h).
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..2 | `d` | f16 scale of the scales |
//! | 2..4 | `scales_h` | high 2 bits of the scales, in order |
//! | 4..8 | `scales_l` | low 4 bits of the scales, in order |
//! | 8..136 | `qs` | 4-bit codes: 16 bytes per group, byte `j` holds weight `j` low, weight `j + 16` high |
//!
//! `weight = d * (scale - 32) * VALUES[code]`

use super::codes::{pack, read_f16, unpack, write_f16};
use super::iq4_nl::{LEVELS, TABLE, VALUES, nearest_codes};
use super::layout::{decode_blocks, inverse};
use super::row::{AT_ONCE, EncodeBlocks, Groups, encode_row, superblocks, vector_starts};
use super::{BlockCodec, BlockType, Importance, Limits};
use crate::block::fit::integer::nearest_int;
use crate::block::fit::signed_extreme;
use crate::block::fit::table::fit_scale;
use crate::block::fit::weights::{importance_weights, squares, sums_of_squares};
use crate::codec::{Codec, Fields, FieldsMut, Float, Layout};
use crate::lanes::{Simd, from_slice, in_lanes, to_slice, transposed};

const ELEMENTS: usize = 256;
const BYTES: usize = 136;
const GROUPS: usize = 8;
const GROUP: usize = 32;

const SCALES_HIGH: std::ops::Range<usize> = 2..4;
const SCALES_LOW: std::ops::Range<usize> = 4..8;
const CODES: std::ops::Range<usize> = 8..136;

/// The code of a scale of zero.
const SCALE_ZERO: i32 = 32;

pub(super) static TYPE: BlockType = BlockType {
    name: "IQ4_XS",
    id: 23,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode,
    encode: Some(encode),
    importance: Importance::Optional,
    codec: BlockCodec::Scalar(&CODEC),
    limits: Limits::scaled::<BYTES, 0>(32.0 * 127.0),
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
        let d = read_f16(block);
        let scales = scale_multiples(block);
        let codes = unpack::<4, 16, ELEMENTS>(&block[CODES]);
        for (i, out) in out.iter_mut().enumerate() {
            let scale = d * f32::from(scales[i / GROUP]);
            *out = scale * f32::from(VALUES[usize::from(codes[i])]);
        }
    });
}

/// Returns the groups' scales as multiples of `d`.
fn scale_multiples(block: &[u8]) -> [i16; GROUPS] {
    let high = unpack::<2, 1, GROUPS>(&block[SCALES_HIGH]);
    let low = unpack::<4, 1, GROUPS>(&block[SCALES_LOW]);
    std::array::from_fn(|g| i16::from(low[g] | high[g] << 4) - SCALE_ZERO as i16)
}

fn read_fields(block: &[u8], fields: FieldsMut<'_>) {
    fields.d[0] = read_f16(block);
    fields.scales.copy_from_slice(&scale_multiples(block));
    fields.codes.copy_from_slice(&unpack::<4, 16, ELEMENTS>(&block[CODES]));
}

fn write_fields(fields: Fields<'_>, block: &mut [u8]) {
    write_f16(fields.d[0], block);
    pack_scales(&std::array::from_fn(|g| fields.scales[g].into()), block);
    pack::<4, 16>(fields.codes, 0, &mut block[CODES]);
}

#[inline(always)]
fn pack_scales(multiples: &[i32; GROUPS], block: &mut [u8]) {
    let codes = multiples.map(|multiple| (multiple + SCALE_ZERO) as u8);
    pack::<2, 1>(&codes, 4, &mut block[SCALES_HIGH]);
    pack::<4, 1>(&codes, 0, &mut block[SCALES_LOW]);
}

in_lanes! {
    fn encode<V>(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        encode_row::<V, Iq4Xs, _, BYTES>(superblocks::<GROUPS, GROUP>(row), importance.map(superblocks), out);
    }
}

struct Iq4Xs;

impl EncodeBlocks<Groups<GROUPS, GROUP>, BYTES> for Iq4Xs {
    #[inline(always)]
    fn plain<V: Simd>(x: &[Groups<GROUPS, GROUP>], out: &mut [[u8; BYTES]]) {
        let groups = x.as_flattened();
        let mut scales = [[0.0; GROUPS]; AT_ONCE];
        for first in vector_starts::<V>(groups.len()) {
            let x = transposed::<V, GROUP>(&groups[first..]);
            to_slice(fit_scale(&x, &squares(&x), &TABLE), &mut scales.as_flattened_mut()[first..]);
        }
        write_blocks(x, &scales, out);
    }

    #[inline(always)]
    fn weighted<V: Simd>(
        x: &[Groups<GROUPS, GROUP>],
        importance: &[Groups<GROUPS, GROUP>],
        out: &mut [[u8; BYTES]],
    ) {
        let mut sums = [0.0; AT_ONCE];
        sums_of_squares(x, &mut sums);
        let variances = sums.map(|sum| [sum * (2.0 / ELEMENTS as f32); GROUPS]);
        let (groups, importance) = (x.as_flattened(), importance.as_flattened());
        let mut scales = [[0.0; GROUPS]; AT_ONCE];
        for first in vector_starts::<V>(groups.len()) {
            let x = transposed::<V, GROUP>(&groups[first..]);
            let variance = from_slice(&variances.as_flattened()[first..]);
            let weights = importance_weights(&x, &transposed(&importance[first..]), variance);
            to_slice(fit_scale(&x, &weights, &TABLE), &mut scales.as_flattened_mut()[first..]);
        }
        write_blocks(x, &scales, out);
    }
}

/// Writes blocks. The scale of largest magnitude becomes scale code 0. As in ggml, codes are picked under the coded
/// scales but with `d` as it is before it is rounded to f16.
#[inline(always)]
fn write_blocks(x: &[Groups<GROUPS, GROUP>], scales: &[[f32; GROUPS]; AT_ONCE], out: &mut [[u8; BYTES]]) {
    for ((x, out), scales) in x.iter().zip(out).zip(scales) {
        let d = -signed_extreme(scales) / SCALE_ZERO as f32;
        let inverse = inverse(d);
        let multiples = scales.map(|scale| nearest_int(inverse * scale).clamp(-SCALE_ZERO, SCALE_ZERO - 1));
        write_f16(d, out);
        pack_scales(&multiples, out);
        let mut codes = [[0; GROUP]; GROUPS];
        for (g, codes) in codes.iter_mut().enumerate() {
            *codes = nearest_codes(&x[g], d * multiples[g] as f32);
        }
        pack::<4, 16>(codes.as_flattened(), 0, &mut out[CODES]);
    }
}
