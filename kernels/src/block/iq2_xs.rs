//! IQ2_XS: 256 weights in 74 bytes (2.3125 bits per weight): 32 points of a codebook, 8 weights each.
//!
//! | field | bytes | meaning |
//! |---|---|---|
//! | d | 2 | scale of the block, f16 |
//! | qs | 64 | a u16 per point: its number (9 bits), then 7 bits of signs |
//! | scales | 8 | 4 bits per two points, the lower ones first |
//!
//! weight = d * (0.5 + scale) / 4 * magnitude, with its sign. Source: ggml's `block_iq2_xs`.

use super::layout::{decode_blocks, from_f16};
use super::{BlockType, Importance, grid};

const ELEMENTS: usize = 256;
const BYTES: usize = 74;

pub(super) static TYPE: BlockType = BlockType {
    name: "IQ2_XS",
    id: 17,
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
    let (points, scales) = fields.split_at(64);
    let (points, _) = points.as_chunks();
    for (i, (point, weights)) in points.iter().zip(weights.chunks_mut(8)).enumerate() {
        let point = u16::from_le_bytes(*point);
        let scale = d * (0.5 + f32::from(scales[i / 4] >> (i / 2 % 2 * 4) & 15)) * 0.25;
        let signs = grid::even_signs(u32::from(point >> 9));
        grid::decode_signed(&grid::IQ2_XS[usize::from(point & 511)], signs, scale, weights);
    }
}
