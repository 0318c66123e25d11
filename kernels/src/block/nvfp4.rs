//! NVFP4: 64 weights in 36 bytes (4.5 bits per weight): 4-bit floats under an 8-bit float for every 16.
//!
//! | field | bytes | meaning |
//! |---|---|---|
//! | d | 4 | scales of the four groups of 16 weights, UE4M3: exponent of 4 bits (bias 7), mantissa of 3, no sign |
//! | qs | 32 | E2M1 codes, 8 bytes per group; byte j holds weights j (low bits) and 8 + j (high bits) of it |
//!
//! weight = scale * value of the code, one of 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives. The format's further
//! scale per tensor is outside the block. Source: ggml's `block_nvfp4`.

use super::layout::{abs_max, decode_blocks};
use super::row::blocks_and_bytes;
use super::{BlockCodec, BlockType, Importance, Limits, fp4};
use crate::codec::{Codec, Fields, FieldsMut, Float, Layout};
use crate::isa::Isa;

const ELEMENTS: usize = 64;
const BYTES: usize = 36;
const GROUPS: usize = 4;
const GROUP: usize = 16;
/// The largest E2M1 value.
const LARGEST_CODE: f32 = 6.0;
/// The UE4M3 number of the largest scale, 448; the next number would be NaN.
const LARGEST_SCALE: u8 = 0x7e;
/// Halfway from the largest scale to where the next would be: from here on weights lie past the range.
const PAST_SCALE: f32 = 464.0;
/// The UE4M3 number of 256, the first one with the largest exponent.
const LARGEST_EXPONENT: u32 = 0x78;
/// 2^-6, the smallest normal UE4M3 number.
const SMALLEST_NORMAL: f32 = 1.0 / 64.0;

pub(super) static TYPE: BlockType = BlockType {
    name: "NVFP4",
    id: 40,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode: |bytes, out| decode_blocks(bytes, out, decode_block),
    encode: Some(encode),
    importance: Importance::Ignored,
    codec: BlockCodec::Scalar(&CODEC),
    limits: Limits::plain(LARGEST_CODE * PAST_SCALE),
};

pub(crate) static CODEC: Codec = Codec {
    block: &TYPE,
    superblock: GROUP,
    group: GROUP,
    levels: &fp4::LEVELS,
    scales: 1..=1,
    scale_step: 1,
    offsets: 0..=0,
    float: Float::Ue4m3,
    layout: Layout { read: read_fields, write: write_fields },
};

fn decode_block(block: &[u8; BYTES], weights: &mut [f32; ELEMENTS]) {
    let (scales, codes) = block.split_at(GROUPS);
    let groups = codes.chunks(8).zip(weights.chunks_mut(16));
    for (scale, (codes, weights)) in scales.iter().zip(groups) {
        fp4::decode(codes, half_scale(*scale), weights);
    }
}

/// Reads a block's fields. Bits without a meaning are lost: the top bit of a scale, a scale of NaN, and codes of -0.
fn read_fields(block: &[u8], fields: FieldsMut<'_>) {
    let (scales, codes) = block.split_at(GROUPS);
    for (d, &scale) in fields.d.iter_mut().zip(scales) {
        *d = half_scale(scale);
    }
    for (levels, codes) in fields.codes.chunks_mut(GROUP).zip(codes.chunks(GROUP / 2)) {
        fp4::read_levels(codes, levels);
    }
}

fn write_fields(fields: Fields<'_>, block: &mut [u8]) {
    let (scales, codes) = block.split_at_mut(GROUPS);
    for (scale, &d) in scales.iter_mut().zip(fields.d) {
        *scale = number(d);
    }
    for (levels, codes) in fields.codes.chunks(GROUP).zip(codes.chunks_mut(GROUP / 2)) {
        fp4::write_levels(levels, codes);
    }
}

/// Encodes a row. It is compiled once, for the target's own instructions, because wider vectors take twice the time
/// (218 against 98 million weights per second by AVX-512).
fn encode(_: Isa, row: &[f32], _importance: Option<&[f32]>, out: &mut [u8]) {
    for (x, out) in blocks_and_bytes(row, out) {
        encode_block(x, out);
    }
}

fn encode_block(weights: &[f32; ELEMENTS], block: &mut [u8; BYTES]) {
    let (scales, codes) = block.split_at_mut(GROUPS);
    let groups = codes.chunks_mut(8).zip(weights.chunks(16));
    for (scale, (codes, weights)) in scales.iter_mut().zip(groups) {
        *scale = to_ue4m3(abs_max(weights) / LARGEST_CODE);
        fp4::encode(weights, half_scale(*scale), codes);
    }
}

/// Returns half the value of a UE4M3 number. NaN (0x7f) counts as 0, and the top bit is no part of the number.
fn half_scale(scale: u8) -> f32 {
    let number = u32::from(scale & 0x7f);
    match number {
        _ if scale == 0x7f => 0.0,
        // Subnormal numbers are multiples of 2^-9.
        0..8 => number as f32 / 1024.0,
        _ => f32::from_bits((number << 20) + ((127 - 8) << 23)),
    }
}

/// Returns the UE4M3 number whose [`half_scale`] is `half`.
fn number(half: f32) -> u8 {
    if half < SMALLEST_NORMAL / 2.0 {
        (half * 1024.0) as u8
    } else {
        ((half.to_bits() >> 20) - ((127 - 8) << 3)) as u8
    }
}

/// Returns the UE4M3 number nearest to `x`, halves up, as ggml rounds: a subnormal number never becomes a normal one,
/// and numbers that round to 256 or more always become the largest.
fn to_ue4m3(x: f32) -> u8 {
    if x < SMALLEST_NORMAL {
        return ((x * 512.0 + 0.5) as u8).min(7);
    }
    // The three highest mantissa bits stay; rounding by the fourth carries into the exponent where it must.
    let number = (((x.to_bits() >> 19) + 1) >> 1) - ((127 - 7) << 3);
    if number < LARGEST_EXPONENT { number as u8 } else { LARGEST_SCALE }
}

#[cfg(test)]
mod tests {
    use super::{half_scale, number, to_ue4m3};

    #[test]
    fn every_scale_survives() {
        for scale in 0..=0x7e {
            assert_eq!(number(half_scale(scale)), scale);
        }
    }

    #[test]
    fn scales_that_are_representable_survive() {
        for scale in 0..0x78 {
            assert_eq!(to_ue4m3(2.0 * half_scale(scale)), scale);
        }
        assert_eq!(2.0 * half_scale(0x7e), 448.0);
        assert_eq!(half_scale(0x7f), 0.0);
        assert_eq!(half_scale(0x80), 0.0);
    }

    #[test]
    fn scales_round_as_ggml_rounds_them() {
        assert_eq!(to_ue4m3(0.0), 0);
        // This is 2^-10, half of the smallest number.
        assert_eq!(to_ue4m3(1.0 / 1024.0), 1);
        assert_eq!(to_ue4m3(0.99 / 1024.0), 0);
        assert_eq!(to_ue4m3(7.9 / 512.0), 7);
        assert_eq!(to_ue4m3(1.0625), 0x39);
        assert_eq!(to_ue4m3(1.0624), 0x38);
        assert_eq!(to_ue4m3(1.99), 0x40);
        assert_eq!(to_ue4m3(247.9), 0x77);
        for large in [248.0, 256.0, 300.0, 1e30] {
            assert_eq!(to_ue4m3(large), 0x7e);
        }
    }
}
