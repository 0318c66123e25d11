//! IQ3_XXS: 256 weights in 98 bytes (3.0625 bits per weight): 8 groups of 32 weights, each eight points of a codebook.
//!
//! | field | bytes | meaning |
//! |---|---|---|
//! | d | 2 | scale of the block, f16 |
//! | qs | 64 | point numbers, 4 weights each |
//! | signs and scales | 32 | a u32 per group: 7 bits of signs per two points and, on top, 4 bits of scale |
//!
//! weight = d * (0.5 + scale) / 2 * magnitude, with its sign. Source: ggml's `block_iq3_xxs`.

use std::array::from_fn;
use std::sync::LazyLock;

use super::layout::{decode_blocks, from_f16, to_f16};
use super::magnitudes::{Again, MagnitudeFit, Rules, code_scales, fit};
use super::packed_points::{self, Pack, Packed, signed_levels};
use super::points::Codebook;
use super::row::with_importance;
use super::{BlockCodec, BlockType, Importance, Limits, codebook, grid};
use crate::codec::{Points, Signs, VectorCodec};
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
    codec: BlockCodec::Vector(&VECTOR_CODEC),
    limits: Limits::scaled::<BYTES, 0>(31.0 * 15.5),
};

static LEVELS: [f32; 16] = signed_levels(&[4, 12, 20, 28, 36, 44, 52, 62], 0.25);

pub(crate) static VECTOR_CODEC: VectorCodec =
    packed_points::describe::<Iq3Xxs, 64, 8, BYTES>(&TYPE, &LEVELS, Signs::Even, || &POINTS);

static POINTS: LazyLock<Points> = LazyLock::new(|| packed_points::points::<Iq3Xxs, 64, 8, BYTES>(&LEVELS));

struct Iq3Xxs;

impl Pack<64, 8, BYTES> for Iq3Xxs {
    const BOOK: &'static [u16] = &codebook::IQ3_XXS;
    const SHIFTED: bool = false;

    fn unpack(block: &[u8; BYTES]) -> Packed<64, 8> {
        let (points, words) = block[2..].split_at(64);
        let word = |g: usize| u32::from_le_bytes(from_fn(|i| words[4 * g + i]));
        Packed {
            d: [block[0], block[1]],
            points: from_fn(|p| points[p].into()),
            signs: from_fn(|i| grid::even_signs(word(i / 4) >> (7 * (i % 4)))),
            scales: from_fn(|g| (word(g) >> 28) as u8),
        }
    }

    fn pack(fields: &Packed<64, 8>, block: &mut [u8; BYTES]) {
        block[..2].copy_from_slice(&fields.d);
        let (points, words) = block[2..].split_at_mut(64);
        for (out, &point) in points.iter_mut().zip(&fields.points) {
            *out = point as u8;
        }
        for (g, out) in words.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let signs = (0..4).map(|k| u32::from(fields.signs[4 * g + k] & 0x7f) << (7 * k));
            *out = (signs.sum::<u32>() | u32::from(fields.scales[g]) << 28).to_le_bytes();
        }
    }
}

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

fn write_block(fits: &[MagnitudeFit<8, 4>; 8], out: &mut [u8; BYTES]) {
    let Some((d, scales)) = code_scales(&RULES, fits) else { return out.fill(0) };
    let points = from_fn(|p| fits[p / 8].points[p % 8]);
    let signs = from_fn(|i| fits[i / 4].signs[i % 4]);
    Iq3Xxs::pack(&Packed { d: to_f16(d), points, signs, scales }, out);
}
