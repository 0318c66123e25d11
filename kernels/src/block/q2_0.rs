//! Q2_0: 64 weights in 18 bytes (2.25 bits per weight): one scale and codes of two bits.
//!
//! | field | bytes | meaning |
//! |---|---|---|
//! | d | 2 | scale, f16 |
//! | qs | 16 | four codes per byte, the first in the lowest bits |
//!
//! weight = d * (code - 1), so -d, 0, d or 2d. Source: ggml's `block_q2_0`.

use super::layout::{abs_max, decode_blocks, from_f16, inverse, to_f16};
use super::row::blocks_and_bytes;
use super::{BlockCodec, BlockType, Importance, Limits};
use crate::lanes::in_lanes;

const ELEMENTS: usize = 64;
const BYTES: usize = 18;

pub(super) static TYPE: BlockType = BlockType {
    name: "Q2_0",
    id: 42,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode: |bytes, out| decode_blocks(bytes, out, decode_block),
    encode: Some(encode),
    importance: Importance::Ignored,
    codec: BlockCodec::Opaque,
    limits: Limits::scaled::<BYTES, 0>(2.0),
};

fn decode_block(block: &[u8; BYTES], weights: &mut [f32; ELEMENTS]) {
    let [d0, d1, codes @ ..] = block;
    let scale = from_f16([*d0, *d1]);
    for (weights, byte) in weights.chunks_mut(4).zip(codes) {
        for (position, weight) in weights.iter_mut().enumerate() {
            let code = byte >> (2 * position) & 3;
            *weight = (f32::from(code) - 1.0) * scale;
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

/// Encodes a block. The scale is the largest magnitude, so that the code of 2d is never written.
#[inline(always)]
fn encode_block(weights: &[f32; ELEMENTS], block: &mut [u8; BYTES]) {
    let [d0, d1, codes @ ..] = block;
    let scale = abs_max(weights);
    [*d0, *d1] = to_f16(scale);
    let inverse = inverse(scale);
    for (byte, weights) in codes.iter_mut().zip(weights.chunks(4)) {
        *byte = weights.iter().rev().fold(0, |codes, w| codes << 2 | code(w * inverse));
    }
}

/// Returns the code nearest to a weight in units of the scale. A subnormal scale has no finite inverse; weights that
/// become infinite or NaN by it get code 0, which is what ggml's conversion to an integer gives on x86-64.
fn code(x: f32) -> u8 {
    if x.is_finite() { (x.round() + 1.0).clamp(0.0, 3.0) as u8 } else { 0 }
}
