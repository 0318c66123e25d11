//! Q2_K: superblocks of 256 weights in 16 groups of 16, 4-bit scales and offsets, 2-bit codes (`block_q2_K` in
//! ggml-common.h).
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..16 | `scales` | per group: 4-bit scale low, 4-bit offset high |
//! | 16..80 | `qs` | 2-bit codes: 32 bytes hold 128 weights, byte `j` the weights `j`, `j + 32`, `j + 64`, `j + 96` |
//! | 80..82 | `d` | f16 scale of the scales |
//! | 82..84 | `dmin` | f16 scale of the offsets |
//!
//! `weight = d * scale * code - dmin * offset`

use super::affine_superblock::{AffineFits, AffineSuperblock, CodedScales};
use super::codes::{pack, read_f16, unpack, write_f16};
use super::layout::{decode_blocks, integers};
use super::row::{Groups, encode_row, superblocks};
use super::{BlockCodec, BlockType, Importance, Limits};
use crate::block::fit::affine;
use crate::block::fit::affine::{Loss, ScaleGrid};
use crate::block::fit::weights::magnitudes;
use crate::codec::{Codec, Fields, FieldsMut, Float, Layout};
use crate::lanes::{Simd, in_lanes};

const ELEMENTS: usize = 256;
const BYTES: usize = 84;
const GROUPS: usize = 16;
const GROUP: usize = 16;

const SCALES: std::ops::Range<usize> = 0..16;
const CODES: std::ops::Range<usize> = 16..80;
const D: usize = 80;
const DMIN: usize = 82;

/// The largest code, and below it the largest scale or offset.
const CODE_TOP: u8 = 3;
const TOP: u8 = 15;
const LEVELS: [f32; 4] = integers(0);

pub(super) static TYPE: BlockType = BlockType {
    name: "Q2_K",
    id: 10,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode,
    encode: Some(encode),
    importance: Importance::Optional,
    codec: BlockCodec::Scalar(&CODEC),
    limits: Limits::offset::<BYTES, D, DMIN>(15.0, 15.0 * 3.0),
};

pub(crate) static CODEC: Codec = Codec {
    block: &TYPE,
    superblock: ELEMENTS,
    group: GROUP,
    levels: &LEVELS,
    scales: 0..=15,
    scale_step: 1,
    offsets: 0..=15,
    float: Float::F16,
    layout: Layout { read: read_fields, write: write_fields },
};

fn decode(bytes: &[u8], out: &mut [f32]) {
    decode_blocks(bytes, out, |block: &[u8; BYTES], out: &mut [f32; ELEMENTS]| {
        let codes = unpack::<2, 32, ELEMENTS>(&block[CODES]);
        let (scales, offsets) = group_scales(block);
        for (i, out) in out.iter_mut().enumerate() {
            *out = scales[i / GROUP] * f32::from(codes[i]) - offsets[i / GROUP];
        }
    });
}

/// Returns the scale of each group, by which its codes are multiplied, and the offset that is then subtracted.
#[inline(always)]
fn group_scales(block: &[u8; BYTES]) -> ([f32; GROUPS], [f32; GROUPS]) {
    let (d, dmin) = (read_f16(&block[D..]), read_f16(&block[DMIN..]));
    let (mut scales, mut offsets) = ([0.0; GROUPS], [0.0; GROUPS]);
    for (g, byte) in block[SCALES].iter().enumerate() {
        (scales[g], offsets[g]) = (d * f32::from(byte & 15), dmin * f32::from(byte >> 4));
    }
    (scales, offsets)
}

fn read_fields(block: &[u8], fields: FieldsMut<'_>) {
    (fields.d[0], fields.dmin[0]) = (read_f16(&block[D..]), read_f16(&block[DMIN..]));
    let pairs = fields.scales.iter_mut().zip(fields.offsets);
    for (byte, (scale, offset)) in block[SCALES].iter().zip(pairs) {
        (*scale, *offset) = (i16::from(byte & 15), i16::from(byte >> 4));
    }
    fields.codes.copy_from_slice(&unpack::<2, 32, ELEMENTS>(&block[CODES]));
}

fn write_fields(fields: Fields<'_>, block: &mut [u8]) {
    let pairs = fields.scales.iter().zip(fields.offsets);
    for (byte, (&scale, &offset)) in block[SCALES].iter_mut().zip(pairs) {
        *byte = scale as u8 | (offset as u8) << 4;
    }
    write_f16(fields.d[0], &mut block[D..]);
    write_f16(fields.dmin[0], &mut block[DMIN..]);
    pack::<2, 32>(fields.codes, 0, &mut block[CODES]);
}

in_lanes! {
    fn encode<V>(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        encode_row::<V, Q2K, _, BYTES>(superblocks::<GROUPS, GROUP>(row), importance.map(superblocks), out);
    }
}

struct Q2K;

impl AffineSuperblock<GROUPS, GROUP, BYTES> for Q2K {
    const CODE_TOP: u8 = CODE_TOP;
    const TOP: u8 = TOP;
    const PLAIN_GRID: ScaleGrid = ScaleGrid { first: -0.5, step: 0.1, last: 15 };
    const PLAIN_LOSS: Loss = Loss::Absolute;
    const PLAIN_BOUND: u8 = u8::MAX;
    const WEIGHTED_BOUND: u8 = u8::MAX;
    const VARIANCE: f32 = 1.0;

    #[inline(always)]
    fn plain_weights<V: Simd>(x: &[V; GROUP]) -> [V; GROUP] {
        magnitudes(x)
    }

    #[inline(always)]
    fn write(
        x: &Groups<GROUPS, GROUP>,
        fits: &AffineFits<GROUPS>,
        coded: &CodedScales<GROUPS>,
        out: &mut [u8; BYTES],
    ) {
        let pairs = coded.scales.codes.iter().zip(&coded.offsets.codes);
        for (byte, (scale, offset)) in out[SCALES].iter_mut().zip(pairs) {
            *byte = scale | offset << 4;
        }
        write_f16(coded.scales.unit, &mut out[D..]);
        write_f16(coded.offsets.unit, &mut out[DMIN..]);
        let (scales, offsets) = group_scales(out);
        let mut codes = [[0; GROUP]; GROUPS];
        for (g, codes) in codes.iter_mut().enumerate() {
            *codes = affine::round(&x[g], scales[g], offsets[g], fits.steps(g), CODE_TOP);
        }
        pack::<2, 32>(codes.as_flattened(), 0, &mut out[CODES]);
    }
}
