//! IQ4_NL: 32 weights, one scale, 4-bit codes into a table of values that are denser around zero (`block_iq4_nl` in
//! ggml-common.h).
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..2 | `d` | f16 scale |
//! | 2..18 | `qs` | 4-bit codes: byte `j` holds weight `j` low, weight `j + 16` high |
//!
//! `weight = d * VALUES[code]`

use super::codes::{pack, read_f16, unpack, write_f16};
use super::layout::{decode_blocks, floats, inverse};
use super::row::{blocks, encode_row};
use super::{BlockType, Importance};
use crate::lattice::{Fields, FieldsMut, Float, Lattice, Layout};
use crate::search::table::{fit_scale, nearest};
use crate::search::weights::{importance_weights, squares, sum_of_squares};

const ELEMENTS: usize = 32;
const BYTES: usize = 18;

/// What the codes stand for (`kvalues_iq4nl`); IQ4_XS has the same.
pub(super) const VALUES: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
pub(super) const LEVELS: [f32; 16] = floats(VALUES);

pub(super) static TYPE: BlockType = BlockType {
    name: "IQ4_NL",
    id: 20,
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
    group: ELEMENTS,
    levels: &LEVELS,
    scales: 1..=1,
    offsets: 0..=0,
    float: Float::F16,
    layout: Layout { read: read_fields, write: write_fields },
};

fn decode(bytes: &[u8], out: &mut [f32]) {
    decode_blocks(bytes, out, |block: &[u8; BYTES], out: &mut [f32; ELEMENTS]| {
        let d = read_f16(block);
        *out = unpack::<4, 16, ELEMENTS>(&block[2..]).map(|code| d * f32::from(VALUES[usize::from(code)]));
    });
}

fn read_fields(block: &[u8], fields: FieldsMut<'_>) {
    fields.d[0] = read_f16(block);
    fields.codes.copy_from_slice(&unpack::<4, 16, ELEMENTS>(&block[2..]));
}

fn write_fields(fields: Fields<'_>, block: &mut [u8]) {
    write_f16(fields.d[0], block);
    pack::<4, 16>(fields.codes, 0, &mut block[2..]);
}

fn encode(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    let plain = |x: &_, out: &mut _| write_block(x, &squares(x), out);
    encode_row(row, importance, out, blocks, plain, |x, importance, out| {
        let variance = sum_of_squares(x) * (2.0 / ELEMENTS as f32);
        write_block(x, &importance_weights(x, importance, variance), out);
    });
}

fn write_block(x: &[f32; ELEMENTS], weights: &[f32; ELEMENTS], out: &mut [u8; BYTES]) {
    let scale = fit_scale(x, weights, &VALUES);
    write_f16(scale, out);
    pack::<4, 16>(&nearest_codes(x, scale), 0, &mut out[2..]);
}

/// The codes whose values are nearest under `scale`.
pub(super) fn nearest_codes(x: &[f32; 32], scale: f32) -> [u8; 32] {
    let inverse = inverse(scale);
    x.map(|v| nearest(&VALUES, inverse * v) as u8)
}
