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
const BYTES: usize = 110;

pub(super) static TYPE: BlockType = BlockType {
    name: "IQ3_S",
    id: 21,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode: |bytes, out| decode_blocks(bytes, out, packed_points::decode_block::<Iq3S, 64, 8, BYTES>),
    encode: Some(encode),
    importance: Importance::Optional,
    codec: BlockCodec::Vector(&VECTOR_CODEC),
    limits: Limits::scaled::<BYTES, 0>(31.0 * 15.0),
};

static LEVELS: [f32; 16] = signed_levels(&[1, 3, 5, 7, 9, 11, 13, 15], Iq3S::UNIT);

pub(crate) static VECTOR_CODEC: VectorCodec =
    packed_points::describe::<Iq3S, 64, 8, BYTES>(&TYPE, &LEVELS, Signs::Free, || &POINTS);

static POINTS: LazyLock<Points> = LazyLock::new(|| packed_points::points::<Iq3S, 64, 8, BYTES>(&LEVELS));

struct Iq3S;

impl Pack<64, 8, BYTES> for Iq3S {
    const BOOK: &'static [u16] = &codebook::IQ3_S;
    const SHIFTED: bool = false;

    fn unpack(block: &[u8; BYTES]) -> Packed<64, 8> {
        let (low, rest) = block[2..].split_at(64);
        let (high, rest) = rest.split_at(8);
        let (signs, scales) = rest.split_at(32);
        Packed {
            d: [block[0], block[1]],
            points: from_fn(|p| u16::from(high[p / 8] >> (p % 8) & 1) << 8 | u16::from(low[p])),
            signs: from_fn(|i| signs[i]),
            scales: from_fn(|g| scales[g / 2] >> (g % 2 * 4) & 15),
        }
    }

    fn pack(fields: &Packed<64, 8>, block: &mut [u8; BYTES]) {
        block.fill(0);
        block[..2].copy_from_slice(&fields.d);
        let (low, rest) = block[2..].split_at_mut(64);
        let (high, rest) = rest.split_at_mut(8);
        let (signs, scales) = rest.split_at_mut(32);
        for (p, &point) in fields.points.iter().enumerate() {
            low[p] = point as u8;
            high[p / 8] |= ((point >> 8) as u8) << (p % 8);
        }
        signs.copy_from_slice(&fields.signs);
        for (out, pair) in scales.iter_mut().zip(fields.scales.as_chunks::<2>().0) {
            *out = pair[0] | pair[1] << 4;
        }
    }
}

impl DecodePoints<64, 8, BYTES> for Iq3S {
    const UNIT: f32 = 1.0;

    fn coordinates(point: u16) -> &'static [i8] {
        &grid::IQ3_S[usize::from(point)]
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

fn write_block(fits: &[MagnitudeFit<8, 4>; 8], out: &mut [u8; BYTES]) {
    let Some((d, scales)) = code_scales(&RULES, fits) else { return out.fill(0) };
    let points = from_fn(|p| fits[p / 8].points[p % 8]);
    let signs = from_fn(|i| fits[i / 4].signs[i % 4]);
    Iq3S::pack(&Packed { d: to_f16(d), points, signs, scales }, out);
}
