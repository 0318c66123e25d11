//! The walk over the blocks of a row, the half-precision numbers inside a block, and other helpers that most types
//! share.

use half::f16;

/// The bits of an f32 without its sign.
const MAGNITUDE: u32 = 0x7fff_ffff;

/// Applies `decode` to every whole block of `bytes` and the weights it stands for in `out`.
#[inline(always)]
pub(super) fn decode_blocks<const BYTES: usize, const ELEMENTS: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; BYTES], &mut [f32; ELEMENTS]),
) {
    let (blocks, _) = bytes.as_chunks();
    let (weights, _) = out.as_chunks_mut();
    for (block, weights) in blocks.iter().zip(weights) {
        decode(block, weights);
    }
}

/// Returns the number that the two bytes of a half-precision field hold.
#[inline(always)]
pub(super) fn from_f16(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}

/// Returns the half-precision field nearest to `x` (ties to even, infinity past the range), as ggml writes it.
#[inline(always)]
pub(super) fn to_f16(x: f32) -> [u8; 2] {
    // ggml drops the payload of a NaN, while `half` keeps it.
    let x = if x.is_nan() { f32::NAN.copysign(x) } else { x };
    f16::from_f32(x).to_le_bytes()
}

/// Returns the largest magnitude among `weights`.
#[inline(always)]
pub(super) fn abs_max(weights: &[f32]) -> f32 {
    let mut most = 0;
    for weight in weights {
        // Magnitudes have the same order as integers, whose maxima the compiler may reorder.
        most = most.max(weight.to_bits() & MAGNITUDE);
    }
    f32::from_bits(most)
}

/// Returns the element of largest magnitude of a block, with its sign: what [`crate::block::fit::signed_extreme`]
/// returns, but fast on a single block.
#[inline(always)]
pub(super) fn signed_extreme(weights: &[f32]) -> f32 {
    let most = abs_max(weights);
    let (mut above, mut below) = (false, false);
    for &weight in weights {
        above |= weight == most;
        below |= weight == -most;
    }
    match (above, below) {
        (true, true) => crate::block::fit::signed_extreme(weights),
        (false, true) => -most,
        _ => most,
    }
}

/// Returns `1 / scale`, or 0 for a scale of 0. The result is infinite for a scale so small that its inverse is past the
/// range of f32.
#[inline(always)]
pub(super) fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// Returns the `N` integers from `first` up, as levels.
pub(super) const fn integers<const N: usize>(first: i32) -> [f32; N] {
    let mut levels = [0.0; N];
    let mut i = 0;
    while i < N {
        levels[i] = (first + i as i32) as f32;
        i += 1;
    }
    levels
}

/// Returns a table of integers as levels.
pub(super) const fn floats<const N: usize>(table: [i8; N]) -> [f32; N] {
    let mut levels = [0.0; N];
    let mut i = 0;
    while i < N {
        levels[i] = table[i] as f32;
        i += 1;
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::{from_f16, to_f16};

    #[test]
    fn f16_fields_round_to_even_and_overflow_to_infinity() {
        let bits = |x| u16::from_le_bytes(to_f16(x));
        assert_eq!(bits(1.0 + f32::powi(2.0, -11)), 0x3c00);
        assert_eq!(bits(1.0 + 3.0 * f32::powi(2.0, -11)), 0x3c02);
        assert_eq!(bits(65519.0), 0x7bff);
        assert_eq!(bits(65520.0), 0x7c00);
        assert_eq!(bits(-1e38), 0xfc00);
        assert_eq!(bits(f32::powi(2.0, -25)), 0x0000);
        assert_eq!(bits(-1.5 * f32::powi(2.0, -25)), 0x8001);
        assert_eq!(bits(f32::from_bits(0x7f80_0001)), 0x7e00);
        assert_eq!(bits(f32::from_bits(0xffc1_2345)), 0xfe00);
        assert_eq!(from_f16([0x01, 0x00]), f32::powi(2.0, -24));
    }
}
