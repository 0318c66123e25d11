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

use std::sync::LazyLock;

use super::layout::{decode_blocks, from_f16, to_f16};
use super::magnitudes::{Again, GroupFit, Rules, code_scales, fit};
use super::points::Codebook;
use super::row::with_importance;
use super::{BlockType, Importance, codebook, grid};
use crate::lanes::in_lanes;

const ELEMENTS: usize = 256;
const BYTES: usize = 110;

pub(super) static TYPE: BlockType = BlockType {
    name: "IQ3_S",
    id: 21,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode: |bytes, out| decode_blocks(bytes, out, decode_block),
    encode: Some(encode),
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

const RULES: Rules = Rules {
    levels: 8,
    variance: 2.0,
    even_signs: false,
    zero: f32::from_bits(1),
    first_fit: false,
    steps: 9,
    step: 0.2,
    again: Again::AllIfInexact,
    fudge: 1.033,
};

static BOOK: LazyLock<Codebook<4>> = LazyLock::new(|| Codebook::new(&codebook::IQ3_S, 8, 3));

in_lanes! {
    fn encode<V>(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        let book = &*BOOK;
        for ((x, importance), out) in with_importance::<8, 32>(row, importance).zip(out.as_chunks_mut().0) {
            write_block(&fit::<V, 32, 4, 8, 4, 8>(&RULES, book, x, importance), out);
        }
    }
}

fn write_block(fits: &[GroupFit<8, 4>; 8], out: &mut [u8; BYTES]) {
    out.fill(0);
    let Some((d, scales)) = code_scales(&RULES, fits) else { return };
    out[..2].copy_from_slice(&to_f16(d));
    let (low, fields) = out[2..].split_at_mut(64);
    let (high, fields) = fields.split_at_mut(8);
    let (signs, scale_bytes) = fields.split_at_mut(32);
    for (g, fit) in fits.iter().enumerate() {
        for (k, &point) in fit.points.iter().enumerate() {
            low[8 * g + k] = point as u8;
            high[g] |= ((point >> 8) as u8) << k;
        }
        signs[4 * g..][..4].copy_from_slice(&fit.signs);
        scale_bytes[g / 2] |= scales[g] << (g % 2 * 4);
    }
}
