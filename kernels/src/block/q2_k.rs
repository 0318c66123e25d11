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

use super::affine_superblock::{Coded, Fits, Groups, fit_plain, fit_weighted};
use super::codes::{pack, read_f16, unpack, write_f16};
use super::layout::{decode_blocks, integers};
use super::row::{encode_row, superblocks};
use super::{BlockType, Importance};
use crate::lattice::{Fields, FieldsMut, Float, Lattice, Layout};
use crate::search::affine::{self, Grid, Loss};
use crate::search::weights::mean_square;

const ELEMENTS: usize = 256;
const BYTES: usize = 84;
const GROUPS: usize = 16;
const GROUP: usize = 16;

const SCALES: std::ops::Range<usize> = 0..16;
const CODES: std::ops::Range<usize> = 16..80;
const D: usize = 80;
const DMIN: usize = 82;

/// The largest code, and the largest scale or offset.
const CODE_TOP: u8 = 3;
const TOP: u8 = 15;
const LEVELS: [f32; 4] = integers(0);
const PLAIN_GRID: Grid = Grid { first: -0.5, step: 0.1, last: 15 };

pub(super) static TYPE: BlockType = BlockType {
    name: "Q2_K",
    id: 10,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode,
    encode: Some(encode),
    importance: Importance::Optional,
};

pub(crate) static LATTICE: Lattice = Lattice {
    block: &TYPE,
    superblock: ELEMENTS,
    group: GROUP,
    levels: &LEVELS,
    scales: 0..=15,
    offsets: 0..=15,
    float: Float::F16,
    layout: Layout { read: read_fields, write: write_fields },
};

fn decode(bytes: &[u8], out: &mut [f32]) {
    decode_blocks(bytes, out, |block: &[u8; BYTES], out: &mut [f32; ELEMENTS]| {
        let codes = unpack::<2, 32, ELEMENTS>(&block[CODES]);
        let groups = out.as_chunks_mut::<GROUP>().0.iter_mut().zip(codes.as_chunks::<GROUP>().0);
        for ((out, codes), (scale, offset)) in groups.zip(group_scales(block)) {
            *out = codes.map(|code| scale * f32::from(code) - offset);
        }
    });
}

/// What each group's codes are multiplied by and what is then subtracted.
fn group_scales(block: &[u8; BYTES]) -> impl Iterator<Item = (f32, f32)> {
    let (d, dmin) = (read_f16(&block[D..]), read_f16(&block[DMIN..]));
    block[SCALES].iter().map(move |scale| (d * f32::from(scale & 15), dmin * f32::from(scale >> 4)))
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

fn encode(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    encode_row(row, importance, out, superblocks, encode_plain, |x, importance, out| {
        let variance = mean_square(x.as_flattened());
        let (fits, coded) = fit_weighted(x, importance, variance, CODE_TOP, TOP);
        write_block(x, fits, &coded, out);
    });
}

fn encode_plain(x: &Groups<GROUPS, GROUP>, out: &mut [u8; BYTES]) {
    let (fits, coded) = fit_plain(x, TOP, |group| {
        affine::fit(group, &group.map(f32::abs), CODE_TOP, &PLAIN_GRID, Loss::Absolute)
    });
    write_block(x, fits, &coded, out);
}

fn write_block(
    x: &Groups<GROUPS, GROUP>,
    fits: Fits<GROUPS, GROUP>,
    coded: &Coded<GROUPS>,
    out: &mut [u8; BYTES],
) {
    let pairs = coded.scales.codes.iter().zip(&coded.offsets.codes);
    for (byte, (scale, offset)) in out[SCALES].iter_mut().zip(pairs) {
        *byte = scale | offset << 4;
    }
    write_f16(coded.scales.scale, &mut out[D..]);
    write_f16(coded.offsets.scale, &mut out[DMIN..]);
    let mut codes = fits.codes;
    for ((x, codes), (scale, offset)) in x.iter().zip(&mut codes).zip(group_scales(out)) {
        affine::round(x, scale, offset, CODE_TOP, codes);
    }
    pack::<2, 32>(codes.as_flattened(), 0, &mut out[CODES]);
}
