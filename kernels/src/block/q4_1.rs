//! Q4_1: 32 weights, scale and minimum, 4-bit codes (`block_q4_1` in ggml-common.h).
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..2 | `d` | f16 scale |
//! | 2..4 | `m` | f16 minimum |
//! | 4..20 | `qs` | 4-bit codes: byte `j` holds weight `j` low, weight `j + 16` high |
//!
//! `weight = d * code + m`

use super::codes::{pack, unpack};
use super::layout::integers;
use super::legacy_blocks::{AffineBlock, decode_affine, encode_affine};
use super::{BlockCodec, BlockType, Importance, Limits};
use crate::codec::{Codec, Float};
use crate::lanes::in_lanes;

const ELEMENTS: usize = 32;
const BYTES: usize = 20;
const TOP: u8 = 15;
const LEVELS: [f32; 16] = integers(0);

pub(super) static TYPE: BlockType = BlockType {
    name: "Q4_1",
    id: 3,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode: decode_affine::<Q41, BYTES>,
    encode: Some(encode),
    importance: Importance::Optional,
    codec: BlockCodec::Scalar(&CODEC),
    limits: Limits::offset::<BYTES, 0, 2>(1.0, 15.0 + 1.0),
};

pub(crate) static CODEC: Codec = Codec {
    block: &TYPE,
    superblock: ELEMENTS,
    group: ELEMENTS,
    levels: &LEVELS,
    scales: 1..=1,
    scale_step: 1,
    offsets: 1..=1,
    float: Float::F16,
    layout: Q41::LAYOUT,
};

in_lanes! {
    fn encode<V>(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        encode_affine::<V, Q41, BYTES>(row, importance, out);
    }
}

struct Q41;

impl AffineBlock<BYTES> for Q41 {
    const TOP: u8 = TOP;
    const PLAIN_BOUND: u8 = TOP;

    #[inline(always)]
    fn pack(codes: &[u8], out: &mut [u8]) {
        pack::<4, 16>(codes, 0, out);
    }

    #[inline(always)]
    fn unpack(bytes: &[u8]) -> [u8; ELEMENTS] {
        unpack::<4, 16, ELEMENTS>(bytes)
    }
}
