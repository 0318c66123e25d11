//! IQ3_XXS: 256 weights in 98 bytes (3.0625 bits per weight): 8 groups of 32 weights, each eight points of a codebook.
//!
//! | field | bytes | meaning |
//! |---|---|---|
//! | d | 2 | scale of the block, f16 |
//! | qs | 64 | point numbers, 4 weights each |
//! | signs and scales | 32 | a u32 per group: 7 bits of signs per two points and, on top, 4 bits of scale |
//!
//! weight = d * (0.5 + scale) / 2 * magnitude, with its sign. Source: ggml's `block_iq3_xxs`.

use super::layout::{decode_blocks, from_f16};
use super::{BlockType, Importance, grid};

const ELEMENTS: usize = 256;
const BYTES: usize = 98;

pub(super) static TYPE: BlockType = BlockType {
    name: "IQ3_XXS",
    id: 18,
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
    let (points, words) = fields.split_at(64);
    let (words, _) = words.as_chunks();
    for (word, (points, weights)) in words.iter().zip(points.chunks(8).zip(weights.chunks_mut(32))) {
        let signs_and_scale = u32::from_le_bytes(*word);
        let scale = d * (0.5 + (signs_and_scale >> 28) as f32) * 0.5;
        for (k, (point, weights)) in points.iter().zip(weights.chunks_mut(4)).enumerate() {
            let signs = grid::even_signs(signs_and_scale >> (7 * (k / 2))) >> (k % 2 * 4);
            grid::decode_signed(&grid::IQ3_XXS[usize::from(*point)], signs, scale, weights);
        }
    }
}
