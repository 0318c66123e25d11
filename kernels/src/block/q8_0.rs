//! Q8_0: 32 weights, one scale, 8-bit codes (`block_q8_0` in ggml-common.h).
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..2 | `d` | f16 scale |
//! | 2..34 | `qs` | signed codes, in order |
//!
//! `weight = d * code`

use super::codes::{read_f16, write_f16};
use super::layout::{abs_max, decode_blocks, integers, inverse};
use super::row::blocks_and_bytes;
use super::{BlockCodec, BlockType, Importance, Limits};
use crate::block::fit::integer::low_byte;
use crate::codec::{Codec, Fields, FieldsMut, Float, Layout};
use crate::lanes::in_lanes;

const ELEMENTS: usize = 32;
const BYTES: usize = 34;
/// The magnitude of the code that the weight of largest magnitude gets.
const TOP: f32 = 127.0;
/// The values of the codes. The code -128 is left out, because the products of some runtimes get it wrong.
const LEVELS: [f32; 255] = integers(-127);

pub(super) static TYPE: BlockType = BlockType {
    name: "Q8_0",
    id: 8,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode,
    encode: Some(encode),
    importance: Importance::Ignored,
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
        for (out, &code) in out.iter_mut().zip(&block[2..]) {
            *out = f32::from(code as i8) * d;
        }
    });
}

/// Reads a block's fields. A code of -128, which no encoder here writes, reads as -127.
fn read_fields(block: &[u8], fields: FieldsMut<'_>) {
    fields.d[0] = read_f16(block);
    for (code, &byte) in fields.codes.iter_mut().zip(&block[2..]) {
        *code = (i16::from(byte.cast_signed()) + TOP as i16).max(0) as u8;
    }
}

fn write_fields(fields: Fields<'_>, block: &mut [u8]) {
    write_f16(fields.d[0], block);
    for (byte, &code) in block[2..].iter_mut().zip(fields.codes) {
        *byte = code.wrapping_sub(TOP as u8);
    }
}

in_lanes! {
    fn encode<V>(row: &[f32], _importance: Option<&[f32]>, out: &mut [u8]) {
        // Lanes hold weights of one block instead of groups, because there is no search.
        for (x, out) in blocks_and_bytes(row, out) {
            encode_block(x, out);
        }
    }
}

#[inline(always)]
fn encode_block(x: &[f32; ELEMENTS], out: &mut [u8; BYTES]) {
    let d = abs_max(x) / TOP;
    let inverse = inverse(d);
    write_f16(d, out);
    for (code, v) in out[2..].iter_mut().zip(x) {
        *code = low_byte((v * inverse).round());
    }
}
