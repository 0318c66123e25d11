//! IQ3_S: 256 weights in 110 bytes (3.4375 bits per weight): 64 points of a codebook, 4 weights each.
//!
//! | field | bytes | meaning |
//! |---|---|---|
//! | d | 2 | scale of the block, f16 |
//! | qs | 64 | low 8 bits of each point's number |
//! | qh | 8 | ninth bits of the points' numbers, the first in the lowest bit |
//! | signs | 32 | signs of the weights, the first in the lowest bit |
//! | scales | 4 | 4 bits per eight points, the lower ones first |
//!
//! weight = d * (1 + 2 * scale) * magnitude, with its sign. Source: ggml's `block_iq3_s`.

use super::layout::{decode_blocks, from_f16};
use super::{BlockType, Importance, grid};

const ELEMENTS: usize = 256;
const BYTES: usize = 110;

pub(super) static TYPE: BlockType = BlockType {
    name: "IQ3_S",
    id: 21,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode: |bytes, out| decode_blocks(bytes, out, decode_block),
    encode: None,
    importance: Importance::Optional,
};

fn decode_block(block: &[u8; BYTES], weights: &mut [f32; ELEMENTS]) {
    let [d0, d1, fields @ ..] = block;
    let d = from_f16([*d0, *d1]);
    let (low, fields) = fields.split_at(64);
    let (high, fields) = fields.split_at(8);
    let (signs, scales) = fields.split_at(32);
    for (k, (low, weights)) in low.iter().zip(weights.chunks_mut(4)).enumerate() {
        let high = high[k / 8] >> (k % 8) & 1;
        let point = usize::from(high) << 8 | usize::from(*low);
        let signs = signs[k / 2] >> (k % 2 * 4);
        let scale = d * f32::from(1 + 2 * (scales[k / 16] >> (k / 8 % 2 * 4) & 15));
        grid::decode_signed(&grid::IQ3_S[point], signs, scale, weights);
    }
}
