//! The 4-bit floats (E2M1: sign, two bits of exponent, one of mantissa) that MXFP4 and NVFP4 share.
//!
//! Codes lie two to a byte: with n bytes, byte j holds weight j in the low four bits and weight n + j in the high ones.

/// Twice the value of each code, so that all are whole. Code 8, which would be -0, counts as 0.
const DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// The weights `[2n]` of `codes` `[n]`, where `half_scale` is half the value of a 1.
pub(super) fn decode(codes: &[u8], half_scale: f32, weights: &mut [f32]) {
    let (low, high) = weights.split_at_mut(codes.len());
    for ((byte, low), high) in codes.iter().zip(low).zip(high) {
        *low = value(byte & 15, half_scale);
        *high = value(byte >> 4, half_scale);
    }
}

/// The codes `[n]` nearest to `weights` `[2n]`, where `half_scale` is half the value of a 1.
pub(super) fn encode(weights: &[f32], half_scale: f32, codes: &mut [u8]) {
    let (low, high) = weights.split_at(codes.len());
    for ((byte, low), high) in codes.iter_mut().zip(low).zip(high) {
        *byte = nearest(*low, half_scale) | nearest(*high, half_scale) << 4;
    }
}

fn value(code: u8, half_scale: f32) -> f32 {
    f32::from(DOUBLED[usize::from(code & 15)]) * half_scale
}

/// The nearest code, the lowest of equally near ones.
fn nearest(weight: f32, half_scale: f32) -> u8 {
    let error = |code| (value(code, half_scale) - weight).abs();
    let mut best = (0, error(0));
    for code in 1..16 {
        let error = error(code);
        if error < best.1 {
            best = (code, error);
        }
    }
    best.0
}
