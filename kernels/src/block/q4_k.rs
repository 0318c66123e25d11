//! Q4_K: superblocks of 256 weights in 8 groups of 32, 6-bit scales and offsets, 4-bit codes (`block_q4_K` in
//! ggml-common.h).
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..16 | `d`, `dmin`, `scales` | see `six_bit_header.rs` |
//! | 16..144 | `qs` | 4-bit codes: 32 bytes hold 64 weights, byte `j` weight `j` low, weight `j + 32` high |
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
const BYTES: usize = 144;
const CODES: std::ops::Range<usize> = header::BYTES..BYTES;

const CODE_TOP: u8 = 15;
const LEVELS: [f32; 16] = integers(0);

pub(super) static TYPE: BlockType = BlockType {
    name: "Q4_K",
    id: 12,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode,
    encode: Some(encode),
    importance: Importance::Optional,
    codec: BlockCodec::Scalar(&CODEC),
    limits: Limits::offset::<BYTES, 0, 2>(63.0, 63.0 * 15.0),
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
        let codes = unpack::<4, 32, ELEMENTS>(&block[CODES]);
        header::read(block).decode(&codes, out);
    });
}

fn read_fields(block: &[u8], fields: FieldsMut<'_>) {
    fields.codes.copy_from_slice(&unpack::<4, 32, ELEMENTS>(&block[CODES]));
    header::read_fields(block, fields);
}

fn write_fields(fields: Fields<'_>, block: &mut [u8]) {
    header::write_fields(fields, block);
    pack::<4, 32>(fields.codes, 0, &mut block[CODES]);
}

in_lanes! {
    fn encode<V>(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        encode_row::<V, Q4K, _, BYTES>(superblocks::<GROUPS, GROUP>(row), importance.map(superblocks), out);
    }
}

struct Q4K;

impl AffineSuperblock<GROUPS, GROUP, BYTES> for Q4K {
    const CODE_TOP: u8 = CODE_TOP;
    const TOP: u8 = header::TOP;
    const PLAIN_GRID: ScaleGrid = ScaleGrid { first: -1.0, step: 0.1, last: 20 };
    const PLAIN_LOSS: Loss = Loss::Squared;
    const PLAIN_BOUND: u8 = header::TOP;
    // Where few weights count, a fit can have a negative scale, and ggml lets its code spill into the neighbouring
    // bits. Codes are therefore not bounded.
    const WEIGHTED_BOUND: u8 = u8::MAX;
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
        pack::<4, 32>(header.round(x, fits, CODE_TOP).as_flattened(), 0, &mut out[CODES]);
    }
}
