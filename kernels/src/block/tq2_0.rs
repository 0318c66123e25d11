//! TQ2_0: 256 weights in 66 bytes (2.0625 bits per weight): ternary weights in two bits each.
//!
//! | field | bytes | meaning |
//! |---|---|---|
//! | qs | 64 | two halves of 32 bytes for 128 weights each; bits 2k, 2k + 1 of byte j hold weight 32k + j |
//! | d | 2 | scale, f16 |
//!
//! weight = d * (code - 1). Source: ggml's `block_tq2_0`.

use super::layout::{abs_max, decode_blocks, from_f16, inverse, to_f16};
use super::row::blocks_and_bytes;
use super::{BlockCodec, BlockType, Importance, Limits};
use crate::lanes::in_lanes;

const ELEMENTS: usize = 256;
const BYTES: usize = 66;

pub(super) static TYPE: BlockType = BlockType {
    name: "TQ2_0",
    id: 35,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode: |bytes, out| decode_blocks(bytes, out, decode_block),
    encode: Some(encode),
    importance: Importance::Ignored,
    codec: BlockCodec::Opaque,
    limits: Limits::scaled::<BYTES, { BYTES - 2 }>(1.0),
};

fn decode_block(block: &[u8; BYTES], weights: &mut [f32; ELEMENTS]) {
    let [codes @ .., d0, d1] = block;
    let scale = from_f16([*d0, *d1]);
    for (codes, weights) in codes.chunks(32).zip(weights.chunks_mut(128)) {
        for (k, weights) in weights.chunks_mut(32).enumerate() {
            for (weight, byte) in weights.iter_mut().zip(codes) {
                let code = byte >> (2 * k) & 3;
                *weight = (f32::from(code) - 1.0) * scale;
            }
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

#[inline(always)]
fn encode_block(weights: &[f32; ELEMENTS], block: &mut [u8; BYTES]) {
    let [codes @ .., d0, d1] = block;
    let scale = abs_max(weights);
    [*d0, *d1] = to_f16(scale);
    let inverse = inverse(scale);
    codes.fill(0);
    for (codes, weights) in codes.chunks_mut(32).zip(weights.chunks(128)) {
        for (k, weights) in weights.chunks(32).enumerate() {
            for (byte, weight) in codes.iter_mut().zip(weights) {
                *byte |= ternary_code(weight * inverse) << (2 * k);
            }
        }
    }
}

/// Returns 0, 1 or 2 for a weight of about -1, 0 or 1 scales. A subnormal scale has no finite inverse; weights that
/// become infinite or NaN by it get code 1, which is what ggml's conversion to an integer gives on x86-64.
pub(super) fn ternary_code(x: f32) -> u8 {
    if x.is_finite() { (x.round() + 1.0) as u8 } else { 1 }
}
