//! Q4_1: 32 weights, scale and minimum, 4-bit codes (`block_q4_1` in ggml-common.h).
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..2 | `d` | f16 scale |
//! | 2..4 | `m` | f16 minimum |
//! | 4..20 | `qs` | 4-bit codes: byte `j` holds weight `j` low, weight `j + 16` high |
//!
//! `weight = d * code + m`

use super::codes::{pack, read_f16, unpack, write_f16};
use super::layout::{decode_blocks, integers, inverse};
use super::row::blocks_and_bytes;
use super::weighted_blocks::{AffineBlock, affine};
use super::{BlockCodec, BlockType, Importance, Limits};
use crate::block::fit::integer::low_byte;
use crate::block::fit::weights::range;
use crate::codec::{Codec, Fields, FieldsMut, Float, Layout};
use crate::lanes::in_lanes;

const ELEMENTS: usize = 32;
const BYTES: usize = 20;
const TOP: u8 = 15;
const LEVELS: [f32; 16] = integers(0);

pub(super) static TYPE: BlockType = BlockType {
    name: "Q4_1",
    id: 3,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode,
    encode: Some(encode),
    importance: Importance::Optional,
    codec: BlockCodec::Scalar(&CODEC),
    limits: Limits::offset::<BYTES, 0, 2>(1.0, 15.0 + 1.0),
};

pub(crate) static CODEC: Codec = Codec {
    block: &TYPE,
    superblock: ELEMENTS,
    group: ELEMENTS,
    levels: &LEVELS,
    scales: 1..=1,
    scale_step: 1,
    offsets: 1..=1,
    float: Float::F16,
    layout: Layout { read: read_fields, write: write_fields },
};

fn decode(bytes: &[u8], out: &mut [f32]) {
    decode_blocks(bytes, out, |block: &[u8; BYTES], out: &mut [f32; ELEMENTS]| {
        let (d, m) = (read_f16(block), read_f16(&block[2..]));
        *out = unpack::<4, 16, ELEMENTS>(&block[4..]).map(|code| f32::from(code) * d + m);
    });
}

fn read_fields(block: &[u8], fields: FieldsMut<'_>) {
    fields.d[0] = read_f16(block);
    fields.dmin[0] = -read_f16(&block[2..]);
    fields.codes.copy_from_slice(&unpack::<4, 16, ELEMENTS>(&block[4..]));
}

fn write_fields(fields: Fields<'_>, block: &mut [u8]) {
    write_f16(fields.d[0], block);
    write_f16(-fields.dmin[0], &mut block[2..]);
    pack::<4, 16>(fields.codes, 0, &mut block[4..]);
}

in_lanes! {
    fn encode<V>(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        match importance {
            None => {
                for (x, out) in blocks_and_bytes(row, out) {
                    encode_plain(x, out);
                }
            }
            Some(importance) => affine::<V, Q41, BYTES>(row, importance, out),
        }
    }
}

/// Encodes a block without importance: the least weight becomes code 0, the largest one the top code, and the others
/// are rounded.
#[inline(always)]
fn encode_plain(x: &[f32; ELEMENTS], out: &mut [u8; BYTES]) {
    let (low, high) = range(x);
    let d = (high - low) / f32::from(TOP);
    let inverse = inverse(d);
    let mut codes = [0; ELEMENTS];
    for (code, &v) in codes.iter_mut().zip(x) {
        *code = low_byte(((v - low) * inverse + 0.5).trunc()).min(TOP);
    }
    Q41::write(d, low, &codes, out);
}

struct Q41;

impl AffineBlock<BYTES> for Q41 {
    const TOP: u8 = TOP;

    #[inline(always)]
    fn write(scale: f32, minimum: f32, codes: &[u8; ELEMENTS], out: &mut [u8; BYTES]) {
        write_f16(scale, out);
        write_f16(minimum, &mut out[2..]);
        pack::<4, 16>(codes, 0, &mut out[4..]);
    }
}
