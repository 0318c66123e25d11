//! The 4-bit floats (E2M1: sign, two bits of exponent, one of mantissa) that MXFP4 and NVFP4 share.
//!
//! A byte holds two codes: with n bytes, byte j holds weight j in the low four bits and weight n + j in the high ones.

/// Twice the value of each code, which makes all of them integers. Code 8, which would be -0, counts as 0.
const DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// The distinct numbers of [`DOUBLED`] in ascending order.
pub(super) const LEVELS: [f32; 15] =
    [-12.0, -8.0, -6.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0];
/// The index of level 0.0 in [`LEVELS`].
const ZERO: u8 = 7;

/// Reads the codes in `bytes` `[n]` as indices into [`LEVELS`], `[2n]`. Code 8 reads as level 0.0.
pub(super) fn read_levels(bytes: &[u8], levels: &mut [u8]) {
    let level = |code: u8| if code < 8 { ZERO + code } else { ZERO - (code - 8) };
    let (low, high) = levels.split_at_mut(bytes.len());
    for ((byte, low), high) in bytes.iter().zip(low).zip(high) {
        (*low, *high) = (level(byte & 15), level(byte >> 4));
    }
}

/// Writes indices into [`LEVELS`], `[2n]`, as codes into `bytes` `[n]`.
pub(super) fn write_levels(levels: &[u8], bytes: &mut [u8]) {
    let code = |level: u8| if level < ZERO { 8 + (ZERO - level) } else { level - ZERO };
    let (low, high) = levels.split_at(bytes.len());
    for ((byte, &low), &high) in bytes.iter_mut().zip(low).zip(high) {
        *byte = code(low) | code(high) << 4;
    }
}

/// Decodes `codes` `[n]` to `weights` `[2n]`; `half_scale` is half of the block's scale, as the values are doubled.
pub(super) fn decode(codes: &[u8], half_scale: f32, weights: &mut [f32]) {
    let (low, high) = weights.split_at_mut(codes.len());
    for ((byte, low), high) in codes.iter().zip(low).zip(high) {
        *low = value(byte & 15, half_scale);
        *high = value(byte >> 4, half_scale);
    }
}

/// Encodes `weights` `[2n]` as the nearest codes, `[n]` bytes; `half_scale` is half of the block's scale.
pub(super) fn encode(weights: &[f32], half_scale: f32, codes: &mut [u8]) {
    let (low, high) = weights.split_at(codes.len());
    for ((byte, low), high) in codes.iter_mut().zip(low).zip(high) {
        *byte = nearest(*low, half_scale) | nearest(*high, half_scale) << 4;
    }
}

fn value(code: u8, half_scale: f32) -> f32 {
    f32::from(DOUBLED[usize::from(code & 15)]) * half_scale
}

/// Returns the nearest code, the lowest of equally near ones.
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
