//! Numbers stored as they are, one weight per block, little endian: F32, F16, BF16, F64 and the integers.
//!
//! F64 and the integers can only be read; they become the nearest f32.
//! Source: ggml's `ggml_fp32_to_fp16_row`, `ggml_fp32_to_bf16_row` and the type traits of the others.

use half::bf16;

use super::layout::to_f16;
use super::limits::PAST_F16;
use super::{BlockCodec, BlockType, Decode, Encode, Importance, Limits};
use crate::isa::per_isa;

pub(super) static F32: BlockType = plain(
    "F32",
    0,
    4,
    |bytes, out| decode(bytes, out, f32::from_le_bytes),
    Some(|_, row, _, out| encode(row, out, f32::to_le_bytes)),
);

pub(super) static F16: BlockType = BlockType {
    limits: Limits::plain(PAST_F16),
    ..plain("F16", 1, 2, decode_f16, Some(|_, row, _, out| encode(row, out, to_f16)))
};

pub(super) static BF16: BlockType = BlockType {
    limits: Limits::plain(PAST_BF16),
    ..plain(
        "BF16",
        30,
        2,
        |bytes, out| decode(bytes, out, |x| bf16::from_le_bytes(x).to_f32()),
        Some(|_, row, _, out| encode(row, out, |x| bf16::from_f32(x).to_le_bytes())),
    )
};

/// Halfway from the largest bf16 to where the next would be: from here on a number rounds to infinity.
const PAST_BF16: f32 = f32::from_bits(0x7f7f_8000);

pub(super) static F64: BlockType =
    plain("F64", 28, 8, |bytes, out| decode(bytes, out, |x| f64::from_le_bytes(x) as f32), None);

pub(super) static I8: BlockType =
    plain("I8", 24, 1, |bytes, out| decode(bytes, out, |x| i8::from_le_bytes(x).into()), None);

pub(super) static I16: BlockType =
    plain("I16", 25, 2, |bytes, out| decode(bytes, out, |x| i16::from_le_bytes(x).into()), None);

pub(super) static I32: BlockType =
    plain("I32", 26, 4, |bytes, out| decode(bytes, out, |x| i32::from_le_bytes(x) as f32), None);

pub(super) static I64: BlockType =
    plain("I64", 27, 8, |bytes, out| decode(bytes, out, |x| i64::from_le_bytes(x) as f32), None);

const fn plain(
    name: &'static str,
    id: u32,
    bytes: usize,
    decode: Decode,
    encode: Option<Encode>,
) -> BlockType {
    BlockType {
        name,
        id,
        elements: 1,
        bytes,
        quantized: false,
        decode,
        encode,
        importance: Importance::Ignored,
        codec: BlockCodec::Opaque,
        limits: Limits::ANY,
    }
}

#[inline(always)]
fn decode<const BYTES: usize>(bytes: &[u8], out: &mut [f32], number: impl Fn([u8; BYTES]) -> f32) {
    let (fields, _) = bytes.as_chunks();
    for (field, weight) in fields.iter().zip(out) {
        *weight = number(*field);
    }
}

per_isa! {
    fn decode_f16, decode_f16_on(bytes: &[u8], out: &mut [f32]) {
        decode(bytes, out, f16_to_f32);
    }
}

/// Converts as `half` does, with NaN quieted, but without branches or calls, so that loops over it become vector
/// instructions. `half` looks for the processor's instruction at every number.
#[inline(always)]
fn f16_to_f32(bytes: [u8; 2]) -> f32 {
    let field = u32::from(u16::from_le_bytes(bytes));
    let magnitude = field & 0x7fff;
    // The exponent's bias is 15 in the field and 127 in f32; the product is exact, for subnormal fields too.
    let finite = (f32::from_bits(magnitude << 13) * f32::from_bits((127 + 127 - 15) << 23)).to_bits();
    let special = magnitude << 13 | 0x7f80_0000 | u32::from(magnitude > 0x7c00) << 22;
    let bits = if magnitude < 0x7c00 { finite } else { special };
    f32::from_bits(bits | (field & 0x8000) << 16)
}

fn encode<const BYTES: usize>(row: &[f32], out: &mut [u8], field: impl Fn(f32) -> [u8; BYTES]) {
    let (fields, _) = out.as_chunks_mut();
    for (weight, bytes) in row.iter().zip(fields) {
        *bytes = field(*weight);
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::isa::Isa;

    fn decoded(ty: &BlockType, bytes: &[u8]) -> Vec<f32> {
        let mut out = vec![f32::NAN; bytes.len() / ty.bytes];
        (ty.decode)(bytes, &mut out);
        out
    }

    #[test]
    fn integers_and_doubles_become_the_nearest_f32() {
        assert_eq!(decoded(&I8, &[0x80, 0x7f, 0xff]), [-128.0, 127.0, -1.0]);
        assert_eq!(decoded(&I16, &[0x00, 0x80, 0x39, 0x30]), [-32768.0, 12345.0]);
        assert_eq!(decoded(&I32, &16_777_217_i32.to_le_bytes()), [16_777_216.0]);
        assert_eq!(decoded(&I64, &i64::MIN.to_le_bytes()), [-9_223_372_036_854_775_808.0]);
        let doubles = [0.1_f64.to_le_bytes(), (-1e300_f64).to_le_bytes()].concat();
        assert_eq!(decoded(&F64, &doubles), [0.1, f32::NEG_INFINITY]);
    }

    #[test]
    fn every_f16_field_is_read_on_every_instruction_set() {
        let fields: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        for isa in Isa::available() {
            let mut out = vec![0.0; 1 << 16];
            decode_f16_on(isa, &fields, &mut out);
            for (field, out) in (0..=u16::MAX).zip(out) {
                assert_eq!(out.to_bits(), f16::from_bits(field).to_f32().to_bits(), "{field:#x} {isa:?}");
            }
        }
    }

    /// The golden rows are finite, so that they do not cover NaN.
    #[test]
    fn bf16_quiets_nan() {
        let mut out = [0; 6];
        encode(&[f32::from_bits(0x7f80_0001), f32::from_bits(0xffa5_0000), f32::MAX], &mut out, |x| {
            bf16::from_f32(x).to_le_bytes()
        });
        assert_eq!(out, [0xc0, 0x7f, 0xe5, 0xff, 0x80, 0x7f]);
    }
}
