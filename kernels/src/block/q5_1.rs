//! Q5_1: 32 weights, scale and minimum, 5-bit codes (`block_q5_1` in ggml-common.h).
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..2 | `d` | f16 scale |
//! | 2..4 | `m` | f16 minimum |
//! | 4..8 | `qh` | fifth bits, weight `j` in bit `j` of a little-endian u32 |
//! | 8..24 | `qs` | low 4 bits: byte `j` holds weight `j` low, weight `j + 16` high |
//!
//! `weight = d * code + m`

use super::layout::integers;
use super::legacy_blocks::{AffineBlock, decode_affine, encode_affine};
use super::q5_0::{pack_codes, unpack_codes};
use super::{BlockCodec, BlockType, Importance, Limits};
use crate::codec::{Codec, Float};
use crate::lanes::in_lanes;

const ELEMENTS: usize = 32;
const BYTES: usize = 24;
const TOP: u8 = 31;
const LEVELS: [f32; 32] = integers(0);

pub(super) static TYPE: BlockType = BlockType {
    name: "Q5_1",
    id: 7,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode: decode_affine::<Q51, BYTES>,
    encode: Some(encode),
    importance: Importance::Optional,
    codec: BlockCodec::Scalar(&CODEC),
    limits: Limits::offset::<BYTES, 0, 2>(1.0, 31.0 + 1.0),
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
    layout: Q51::LAYOUT,
};

in_lanes! {
    fn encode<V>(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        encode_affine::<V, Q51, BYTES>(row, importance, out);
    }
}

struct Q51;

impl AffineBlock<BYTES> for Q51 {
    const TOP: u8 = TOP;
    const PLAIN_BOUND: u8 = u8::MAX;

    #[inline(always)]
    fn pack(codes: &[u8], out: &mut [u8]) {
        pack_codes(codes, out);
    }

    #[inline(always)]
    fn unpack(bytes: &[u8]) -> [u8; ELEMENTS] {
        unpack_codes(bytes)
    }
}
