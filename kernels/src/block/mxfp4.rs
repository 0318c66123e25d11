//! MXFP4: 32 weights in 17 bytes (4.25 bits per weight): 4-bit floats under a power of two.
//!
//! | field | bytes | meaning |
//! |---|---|---|
//! | e | 1 | exponent of the scale 2^(e - 127) (E8M0) |
//! | qs | 16 | E2M1 codes; byte j holds weight j (low bits) and weight 16 + j (high bits) |
//!
//! weight = 2^(e - 127) * value of the code, one of 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives.
//! Source: ggml's `block_mxfp4`; the format is the OCP Microscaling one.

use super::layout::{abs_max, decode_blocks};
use super::row::blocks_and_bytes;
use super::{BlockCodec, BlockType, Importance, Limits, fp4};
use crate::codec::{Codec, Fields, FieldsMut, Float, Layout};
use crate::lanes::in_lanes;

const ELEMENTS: usize = 32;
const BYTES: usize = 17;

pub(super) static TYPE: BlockType = BlockType {
    name: "MXFP4",
    id: 39,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode: |bytes, out| decode_blocks(bytes, out, decode_block),
    encode: Some(encode),
    importance: Importance::Ignored,
    codec: BlockCodec::Scalar(&CODEC),
    limits: Limits { overflowed, ..Limits::ANY },
};

pub(crate) static CODEC: Codec = Codec {
    block: &TYPE,
    superblock: ELEMENTS,
    group: ELEMENTS,
    levels: &fp4::LEVELS,
    scales: 1..=1,
    scale_step: 1,
    offsets: 0..=0,
    float: Float::E8M0,
    layout: Layout { read: read_fields, write: write_fields },
};

fn decode_block(block: &[u8; BYTES], weights: &mut [f32; ELEMENTS]) {
    let [exponent, codes @ ..] = block;
    fp4::decode(codes, half_scale(*exponent), weights);
}

/// With scales above 2^125 the larger codes are infinite.
fn overflowed(blocks: &[u8]) -> Option<usize> {
    const LARGE: u8 = 127 + 125;
    let infinite = |block: &[u8; BYTES]| {
        let mut weights = [0.0; ELEMENTS];
        decode_block(block, &mut weights);
        !weights.iter().all(|w| w.is_finite())
    };
    blocks.as_chunks::<BYTES>().0.iter().position(|block| block[0] > LARGE && infinite(block))
}

fn read_fields(block: &[u8], fields: FieldsMut<'_>) {
    fields.d[0] = half_scale(block[0]);
    fp4::read_levels(&block[1..], fields.codes);
}

fn write_fields(fields: Fields<'_>, block: &mut [u8]) {
    block[0] = exponent(fields.d[0]);
    fp4::write_levels(fields.codes, &mut block[1..]);
}

in_lanes! {
    fn encode<V>(row: &[f32], _importance: Option<&[f32]>, out: &mut [u8]) {
        for (x, out) in blocks_and_bytes(row, out) {
            encode_block(x, out);
        }
    }
}

#[inline(always)]
fn encode_block(weights: &[f32; ELEMENTS], block: &mut [u8; BYTES]) {
    let [exponent, codes @ ..] = block;
    let max = abs_max(weights);
    // The largest weight falls among the codes of exponent 2. For weights below 2^-125 the byte wraps around, as in
    // ggml.
    *exponent = if max > 0.0 { (floor_log2(max) - 2 + 127) as u8 } else { 0 };
    fp4::encode(weights, half_scale(*exponent), codes);
}

/// Returns 2^(exponent - 128), which is subnormal for the two lowest exponents.
fn half_scale(exponent: u8) -> f32 {
    let exponent = u32::from(exponent);
    f32::from_bits(if exponent < 2 { 0x0020_0000 << exponent } else { (exponent - 1) << 23 })
}

/// Returns the exponent whose [`half_scale`] is `half`.
fn exponent(half: f32) -> u8 {
    let bits = half.to_bits() >> 21;
    if bits < 4 { (bits >> 1) as u8 } else { (bits >> 2) as u8 + 1 }
}

/// Returns `floor(log2f(x))` of a positive finite x. The logarithm is rounded to f32 first, so that just below a
/// power of two it is rounded up to an integer. It is spelled out because the `log2f` of C libraries differs between
/// machines.
fn floor_log2(x: f32) -> i32 {
    const SUBNORMAL_SHIFT: i32 = 24;
    let (bits, shift) = if x.is_normal() {
        (x.to_bits(), 0)
    } else {
        ((x * (1 << SUBNORMAL_SHIFT) as f32).to_bits(), SUBNORMAL_SHIFT)
    };
    let next = (bits >> 23) as i32 - 126 - shift;
    // With x = 2^next * (1 - gap) the tangent at gap = 0 bounds the logarithm from above, closely where it matters.
    let gap = f64::from(0x80_0000 - (bits & 0x7f_ffff)) / f64::from(1 << 24);
    let logarithm = f64::from(next) - gap * std::f64::consts::LOG2_E;
    if logarithm as f32 == next as f32 { next } else { next - 1 }
}

#[cfg(test)]
mod tests {
    use super::{exponent, floor_log2, half_scale};

    #[test]
    fn every_exponent_survives() {
        for e in 0..=255 {
            assert_eq!(exponent(half_scale(e)), e);
        }
    }

    #[test]
    fn logarithm_of_powers_of_two() {
        for exponent in -149..128 {
            assert_eq!(floor_log2(2.0_f64.powi(exponent) as f32), exponent);
        }
    }

    #[test]
    fn logarithm_rounds_up_just_below_a_power_of_two() {
        let below = |power: i32, steps: u32| f32::from_bits((2.0_f64.powi(power) as f32).to_bits() - steps);
        // Pairs of a power and the last step below it whose logarithm still rounds to it, computed by hand:
        // steps * 2^-24 * log2(e) must stay under half the spacing of f32 beside the power.
        for (power, last) in
            [(1, 0), (2, 0), (3, 1), (16, 5), (17, 11), (-1, 0), (-2, 1), (-16, 11), (-100, 44)]
        {
            assert_eq!(floor_log2(below(power, last)), power, "2^{power} less {last} steps");
            assert_eq!(floor_log2(below(power, last + 1)), power - 1, "2^{power} less {} steps", last + 1);
        }
        assert_eq!(floor_log2(below(0, 1)), -1);
        assert_eq!(floor_log2(f32::MAX), 128);
    }
}
