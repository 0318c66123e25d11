//! IQ2_XS: 256 weights in 74 bytes (2.3125 bits per weight): 32 points of a codebook, 8 weights each.
//!
//! | field | bytes | meaning |
//! |---|---|---|
//! | d | 2 | scale of the block, f16 |
//! | qs | 64 | a u16 per point: its number (9 bits), then 7 bits of signs |
//! | scales | 8 | 4 bits per two points, the lower ones first |
//!
//! weight = d * (0.5 + scale) / 4 * magnitude, with its sign. Source: ggml's `block_iq2_xs`.

use std::sync::LazyLock;

use super::layout::{decode_blocks, from_f16, to_f16};
use super::magnitudes::{Again, GroupFit, Rules, code_scales, fit};
use super::points::Codebook;
use super::row::with_importance;
use super::{BlockType, Importance, codebook, grid};
use crate::lanes::in_lanes;

const ELEMENTS: usize = 256;
const BYTES: usize = 74;

pub(super) static TYPE: BlockType = BlockType {
    name: "IQ2_XS",
    id: 17,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode: |bytes, out| decode_blocks(bytes, out, decode_block),
    encode: Some(encode),
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

const RULES: Rules = Rules {
    levels: 3,
    variance: 1.0,
    even_signs: true,
    zero: 1e-15,
    first_fit: false,
    steps: 9,
    step: 0.1,
    again: Again::Inexact,
    fudge: 1.0,
};

static BOOK: LazyLock<Codebook<8>> = LazyLock::new(|| Codebook::new(&codebook::IQ2_XS, 3, 2));

in_lanes! {
    fn encode<V>(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        let book = &*BOOK;
        for ((x, importance), out) in with_importance::<16, 16>(row, importance).zip(out.as_chunks_mut().0) {
            write_block(&fit::<V, 16, 8, 2, 2, 16>(&RULES, book, x, importance), out);
        }
    }
}

fn write_block(fits: &[GroupFit<2, 2>; 16], out: &mut [u8; BYTES]) {
    out.fill(0);
    let Some((d, scales)) = code_scales(&RULES, fits) else { return };
    out[..2].copy_from_slice(&to_f16(d));
    let (points, scale_bytes) = out[2..].split_at_mut(64);
    for (g, fit) in fits.iter().enumerate() {
        for (k, (&point, &signs)) in fit.points.iter().zip(&fit.signs).enumerate() {
            let field = point | u16::from(signs & 0x7f) << 9;
            points[4 * g + 2 * k..][..2].copy_from_slice(&field.to_le_bytes());
        }
        scale_bytes[g / 2] |= scales[g] << (g % 2 * 4);
    }
}
