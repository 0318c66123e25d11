//! Q4_0: 32 weights, one scale, 4-bit codes around zero (`block_q4_0` in ggml-common.h).
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..2 | `d` | f16 scale |
//! | 2..18 | `qs` | 4-bit codes: byte `j` holds weight `j` low, weight `j + 16` high |
//!
//! `weight = d * (code - 8)`

use super::codes::{pack, unpack};
use super::layout::integers;
use super::legacy_blocks::{SymmetricBlock, decode_symmetric, encode_symmetric};
use super::{BlockCodec, BlockType, Importance, Limits};
use crate::codec::{Codec, Float};
use crate::lanes::in_lanes;

const ELEMENTS: usize = 32;
const BYTES: usize = 18;
/// The code of weight zero.
const ZERO: i32 = 8;
const LEVELS: [f32; 16] = integers(-ZERO);

pub(super) static TYPE: BlockType = BlockType {
    name: "Q4_0",
    id: 2,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode: decode_symmetric::<Q40, BYTES>,
    encode: Some(encode),
    importance: Importance::Optional,
    codec: BlockCodec::Scalar(&CODEC),
    limits: Limits::scaled::<BYTES, 0>(8.0),
};

pub(crate) static CODEC: Codec = Codec {
    block: &TYPE,
    superblock: ELEMENTS,
    group: ELEMENTS,
    levels: &LEVELS,
    scales: 1..=1,
    scale_step: 1,
    offsets: 0..=0,
    float: Float::F16,
    layout: Q40::LAYOUT,
};

in_lanes! {
    fn encode<V>(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        encode_symmetric::<V, Q40, BYTES>(row, importance, out);
    }
}

struct Q40;

impl SymmetricBlock<BYTES> for Q40 {
    const HALF: i32 = ZERO;

    #[inline(always)]
    fn pack(codes: &[u8], out: &mut [u8]) {
        pack::<4, 16>(codes, 0, out);
    }

    #[inline(always)]
    fn unpack(bytes: &[u8]) -> [u8; ELEMENTS] {
        unpack::<4, 16, ELEMENTS>(bytes)
    }
}
