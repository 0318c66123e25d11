//! Q3_K: superblocks of 256 weights in 16 groups of 16, 6-bit scales, 3-bit codes around zero (`block_q3_K` in
//! ggml-common.h).
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..32 | `hmask` | third bits: bit `k` of byte `j` is of weight `j + 32·k` |
//! | 32..96 | `qs` | low 2 bits: 32 bytes hold 128 weights, byte `j` the weights `j`, `j + 32`, `j + 64`, `j + 96` |
//! | 96..104 | `scales` | low 4 bits: byte `j` holds scale `j` low, scale `j + 8` high |
//! | 104..108 | | high 2 bits: byte `j` holds those of the scales `j`, `j + 4`, `j + 8`, `j + 12` |
//! | 108..110 | `d` | f16 scale of the scales |
//!
//! `weight = d * (scale - 32) * (code - 4)`

use super::codes::{pack, read_f16, unpack, write_f16};
use super::layout::{decode_blocks, integers};
use super::row::{encode_row, superblocks};
use super::{BlockType, Importance};
use crate::lattice::{Fields, FieldsMut, Float, Lattice, Layout};
use crate::search::rounding::nearest_int;
use crate::search::weights::{importance_weights, total, twice_mean_square};
use crate::search::{Fit, descent, signed_extreme, symmetric};

const ELEMENTS: usize = 256;
const BYTES: usize = 110;
const GROUPS: usize = 16;
const GROUP: usize = 16;

const HIGH_BITS: std::ops::Range<usize> = 0..32;
const CODES: std::ops::Range<usize> = 32..96;
const SCALES_LOW: std::ops::Range<usize> = 96..104;
const SCALES_HIGH: std::ops::Range<usize> = 104..108;
const D: usize = 108;

/// The code of weight zero, and the scale code of zero.
const ZERO: i32 = 4;
const SCALE_ZERO: i32 = 32;
const LEVELS: [f32; 8] = integers(-ZERO);

pub(super) static TYPE: BlockType = BlockType {
    name: "Q3_K",
    id: 11,
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
    scales: -32..=31,
    offsets: 0..=0,
    float: Float::F16,
    layout: Layout { read: read_fields, write: write_fields },
};

fn decode(bytes: &[u8], out: &mut [f32]) {
    decode_blocks(bytes, out, |block: &[u8; BYTES], out: &mut [f32; ELEMENTS]| {
        let codes = unpack_codes(block);
        let scales = group_scales(block);
        for (i, out) in out.iter_mut().enumerate() {
            *out = scales[i / GROUP] * (i32::from(codes[i]) - ZERO) as f32;
        }
    });
}

fn unpack_codes(block: &[u8]) -> [u8; ELEMENTS] {
    let high = unpack::<1, 32, ELEMENTS>(&block[HIGH_BITS]);
    let low = unpack::<2, 32, ELEMENTS>(&block[CODES]);
    std::array::from_fn(|i| low[i] | high[i] << 2)
}

/// What each group's codes are multiplied by.
fn group_scales(block: &[u8]) -> [f32; GROUPS] {
    let d = read_f16(&block[D..]);
    scale_multiples(block).map(|multiple| d * f32::from(multiple))
}

/// The scales as multiples of `d`.
fn scale_multiples(block: &[u8]) -> [i16; GROUPS] {
    let low = unpack::<4, 8, GROUPS>(&block[SCALES_LOW]);
    let high = unpack::<2, 4, GROUPS>(&block[SCALES_HIGH]);
    std::array::from_fn(|g| i16::from(low[g] | high[g] << 4) - SCALE_ZERO as i16)
}

fn read_fields(block: &[u8], fields: FieldsMut<'_>) {
    fields.d[0] = read_f16(&block[D..]);
    fields.scales.copy_from_slice(&scale_multiples(block));
    fields.codes.copy_from_slice(&unpack_codes(block));
}

fn write_fields(fields: Fields<'_>, block: &mut [u8]) {
    write_f16(fields.d[0], &mut block[D..]);
    let scale_codes: [u8; GROUPS] = std::array::from_fn(|g| (fields.scales[g] + SCALE_ZERO as i16) as u8);
    pack_scales(&scale_codes, block);
    pack_codes(fields.codes, block);
}

fn pack_scales(codes: &[u8; GROUPS], block: &mut [u8]) {
    pack::<4, 8>(codes, 0, &mut block[SCALES_LOW]);
    pack::<2, 4>(codes, 4, &mut block[SCALES_HIGH]);
}

fn pack_codes(codes: &[u8], block: &mut [u8]) {
    pack::<2, 32>(codes, 0, &mut block[CODES]);
    pack::<1, 32>(codes, 2, &mut block[HIGH_BITS]);
}

fn encode(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    encode_row(row, importance, out, superblocks, encode_plain, encode_weighted);
}

type Superblock = [[f32; GROUP]; GROUPS];

fn encode_plain(x: &Superblock, out: &mut [u8; BYTES]) {
    let groups = x.each_ref().map(|group| descent::fit(group, ZERO));
    let scales = by_extreme(&groups.each_ref().map(|group| group.scale));
    write_block(x, &groups, &scales, out);
}

fn encode_weighted(x: &Superblock, importance: &Superblock, out: &mut [u8; BYTES]) {
    let variance = twice_mean_square(x.as_flattened());
    let weights: Superblock = std::array::from_fn(|g| importance_weights(&x[g], &importance[g], variance));
    let groups = std::array::from_fn(|g| symmetric::fit(&x[g], &weights[g], ZERO));
    let totals = weights.each_ref().map(|group| total(group));
    let scales = symmetric::fit(&groups.each_ref().map(|group| group.scale), &totals, SCALE_ZERO);
    write_block(x, &groups, &scales, out);
}

/// Scale codes of which the extreme one is 0; all 0 when all scales are zero.
fn by_extreme(scales: &[f32; GROUPS]) -> Fit<GROUPS> {
    let extreme = signed_extreme(scales);
    if extreme == 0.0 {
        return Fit::ZERO;
    }
    let inverse = -SCALE_ZERO as f32 / extreme;
    let code = |scale: f32| nearest_int(inverse * scale).clamp(-SCALE_ZERO, SCALE_ZERO - 1);
    Fit { scale: 1.0 / inverse, codes: scales.map(|scale| (code(scale) + SCALE_ZERO) as u8) }
}

/// Stores the scales and rounds the weights once more, with the scales as stored; a group of scale 0 keeps the codes
/// of its fit.
fn write_block(x: &Superblock, groups: &[Fit<GROUP>; GROUPS], scales: &Fit<GROUPS>, out: &mut [u8; BYTES]) {
    write_f16(scales.scale, &mut out[D..]);
    pack_scales(&scales.codes, out);
    let mut codes = groups.each_ref().map(|group| group.codes);
    for ((x, codes), scale) in x.iter().zip(&mut codes).zip(group_scales(out)) {
        symmetric::round(x, scale, ZERO, codes);
    }
    pack_codes(codes.as_flattened(), out);
}
