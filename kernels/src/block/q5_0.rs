//! Q5_0: 32 weights, one scale, 5-bit codes around zero (`block_q5_0` in ggml-common.h).
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..2 | `d` | f16 scale |
//! | 2..6 | `qh` | fifth bits, weight `j` in bit `j` of a little-endian u32 |
//! | 6..22 | `qs` | low 4 bits: byte `j` holds weight `j` low, weight `j + 16` high |
//!
//! `weight = d * (code - 16)`

use super::codes::{pack, unpack};
use super::layout::integers;
use super::legacy_blocks::{SymmetricBlock, decode_symmetric, encode_symmetric};
use super::{BlockCodec, BlockType, Importance, Limits};
use crate::codec::{Codec, Float};
use crate::lanes::in_lanes;

const ELEMENTS: usize = 32;
const BYTES: usize = 22;
/// The code of weight zero.
const ZERO: i32 = 16;
const LEVELS: [f32; 32] = integers(-ZERO);

pub(super) static TYPE: BlockType = BlockType {
    name: "Q5_0",
    id: 6,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode: decode_symmetric::<Q50, BYTES>,
    encode: Some(encode),
    importance: Importance::Optional,
    codec: BlockCodec::Scalar(&CODEC),
    limits: Limits::scaled::<BYTES, 0>(16.0),
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
    layout: Q50::LAYOUT,
};

in_lanes! {
    fn encode<V>(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        encode_symmetric::<V, Q50, BYTES>(row, importance, out);
    }
}

struct Q50;

impl SymmetricBlock<BYTES> for Q50 {
    const HALF: i32 = ZERO;

    #[inline(always)]
    fn pack(codes: &[u8], out: &mut [u8]) {
        pack_codes(codes, out);
    }

    #[inline(always)]
    fn unpack(bytes: &[u8]) -> [u8; ELEMENTS] {
        unpack_codes(bytes)
    }
}

/// Writes the fields `qh` and `qs` of 5-bit codes, which Q5_1 has too.
#[inline(always)]
pub(super) fn pack_codes(codes: &[u8], out: &mut [u8]) {
    let (qh, qs) = out.split_at_mut(4);
    for (codes, byte) in codes.as_chunks().0.iter().zip(qh) {
        *byte = fifth_bits(*codes);
    }
    pack::<4, 16>(codes, 0, qs);
}

/// Returns bit 4 of each code, that of the first code lowest.
#[inline(always)]
fn fifth_bits(codes: [u8; 8]) -> u8 {
    // The product moves the bits of the eight bytes next to each other, in its highest byte.
    let bits = u64::from_le_bytes(codes) >> 4 & 0x0101_0101_0101_0101;
    (bits.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
}

/// Returns the 5-bit codes in the fields `qh` and `qs`.
#[inline(always)]
pub(super) fn unpack_codes(bytes: &[u8]) -> [u8; ELEMENTS] {
    let (qh, qs) = bytes.split_at(4);
    let (high, low) = (unpack::<1, 1, ELEMENTS>(qh), unpack::<4, 16, ELEMENTS>(qs));
    std::array::from_fn(|i| low[i] | high[i] << 4)
}
