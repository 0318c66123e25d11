//! The 8-bit floats of checkpoints: `F8_E4M3` (the "fn" variant, which has no infinities) and `F8_E5M2`.
//!
//! GGUF has no type for them, so that readers of checkpoints decode them to f32 first.
//!
//! Source of the formats: "FP8 Formats for Deep Learning", arXiv 2209.05433, section 3.

/// Decodes `F8_E4M3`: 1 sign bit, 4 exponent bits (bias 7), 3 mantissa bits. The code with all bits set below the
/// sign is NaN.
pub fn decode_e4m3(code: u8) -> f32 {
    if code & 0x7f == 0x7f {
        return f32::NAN;
    }
    decode(code, 3, 7)
}

/// Decodes `F8_E5M2`: 1 sign bit, 5 exponent bits (bias 15), 2 mantissa bits, with the infinities and NaNs of IEEE 754.
pub fn decode_e5m2(code: u8) -> f32 {
    match code & 0x7f {
        0x7c => sign(code) * f32::INFINITY,
        0x7d..=0x7f => f32::NAN,
        _ => decode(code, 2, 15),
    }
}

fn sign(code: u8) -> f32 {
    if code & 0x80 == 0 { 1.0 } else { -1.0 }
}

/// Returns `sign * 2^(exponent - bias) * 1.mantissa`, or the subnormal number where the exponent field is zero. Every
/// value is exact in f32.
fn decode(code: u8, mantissa_bits: i32, bias: i32) -> f32 {
    let scale = f32::from(1u8 << mantissa_bits);
    let mantissa = f32::from(code & ((1 << mantissa_bits) - 1)) / scale;
    let exponent = i32::from((code & 0x7f) >> mantissa_bits);
    let magnitude = if exponent == 0 {
        mantissa * 2f32.powi(1 - bias)
    } else {
        (1.0 + mantissa) * 2f32.powi(exponent - bias)
    };
    sign(code) * magnitude
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e4m3_landmarks() {
        assert_eq!(decode_e4m3(0x00), 0.0);
        assert_eq!(decode_e4m3(0x01), 0.001953125);
        assert_eq!(decode_e4m3(0x08), 0.015625);
        assert_eq!(decode_e4m3(0x38), 1.0);
        assert_eq!(decode_e4m3(0x7e), 448.0);
        assert_eq!(decode_e4m3(0xfe), -448.0);
        assert!(decode_e4m3(0x7f).is_nan() && decode_e4m3(0xff).is_nan());
    }

    #[test]
    fn e5m2_is_the_upper_byte_of_f16() {
        for code in 0..=255u8 {
            let expected = half::f16::from_bits(u16::from(code) << 8).to_f32();
            let got = decode_e5m2(code);
            assert!(
                got == expected || got.is_nan() && expected.is_nan(),
                "{code:#04x}: {got} for {expected}"
            );
        }
    }
}
