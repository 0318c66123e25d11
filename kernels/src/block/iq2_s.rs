//! IQ2_S: 256 weights in 82 bytes (2.5625 bits per weight): 32 points of a codebook, 8 weights each.
//!
//! | field | bytes | meaning |
//! |---|---|---|
//! | d | 2 | scale of the block, f16 |
//! | qs | 32 | low 8 bits of each point's number |
//! | signs | 32 | signs of each point's weights, the first in the lowest bit |
//! | qh | 8 | high 2 bits of the points' numbers, four points to a byte, the first in the lowest bits |
//! | scales | 8 | 4 bits per two points, the lower ones first |
//!
//! weight = d * (0.5 + scale) / 4 * magnitude, with its sign. Source: ggml's `block_iq2_s`.

use std::array::from_fn;
use std::sync::LazyLock;

use super::layout::{decode_blocks, to_f16};
use super::magnitudes::{Again, MagnitudeFit, Rules, code_scales, fit};
use super::packed_points::{self, DecodePoints, Pack, Packed, signed_levels};
use super::points::Codebook;
use super::row::with_importance;
use super::{BlockCodec, BlockType, Importance, Limits, codebook, grid};
use crate::codec::{Points, Signs, VectorCodec};
use crate::lanes::in_lanes;

const ELEMENTS: usize = 256;
const BYTES: usize = 82;

pub(super) static TYPE: BlockType = BlockType {
    name: "IQ2_S",
    id: 22,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode: |bytes, out| decode_blocks(bytes, out, packed_points::decode_block::<Iq2S, 32, 16, BYTES>),
    encode: Some(encode),
    importance: Importance::Required,
    codec: BlockCodec::Vector(&VECTOR_CODEC),
    limits: Limits::scaled::<BYTES, 0>(31.0 * 5.375),
};

static LEVELS: [f32; 6] = signed_levels(&[8, 25, 43], Iq2S::UNIT);

pub(crate) static VECTOR_CODEC: VectorCodec =
    packed_points::describe::<Iq2S, 32, 16, BYTES>(&TYPE, &LEVELS, Signs::Free, || &POINTS);

static POINTS: LazyLock<Points> = LazyLock::new(|| packed_points::points::<Iq2S, 32, 16, BYTES>(&LEVELS));

struct Iq2S;

impl Pack<32, 16, BYTES> for Iq2S {
    const BOOK: &'static [u16] = &codebook::IQ2_S;
    const SHIFTED: bool = false;

    fn unpack(block: &[u8; BYTES]) -> Packed<32, 16> {
        let (low, rest) = block[2..].split_at(32);
        let (signs, rest) = rest.split_at(32);
        let (high, scales) = rest.split_at(8);
        Packed {
            d: [block[0], block[1]],
            points: from_fn(|p| u16::from(high[p / 4] >> (p % 4 * 2) & 3) << 8 | u16::from(low[p])),
            signs: from_fn(|i| signs[i]),
            scales: from_fn(|g| scales[g / 2] >> (g % 2 * 4) & 15),
        }
    }

    fn pack(fields: &Packed<32, 16>, block: &mut [u8; BYTES]) {
        block.fill(0);
        block[..2].copy_from_slice(&fields.d);
        let (low, rest) = block[2..].split_at_mut(32);
        let (signs, rest) = rest.split_at_mut(32);
        let (high, scales) = rest.split_at_mut(8);
        for (p, &point) in fields.points.iter().enumerate() {
            low[p] = point as u8;
            high[p / 4] |= ((point >> 8) as u8) << (p % 4 * 2);
        }
        signs.copy_from_slice(&fields.signs);
        for (out, pair) in scales.iter_mut().zip(fields.scales.as_chunks::<2>().0) {
            *out = pair[0] | pair[1] << 4;
        }
    }
}

impl DecodePoints<32, 16, BYTES> for Iq2S {
    const UNIT: f32 = 0.125;

    fn coordinates(point: u16) -> &'static [i8] {
        &grid::IQ2_S[usize::from(point)]
    }
}

const RULES: Rules = Rules {
    levels: 3,
    variance: 2.0,
    even_signs: false,
    zero: 1e-8,
    first_fit: false,
    steps: 9,
    step: 0.1,
    again: Again::Inexact,
    fudge: 0.9875,
};

static BOOK: LazyLock<Codebook<8>> = LazyLock::new(|| Codebook::new(&codebook::IQ2_S, 3, 1));

in_lanes! {
    fn encode<V>(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        let book = &*BOOK;
        for ((x, importance), out) in with_importance::<16, 16>(row, importance).zip(out.as_chunks_mut().0) {
            write_block(&fit::<V, 16, 8, 2, 2, 16>(&RULES, book, x, importance), out);
        }
    }
}

fn write_block(fits: &[MagnitudeFit<2, 2>; 16], out: &mut [u8; BYTES]) {
    let Some((d, scales)) = code_scales(&RULES, fits) else { return out.fill(0) };
    let points = from_fn(|p| fits[p / 2].points[p % 2]);
    let signs = from_fn(|i| fits[i / 2].signs[i % 2]);
    Iq2S::pack(&Packed { d: to_f16(d), points, signs, scales }, out);
}
