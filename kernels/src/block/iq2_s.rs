//! IQ2_S: 256 weights in 82 bytes (2.5625 bits per weight): 32 points of a codebook, 8 weights each.
//!
//! | field | bytes | meaning |
//! |---|---|---|
//! | d | 2 | scale of the block, f16 |
//! | qs | 32 | low 8 bits of each point's number |
//! | signs | 32 | signs of each point's weights, the first in the lowest bit |
//! | qh | 8 | high 2 bits of the points' numbers, four points to a byte, the first in the lowest bits |
//! | scales | 8 | 4 bits per two points, the lower ones first |
//!
//! weight = d * (0.5 + scale) / 4 * magnitude, with its sign. Source: ggml's `block_iq2_s`.

use super::layout::{decode_blocks, from_f16};
use super::{BlockType, Importance, grid};

const ELEMENTS: usize = 256;
const BYTES: usize = 82;

pub(super) static TYPE: BlockType = BlockType {
    name: "IQ2_S",
    id: 22,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode: |bytes, out| decode_blocks(bytes, out, decode_block),
    encode: None,
    importance: Importance::Required,
};

fn decode_block(block: &[u8; BYTES], weights: &mut [f32; ELEMENTS]) {
    let [d0, d1, fields @ ..] = block;
    let d = from_f16([*d0, *d1]);
    let (low, fields) = fields.split_at(32);
    let (signs, fields) = fields.split_at(32);
    let (high, scales) = fields.split_at(8);
    for (i, (weights, (low, signs))) in weights.chunks_mut(8).zip(low.iter().zip(signs)).enumerate() {
        let high = high[i / 4] >> (i % 4 * 2) & 3;
        let point = usize::from(high) << 8 | usize::from(*low);
        let scale = d * (0.5 + f32::from(scales[i / 4] >> (i / 2 % 2 * 4) & 15)) * 0.25;
        grid::decode_signed(&grid::IQ2_S[point], *signs, scale, weights);
    }
}
