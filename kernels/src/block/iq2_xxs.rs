//! IQ2_XXS: 256 weights in 66 bytes (2.0625 bits per weight): 8 groups of 32 weights, each four points of a codebook.
//!
//! | field | bytes | meaning |
//! |---|---|---|
//! | d | 2 | scale of the block, f16 |
//! | qs | 64 | 8 bytes per group: four point numbers, then a u32: 7 bits of signs per point, 4 bits of scale on top |
//!
//! weight = d * (0.5 + scale) / 4 * magnitude, with its sign. Source: ggml's `block_iq2_xxs`.

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
const BYTES: usize = 66;

pub(super) static TYPE: BlockType = BlockType {
    name: "IQ2_XXS",
    id: 16,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode: |bytes, out| decode_blocks(bytes, out, decode_block),
    encode: Some(encode),
    importance: Importance::Required,
    codec: BlockCodec::Vector(&VECTOR_CODEC),
    limits: Limits::scaled::<BYTES, 0>(31.0 * 5.375),
};

static LEVELS: [f32; 6] = signed_levels(&[8, 25, 43], 0.125);

pub(crate) static VECTOR_CODEC: VectorCodec =
    packed_points::describe::<Iq2Xxs, 32, 8, BYTES>(&TYPE, &LEVELS, Signs::Even, || &POINTS);

static POINTS: LazyLock<Points> = LazyLock::new(|| packed_points::points::<Iq2Xxs, 32, 8, BYTES>(&LEVELS));

struct Iq2Xxs;

impl Pack<32, 8, BYTES> for Iq2Xxs {
    const BOOK: &'static [u16] = &codebook::IQ2_XXS;
    const SHIFTED: bool = false;

    fn unpack(block: &[u8; BYTES]) -> Packed<32, 8> {
        let groups = block[2..].as_chunks::<8>().0;
        let word = |g: usize| u32::from_le_bytes(from_fn(|i| groups[g][4 + i]));
        Packed {
            d: [block[0], block[1]],
            points: from_fn(|p| groups[p / 4][p % 4].into()),
            signs: from_fn(|i| grid::even_signs(word(i / 4) >> (7 * (i % 4)))),
            scales: from_fn(|g| (word(g) >> 28) as u8),
        }
    }

    fn pack(fields: &Packed<32, 8>, block: &mut [u8; BYTES]) {
        block[..2].copy_from_slice(&fields.d);
        for (g, out) in block[2..].as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let mut word = u32::from(fields.scales[g]) << 28;
            for (k, out) in out[..4].iter_mut().enumerate() {
                *out = fields.points[4 * g + k] as u8;
                word |= u32::from(fields.signs[4 * g + k] & 0x7f) << (7 * k);
            }
            out[4..].copy_from_slice(&word.to_le_bytes());
        }
    }
}

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

const RULES: Rules = Rules {
    levels: 3,
    variance: 1.0,
    even_signs: true,
    zero: 1e-15,
    first_fit: true,
    steps: 6,
    step: 0.1,
    again: Again::All,
    fudge: 1.0,
};

static BOOK: LazyLock<Codebook<8>> = LazyLock::new(|| Codebook::new(&codebook::IQ2_XXS, 3, 2));

in_lanes! {
    fn encode<V>(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        let book = &*BOOK;
        for ((x, importance), out) in with_importance::<8, 32>(row, importance).zip(out.as_chunks_mut().0) {
            write_block(&fit::<V, 32, 8, 4, 4, 8>(&RULES, book, x, importance), out);
        }
    }
}

fn write_block(fits: &[MagnitudeFit<4, 4>; 8], out: &mut [u8; BYTES]) {
    let Some((d, scales)) = code_scales(&RULES, fits) else { return out.fill(0) };
    let points = from_fn(|p| fits[p / 4].points[p % 4]);
    let signs = from_fn(|i| fits[i / 4].signs[i % 4]);
    Iq2Xxs::pack(&Packed { d: to_f16(d), points, signs, scales }, out);
}
