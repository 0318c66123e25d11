//! Q1_0: 128 weights in 18 bytes (1.125 bits per weight): one scale and the signs.
//!
//! | field | bytes | meaning |
//! |---|---|---|
//! | d | 2 | scale, f16 |
//! | qs | 16 | one bit per weight, the first in the lowest bit |
//!
//! weight = d where the bit is set, -d elsewhere. Source: ggml's `block_q1_0`.

use super::layout::{decode_blocks, from_f16, to_f16};
use super::row::blocks_and_bytes;
use super::{BlockCodec, BlockType, Importance, Limits};
use crate::lanes::in_lanes;

const ELEMENTS: usize = 128;
const BYTES: usize = 18;

pub(super) static TYPE: BlockType = BlockType {
    name: "Q1_0",
    id: 41,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode: |bytes, out| decode_blocks(bytes, out, decode_block),
    encode: Some(encode),
    importance: Importance::Ignored,
    codec: BlockCodec::Opaque,
    limits: Limits::scaled::<BYTES, 0>(ELEMENTS as f32),
};

fn decode_block(block: &[u8; BYTES], weights: &mut [f32; ELEMENTS]) {
    let [d0, d1, signs @ ..] = block;
    let scale = from_f16([*d0, *d1]);
    for (weights, byte) in weights.chunks_mut(8).zip(signs) {
        for (bit, weight) in weights.iter_mut().enumerate() {
            *weight = if byte >> bit & 1 == 1 { scale } else { -scale };
        }
    }
}

in_lanes! {
    fn encode<V>(row: &[f32], _importance: Option<&[f32]>, out: &mut [u8]) {
        for (x, out) in blocks_and_bytes(row, out) {
            encode_block(x, out);
        }
    }
}

/// Encodes a block. The scale is the mean magnitude, which is the least-squares scale when only signs are stored.
#[inline(always)]
fn encode_block(weights: &[f32; ELEMENTS], block: &mut [u8; BYTES]) {
    let [d0, d1, signs @ ..] = block;
    let magnitudes = weights.iter().fold(0.0, |sum, w| sum + w.abs());
    [*d0, *d1] = to_f16(magnitudes / ELEMENTS as f32);
    for (byte, weights) in signs.iter_mut().zip(weights.chunks(8)) {
        *byte = weights.iter().rev().fold(0, |bits, w| bits << 1 | u8::from(*w >= 0.0));
    }
}
