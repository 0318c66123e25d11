//! IQ2_XXS: 256 weights in 66 bytes (2.0625 bits per weight): 8 groups of 32 weights, each four points of a codebook.
//!
//! | field | bytes | meaning |
//! |---|---|---|
//! | d | 2 | scale of the block, f16 |
//! | qs | 64 | 8 bytes per group: four point numbers, then a u32: 7 bits of signs per point, 4 bits of scale on top |
//!
//! weight = d * (0.5 + scale) / 4 * magnitude, with its sign. Source: ggml's `block_iq2_xxs`.

use super::layout::{decode_blocks, from_f16};
use super::{BlockType, Importance, grid};

const ELEMENTS: usize = 256;
const BYTES: usize = 66;

pub(super) static TYPE: BlockType = BlockType {
    name: "IQ2_XXS",
    id: 16,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode: |bytes, out| decode_blocks(bytes, out, decode_block),
    encode: None,
    importance: Importance::Required,
};

fn decode_block(block: &[u8; BYTES], weights: &mut [f32; ELEMENTS]) {
    let [d0, d1, groups @ ..] = block;
    let d = from_f16([*d0, *d1]);
    let (groups, _) = groups.as_chunks::<8>();
    for (group, weights) in groups.iter().zip(weights.chunks_mut(32)) {
        let [points @ .., s0, s1, s2, s3] = group;
        let signs_and_scale = u32::from_le_bytes([*s0, *s1, *s2, *s3]);
        let scale = d * (0.5 + (signs_and_scale >> 28) as f32) * 0.25;
        for (l, (point, weights)) in points.iter().zip(weights.chunks_mut(8)).enumerate() {
            let signs = grid::even_signs(signs_and_scale >> (7 * l));
            grid::decode_signed(&grid::IQ2_XXS[usize::from(*point)], signs, scale, weights);
        }
    }
}
