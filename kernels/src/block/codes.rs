//! The fields of the legacy types and k-quants: narrow codes in bytes, and f16 scales at an offset.
//!
//! Packing works on words of eight codes where runs allow it: byte by byte the compiler inserts each byte's eight
//! codes one after the other. Words gave Q3_K a fifth, Q6_K 11 %, Q5_0 33 %, Q5_1 27 %. Unpacking by words took 40 %
//! from Q5_0: not taken.

use super::layout::{from_f16, to_f16};

/// Packs `BITS` bits of each code, from bit `shift` up.
///
/// Codes come in runs. A run fills `RUN` bytes: byte `b` holds, from its low bits up, the codes `b`, `b + RUN`,
/// `b + 2·RUN`, ... A `RUN` of 1 is plain order, first code lowest. All codes, high bits and narrow scales of the
/// legacy types and k-quants are laid out in this way, with one run length or another, except the 6-bit scales of
/// Q4_K and Q5_K.
///
/// `codes` `[n]`, `out` `[n * BITS / 8]`.
#[inline(always)]
pub(super) fn pack<const BITS: usize, const RUN: usize>(codes: &[u8], shift: u32, out: &mut [u8]) {
    if RUN.is_multiple_of(WORD) {
        return pack_words::<BITS, RUN>(codes, shift, out);
    }
    let mask = (1u8 << BITS) - 1;
    for (codes, run) in codes.chunks_exact(RUN * (8 / BITS)).zip(out.chunks_exact_mut(RUN)) {
        run.fill(0);
        for (plane, codes) in codes.chunks_exact(RUN).enumerate() {
            for (byte, code) in run.iter_mut().zip(codes) {
                *byte |= ((code >> shift) & mask) << (BITS * plane);
            }
        }
    }
}

/// The number of bytes that are shifted together.
const WORD: usize = 8;

/// Packs as [`pack`] does, for runs of whole words. No bit crosses a byte, so that eight codes can be shifted as one
/// number.
#[inline(always)]
fn pack_words<const BITS: usize, const RUN: usize>(codes: &[u8], shift: u32, out: &mut [u8]) {
    let mask = u64::from_ne_bytes([(1 << BITS) - 1; WORD]);
    let (codes, out) = (codes.as_chunks::<WORD>().0, out.as_chunks_mut::<WORD>().0);
    let (words, planes) = (RUN / WORD, 8 / BITS);
    for (codes, run) in codes.chunks_exact(words * planes).zip(out.chunks_exact_mut(words)) {
        for (w, out) in run.iter_mut().enumerate() {
            let mut word = 0;
            for plane in 0..planes {
                let codes = u64::from_le_bytes(codes[plane * words + w]);
                word |= ((codes >> shift) & mask) << (BITS * plane);
            }
            *out = word.to_le_bytes();
        }
    }
}

/// Returns the codes that [`pack`] packed: `bytes` is `[n * BITS / 8]`.
#[inline(always)]
pub(super) fn unpack<const BITS: usize, const RUN: usize, const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mask = (1u8 << BITS) - 1;
    let mut codes = [0; N];
    for (codes, run) in codes.chunks_exact_mut(RUN * (8 / BITS)).zip(bytes.chunks_exact(RUN)) {
        for (plane, codes) in codes.chunks_exact_mut(RUN).enumerate() {
            for (code, byte) in codes.iter_mut().zip(run) {
                *code = (byte >> (BITS * plane)) & mask;
            }
        }
    }
    codes
}

/// Returns the f16 at the start of `bytes`, as f32.
#[inline(always)]
pub(super) fn read_f16(bytes: &[u8]) -> f32 {
    from_f16([bytes[0], bytes[1]])
}

/// Stores the f16 nearest to `value`, ties to even, at the start of `bytes`.
#[inline(always)]
pub(super) fn write_f16(value: f32, bytes: &mut [u8]) {
    bytes[..2].copy_from_slice(&to_f16(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_lie_in_planes() {
        let codes: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
        let mut bytes = [0xff; 4];
        pack::<4, 4>(&codes, 0, &mut bytes);
        assert_eq!(bytes, [0x51, 0x62, 0x73, 0x84]);
        pack::<4, 1>(&codes, 0, &mut bytes);
        assert_eq!(bytes, [0x21, 0x43, 0x65, 0x87]);
        pack::<1, 1>(&codes, 0, &mut bytes[..1]);
        assert_eq!(bytes[0], 0b0101_0101);
        pack::<2, 1>(&codes, 0, &mut bytes[..2]);
        assert_eq!(bytes[..2], [0b00_11_10_01, 0b00_11_10_01]);
    }

    #[test]
    fn unpacking_undoes_packing() {
        let codes: [u8; 256] = std::array::from_fn(|i| (i * 37 % 251) as u8);
        let mut bytes = [0; 128];
        pack::<4, 64>(&codes, 0, &mut bytes);
        assert_eq!(unpack::<4, 64, 256>(&bytes), codes.map(|c| c & 15));
        pack::<2, 32>(&codes, 0, &mut bytes[..64]);
        assert_eq!(unpack::<2, 32, 256>(&bytes[..64]), codes.map(|c| c & 3));
        pack::<1, 32>(&codes, 4, &mut bytes[..32]);
        assert_eq!(unpack::<1, 32, 256>(&bytes[..32]), codes.map(|c| c >> 4 & 1));
    }
}
