//! IQ1_M: 256 weights in 56 bytes (1.75 bits per weight): 32 points of a codebook, 8 weights each.
//!
//! | field | bytes | meaning |
//! |---|---|---|
//! | qs | 32 | low 8 bits of each point's number |
//! | qh | 16 | 4 bits per point, the lower ones first: high 3 bits of its number, then the shift's sign |
//! | scales | 8 | four u16: four scales of 3 bits, one per two points; on top 4 bits of d, the lowest of d first |
//!
//! d is an f16 put together from those four times 4 bits.
//!
//! weight = d * (2 * scale + 1) * (coordinate + shift), coordinate in -1, 0, 1, shift = 1/8 or -1/8 (bit set).
//! Source: ggml's `block_iq1_m`.

use super::iq1_s::SHIFT;
use super::layout::{decode_blocks, from_f16};
use super::{BlockType, Importance, grid};

const ELEMENTS: usize = 256;
const BYTES: usize = 56;

pub(super) static TYPE: BlockType = BlockType {
    name: "IQ1_M",
    id: 29,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode: |bytes, out| decode_blocks(bytes, out, decode_block),
    encode: None,
    importance: Importance::Required,
};

fn decode_block(block: &[u8; BYTES], weights: &mut [f32; ELEMENTS]) {
    let (low, fields) = block.split_at(32);
    let (high, scales) = fields.split_at(16);
    let (scales, _) = scales.as_chunks();
    let d = from_f16(
        scales.iter().rev().fold(0, |d, word| d << 4 | u16::from_le_bytes(*word) >> 12).to_le_bytes(),
    );
    for (i, (low, weights)) in low.iter().zip(weights.chunks_mut(8)).enumerate() {
        let high = high[i / 2] >> (i % 2 * 4);
        let point = usize::from(high & 7) << 8 | usize::from(*low);
        let shift = if high & 8 == 0 { SHIFT } else { -SHIFT };
        let scale = u16::from_le_bytes(scales[i / 8]) >> (i % 8 / 2 * 3) & 7;
        grid::decode_shifted(&grid::IQ1[point], shift, d * f32::from(2 * scale + 1), weights);
    }
}
