//! IQ3_XXS: 256 weights in 98 bytes (3.0625 bits per weight): 8 groups of 32 weights, each eight points of a codebook.
//!
//! | field | bytes | meaning |
//! |---|---|---|
//! | d | 2 | scale of the block, f16 |
//! | qs | 64 | point numbers, 4 weights each |
//! | signs and scales | 32 | a u32 per group: 7 bits of signs per two points and, on top, 4 bits of scale |
//!
//! weight = d * (0.5 + scale) / 2 * magnitude, with its sign. Source: ggml's `block_iq3_xxs`.

use std::sync::LazyLock;

use super::layout::{decode_blocks, from_f16, to_f16};
use super::magnitudes::{Again, GroupFit, Rules, code_scales, fit};
use super::points::Codebook;
use super::row::with_importance;
use super::{BlockType, Importance, codebook, grid};
use crate::lanes::in_lanes;

const ELEMENTS: usize = 256;
const BYTES: usize = 98;

pub(super) static TYPE: BlockType = BlockType {
    name: "IQ3_XXS",
    id: 18,
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

const RULES: Rules = Rules {
    levels: 8,
    variance: 2.0,
    even_signs: true,
    zero: 1e-8,
    first_fit: false,
    steps: 15,
    step: 0.2,
    again: Again::Inexact,
    fudge: 1.0125,
};

static BOOK: LazyLock<Codebook<4>> = LazyLock::new(|| Codebook::new(&codebook::IQ3_XXS, 8, 2));

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
    let (points, words) = out[2..].split_at_mut(64);
    for ((fit, scale), (points, word)) in
        fits.iter().zip(scales).zip(points.chunks_mut(8).zip(words.as_chunks_mut::<4>().0))
    {
        for (out, &point) in points.iter_mut().zip(&fit.points) {
            *out = point as u8;
        }
        let signs = fit.signs.iter().enumerate().map(|(k, &signs)| u32::from(signs & 0x7f) << (7 * k));
        *word = (signs.sum::<u32>() | u32::from(scale) << 28).to_le_bytes();
    }
}
