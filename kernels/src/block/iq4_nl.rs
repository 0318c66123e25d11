//! IQ4_NL: 32 weights, one scale, 4-bit codes into a table of values that are denser around zero (`block_iq4_nl` in
//! ggml-common.h).
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..2 | `d` | f16 scale |
//! | 2..18 | `qs` | 4-bit codes: byte `j` holds weight `j` low, weight `j + 16` high |
//!
//! `weight = d * VALUES[code]`

use super::codes::{pack, read_f16, unpack, write_f16};
use super::layout::{decode_blocks, floats, inverse};
use super::row::{AT_ONCE, EncodeBlocks, blocks, encode_row, vector_starts};
use super::{BlockCodec, BlockType, Importance, Limits};
use crate::block::fit::table::{ValueTable, fit_scale};
use crate::block::fit::weights::{importance_weights, squares, sum_of_squares};
use crate::codec::{Codec, Fields, FieldsMut, Float, Layout};
use crate::lanes::{Simd, in_lanes, to_slice, transposed};

const ELEMENTS: usize = 32;
const BYTES: usize = 18;

/// The values of the codes, which IQ4_XS shares (`kvalues_iq4nl` in ggml-common.h).
pub(super) const VALUES: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
pub(super) static TABLE: ValueTable = ValueTable::new(VALUES);
pub(super) const LEVELS: [f32; 16] = floats(VALUES);

pub(super) static TYPE: BlockType = BlockType {
    name: "IQ4_NL",
    id: 20,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode,
    encode: Some(encode),
    importance: Importance::Optional,
    codec: BlockCodec::Scalar(&CODEC),
    limits: Limits::scaled::<BYTES, 0>(127.0),
};

pub(crate) static CODEC: Codec = Codec {
    block: &TYPE,
    superblock: ELEMENTS,
    group: ELEMENTS,
    levels: &LEVELS,
    scales: 1..=1,
    scale_step: 1,
    offsets: 0..=0,
    float: Float::F16,
    layout: Layout { read: read_fields, write: write_fields },
};

fn decode(bytes: &[u8], out: &mut [f32]) {
    decode_blocks(bytes, out, |block: &[u8; BYTES], out: &mut [f32; ELEMENTS]| {
        let d = read_f16(block);
        *out = unpack::<4, 16, ELEMENTS>(&block[2..]).map(|code| d * f32::from(VALUES[usize::from(code)]));
    });
}

fn read_fields(block: &[u8], fields: FieldsMut<'_>) {
    fields.d[0] = read_f16(block);
    fields.codes.copy_from_slice(&unpack::<4, 16, ELEMENTS>(&block[2..]));
}

fn write_fields(fields: Fields<'_>, block: &mut [u8]) {
    write_f16(fields.d[0], block);
    pack::<4, 16>(fields.codes, 0, &mut block[2..]);
}

in_lanes! {
    fn encode<V>(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        encode_row::<V, Iq4Nl, _, BYTES>(blocks::<ELEMENTS>(row), importance.map(blocks), out);
    }
}

struct Iq4Nl;

impl EncodeBlocks<[f32; ELEMENTS], BYTES> for Iq4Nl {
    #[inline(always)]
    fn plain<V: Simd>(x: &[[f32; ELEMENTS]], out: &mut [[u8; BYTES]]) {
        let mut scales = [0.0; AT_ONCE];
        for first in vector_starts::<V>(x.len()) {
            let x = transposed::<V, ELEMENTS>(&x[first..]);
            to_slice(fit_scale(&x, &squares(&x), &TABLE), &mut scales[first..]);
        }
        write_blocks(x, &scales, out);
    }

    #[inline(always)]
    fn weighted<V: Simd>(x: &[[f32; ELEMENTS]], importance: &[[f32; ELEMENTS]], out: &mut [[u8; BYTES]]) {
        let mut scales = [0.0; AT_ONCE];
        for first in vector_starts::<V>(x.len()) {
            let x = transposed::<V, ELEMENTS>(&x[first..]);
            let variance = sum_of_squares(&x) * V::splat(2.0 / ELEMENTS as f32);
            let weights = importance_weights(&x, &transposed(&importance[first..]), variance);
            to_slice(fit_scale(&x, &weights, &TABLE), &mut scales[first..]);
        }
        write_blocks(x, &scales, out);
    }
}

#[inline(always)]
fn write_blocks(x: &[[f32; ELEMENTS]], scales: &[f32; AT_ONCE], out: &mut [[u8; BYTES]]) {
    for ((x, out), &scale) in x.iter().zip(out).zip(scales) {
        write_f16(scale, out);
        pack::<4, 16>(&nearest_codes(x, scale), 0, &mut out[2..]);
    }
}

/// Returns the codes whose values are nearest to the weights under `scale`.
#[inline(always)]
pub(super) fn nearest_codes(x: &[f32; 32], scale: f32) -> [u8; 32] {
    let inverse = inverse(scale);
    let mut codes = [0; 32];
    for (code, &v) in codes.iter_mut().zip(x) {
        *code = TABLE.nearest(inverse * v);
    }
    codes
}
