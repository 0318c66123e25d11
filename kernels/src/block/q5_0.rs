//! Q5_0: 32 weights, one scale, 5-bit codes around zero (`block_q5_0` in ggml-common.h).
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..2 | `d` | f16 scale |
//! | 2..6 | `qh` | fifth bits, weight `j` in bit `j` of a little-endian u32 |
//! | 6..22 | `qs` | low 4 bits: byte `j` holds weight `j` low, weight `j + 16` high |
//!
//! `weight = d * (code - 16)`

use super::codes::{pack, read_f16, unpack, write_f16};
use super::layout::{decode_blocks, integers, inverse};
use super::row::{blocks, encode_row};
use super::{BlockType, Importance};
use crate::lattice::{Fields, FieldsMut, Float, Lattice, Layout};
use crate::search::rounding::truncate_to_byte;
use crate::search::weights::{importance_weights, mean_square};
use crate::search::{signed_extreme, symmetric};

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
        *out = unpack_codes(&block[2..]).map(|code| (i32::from(code) - ZERO) as f32 * d);
    });
}

fn read_fields(block: &[u8], fields: FieldsMut<'_>) {
    fields.d[0] = read_f16(block);
    fields.codes.copy_from_slice(&unpack_codes(&block[2..]));
}

fn write_fields(fields: Fields<'_>, block: &mut [u8]) {
    write_f16(fields.d[0], block);
    pack_codes(fields.codes, &mut block[2..]);
}

fn encode(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    let variance = mean_square(row);
    encode_row(row, importance, out, blocks, encode_plain, |x, importance, out| {
        let fit = symmetric::fit(x, &importance_weights(x, importance, variance), ZERO);
        write_block(fit.scale, &fit.codes, out);
    });
}

/// The weight of largest magnitude becomes code 0, the rest is rounded.
fn encode_plain(x: &[f32; ELEMENTS], out: &mut [u8; BYTES]) {
    let d = signed_extreme(x) / -(ZERO as f32);
    let inverse = inverse(d);
    let codes = x.map(|v| truncate_to_byte(v * inverse + 16.5).min(31));
    write_block(d, &codes, out);
}

fn write_block(d: f32, codes: &[u8; ELEMENTS], out: &mut [u8; BYTES]) {
    write_f16(d, out);
    pack_codes(codes, &mut out[2..]);
}

/// The fields `qh` and `qs` of 5-bit codes; Q5_1 has the same.
pub(super) fn pack_codes(codes: &[u8], out: &mut [u8]) {
    let (qh, qs) = out.split_at_mut(4);
    pack::<1, 1>(codes, 4, qh);
    pack::<4, 16>(codes, 0, qs);
}

/// The codes in the fields `qh` and `qs`.
pub(super) fn unpack_codes(bytes: &[u8]) -> [u8; ELEMENTS] {
    let (qh, qs) = bytes.split_at(4);
    let (high, low) = (unpack::<1, 1, ELEMENTS>(qh), unpack::<4, 16, ELEMENTS>(qs));
    std::array::from_fn(|i| low[i] | high[i] << 4)
}
