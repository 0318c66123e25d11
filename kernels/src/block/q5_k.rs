//! Q5_K: superblocks of 256 weights in 8 groups of 32, 6-bit scales and offsets, 5-bit codes (`block_q5_K` in
//! ggml-common.h).
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..16 | `d`, `dmin`, `scales` | see `six_bit_header.rs` |
//! | 16..48 | `qh` | fifth bits: bit `k` of byte `j` belongs to weight `j + 32·k` |
//! | 48..176 | `qs` | low 4 bits: 32 bytes hold 64 weights, byte `j` weight `j` low, weight `j + 32` high |
//!
//! `weight = d * scale * code - dmin * offset`

use super::affine_superblock::{AffineFits, AffineSuperblock, CodedScales};
use super::codes::{pack, unpack};
use super::layout::{decode_blocks, integers};
use super::row::{Groups, encode_row, superblocks};
use super::six_bit_header::{self as header, GROUP, GROUPS};
use super::{BlockCodec, BlockType, Importance, Limits};
use crate::block::fit::affine::{Loss, ScaleGrid};
use crate::block::fit::weights::magnitude_weights;
use crate::codec::{Codec, Fields, FieldsMut, Float, Layout};
use crate::lanes::{Simd, in_lanes};

const ELEMENTS: usize = 256;
const BYTES: usize = 176;
const HIGH_BITS: std::ops::Range<usize> = header::BYTES..48;
const CODES: std::ops::Range<usize> = 48..BYTES;

const CODE_TOP: u8 = 31;
const LEVELS: [f32; 32] = integers(0);

pub(super) static TYPE: BlockType = BlockType {
    name: "Q5_K",
    id: 13,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode,
    encode: Some(encode),
    importance: Importance::Optional,
    codec: BlockCodec::Scalar(&CODEC),
    limits: Limits::offset::<BYTES, 0, 2>(63.0, 63.0 * 31.0),
};

pub(crate) static CODEC: Codec = Codec {
    block: &TYPE,
    superblock: ELEMENTS,
    group: GROUP,
    levels: &LEVELS,
    scales: 0..=63,
    scale_step: 1,
    offsets: 0..=63,
    float: Float::F16,
    layout: Layout { read: read_fields, write: write_fields },
};

fn decode(bytes: &[u8], out: &mut [f32]) {
    decode_blocks(bytes, out, |block: &[u8; BYTES], out: &mut [f32; ELEMENTS]| {
        header::read(block).decode(&unpack_codes(block), out);
    });
}

fn unpack_codes(block: &[u8]) -> [u8; ELEMENTS] {
    let high = unpack::<1, 32, ELEMENTS>(&block[HIGH_BITS]);
    let low = unpack::<4, 32, ELEMENTS>(&block[CODES]);
    std::array::from_fn(|i| low[i] | high[i] << 4)
}

fn read_fields(block: &[u8], fields: FieldsMut<'_>) {
    fields.codes.copy_from_slice(&unpack_codes(block));
    header::read_fields(block, fields);
}

fn write_fields(fields: Fields<'_>, block: &mut [u8]) {
    header::write_fields(fields, block);
    pack_codes(fields.codes, block);
}

fn pack_codes(codes: &[u8], block: &mut [u8]) {
    pack::<4, 32>(codes, 0, &mut block[CODES]);
    pack::<1, 32>(codes, 4, &mut block[HIGH_BITS]);
}

in_lanes! {
    fn encode<V>(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        encode_row::<V, Q5K, _, BYTES>(superblocks::<GROUPS, GROUP>(row), importance.map(superblocks), out);
    }
}

struct Q5K;

impl AffineSuperblock<GROUPS, GROUP, BYTES> for Q5K {
    const CODE_TOP: u8 = CODE_TOP;
    const TOP: u8 = header::TOP;
    const PLAIN_GRID: ScaleGrid = ScaleGrid { first: -0.5, step: 0.1, last: 15 };
    const PLAIN_LOSS: Loss = Loss::Squared;
    const PLAIN_BOUND: u8 = header::TOP;
    const WEIGHTED_BOUND: u8 = header::TOP;
    const VARIANCE: f32 = 2.0;

    #[inline(always)]
    fn plain_weights<V: Simd>(x: &[V; GROUP]) -> [V; GROUP] {
        magnitude_weights(x)
    }

    #[inline(always)]
    fn write(
        x: &Groups<GROUPS, GROUP>,
        fits: &AffineFits<GROUPS>,
        coded: &CodedScales<GROUPS>,
        out: &mut [u8; BYTES],
    ) {
        let header = header::write(coded, out);
        pack_codes(header.round(x, fits, CODE_TOP).as_flattened(), out);
    }
}
