//! Q4_K: superblocks of 256 weights in 8 groups of 32, 6-bit scales and offsets, 4-bit codes (`block_q4_K` in
//! ggml-common.h).
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..16 | `d`, `dmin`, `scales` | see `six_bit_header` |
//! | 16..144 | `qs` | 4-bit codes: 32 bytes hold 64 weights, byte `j` weight `j` low, weight `j + 32` high |
//!
//! `weight = d * scale * code - dmin * offset`

use super::affine_superblock::{Coded, Fits, Groups, fit_plain, fit_weighted};
use super::codes::{pack, unpack};
use super::layout::{decode_blocks, integers};
use super::row::{encode_row, superblocks};
use super::six_bit_header::{self as header, GROUP, GROUPS};
use super::{BlockType, Importance};
use crate::lattice::{Fields, FieldsMut, Float, Lattice, Layout};
use crate::search::affine::{self, Grid, Loss};
use crate::search::weights::{magnitude_weights, twice_mean_square};

const ELEMENTS: usize = 256;
const BYTES: usize = 144;
const CODES: std::ops::Range<usize> = header::BYTES..BYTES;

const CODE_TOP: u8 = 15;
const LEVELS: [f32; 16] = integers(0);
const PLAIN_GRID: Grid = Grid { first: -1.0, step: 0.1, last: 20 };

pub(super) static TYPE: BlockType = BlockType {
    name: "Q4_K",
    id: 12,
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
    scales: 0..=63,
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

fn encode(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    encode_row(row, importance, out, superblocks, encode_plain, |x, importance, out| {
        let variance = twice_mean_square(x.as_flattened());
        let (fits, coded) = fit_weighted(x, importance, variance, CODE_TOP, header::TOP);
        // Not bounded, unlike without importance and in Q5_K: where few weights count, a fit can have a negative
        // scale, and ggml lets its code spill into the neighbouring bits.
        write_block(x, fits, &coded, out);
    });
}

fn encode_plain(x: &Groups<GROUPS, GROUP>, out: &mut [u8; BYTES]) {
    let (fits, coded) = fit_plain(x, header::TOP, |group| {
        affine::fit(group, &magnitude_weights(group), CODE_TOP, &PLAIN_GRID, Loss::Squared)
    });
    write_block(x, fits, &coded.bounded(header::TOP), out);
}

fn write_block(
    x: &Groups<GROUPS, GROUP>,
    fits: Fits<GROUPS, GROUP>,
    coded: &Coded<GROUPS>,
    out: &mut [u8; BYTES],
) {
    let header = header::write(coded, out);
    let mut codes = fits.codes;
    header.round(x, CODE_TOP, &mut codes);
    pack::<4, 32>(codes.as_flattened(), 0, &mut out[CODES]);
}
