//! IQ1_S: 256 weights in 50 bytes (1.5625 bits per weight): 8 groups of 32 weights, each four points of a codebook.
//!
//! | field | bytes | meaning |
//! |---|---|---|
//! | d | 2 | scale of the block, f16 |
//! | qs | 32 | low 8 bits of each point's number |
//! | qh | 16 | a u16 per group: the high 3 bits of four points' numbers, 3 bits of scale, the shift's sign |
//!
//! weight = d * (2 * scale + 1) * (coordinate + shift), coordinate in -1, 0, 1, shift = 1/8 or -1/8 (bit set).
//! Source: ggml's `block_iq1_s`.

use super::layout::{decode_blocks, from_f16};
use super::{BlockType, Importance, grid};

const ELEMENTS: usize = 256;
const BYTES: usize = 50;

pub(super) static TYPE: BlockType = BlockType {
    name: "IQ1_S",
    id: 19,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode: |bytes, out| decode_blocks(bytes, out, decode_block),
    encode: None,
    importance: Importance::Required,
};

/// What a group adds to its coordinates, or subtracts.
pub(super) const SHIFT: f32 = 0.125;

fn decode_block(block: &[u8; BYTES], weights: &mut [f32; ELEMENTS]) {
    let [d0, d1, fields @ ..] = block;
    let d = from_f16([*d0, *d1]);
    let (low, words) = fields.split_at(32);
    let (words, _) = words.as_chunks();
    for (word, (low, weights)) in words.iter().zip(low.chunks(4).zip(weights.chunks_mut(32))) {
        let word = u16::from_le_bytes(*word);
        let scale = d * f32::from(2 * (word >> 12 & 7) + 1);
        let shift = if word & 0x8000 == 0 { SHIFT } else { -SHIFT };
        for (l, (low, weights)) in low.iter().zip(weights.chunks_mut(8)).enumerate() {
            let point = usize::from(word >> (3 * l) & 7) << 8 | usize::from(*low);
            grid::decode_shifted(&grid::IQ1[point], shift, scale, weights);
        }
    }
}
