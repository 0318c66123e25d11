//! The first 16 bytes of a block of Q4_K and Q5_K: scale and offset of 8 groups, 6 bits each.
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..2 | `d` | f16 scale of the scales |
//! | 2..4 | `dmin` | f16 scale of the offsets |
//! | 4..8 | `scales` | scales 0..4 in the low 6 bits; above them bits 4 and 5 of scales 4..8 |
//! | 8..12 | | offsets 0..4 in the low 6 bits; above them bits 4 and 5 of offsets 4..8 |
//! | 12..16 | | low 4 bits of scales 4..8 (low) and of offsets 4..8 (high) |

use super::affine_superblock::{AffineFits, CodedScales};
use super::codes::{read_f16, write_f16};
use super::row::Groups;
use crate::block::fit::affine;
use crate::codec::{Fields, FieldsMut};

/// The number of groups of a superblock.
pub(super) const GROUPS: usize = 8;
/// The number of weights of a group.
pub(super) const GROUP: usize = 32;
/// The number of weights of a superblock.
const ELEMENTS: usize = GROUPS * GROUP;
/// The largest scale or offset.
pub(super) const TOP: u8 = 63;
/// The number of bytes of the header.
pub(super) const BYTES: usize = 16;

const D: usize = 0;
const DMIN: usize = 2;
const SCALES: std::ops::Range<usize> = 4..16;

/// The header as decoding needs it: `weight = scales[group] * code - offsets[group]`.
pub(super) struct Header {
    pub(super) scales: [f32; GROUPS],
    pub(super) offsets: [f32; GROUPS],
}

impl Header {
    /// Decodes the superblock's codes.
    #[inline(always)]
    pub(super) fn decode(&self, codes: &[u8; ELEMENTS], out: &mut [f32; ELEMENTS]) {
        let groups = out.as_chunks_mut::<GROUP>().0.iter_mut().zip(codes.as_chunks::<GROUP>().0);
        for ((out, codes), (scale, offset)) in groups.zip(self.scales.iter().zip(&self.offsets)) {
            *out = codes.map(|code| scale * f32::from(code) - offset);
        }
    }

    /// Rounds the superblock's weights to codes up to `top`. A group of scale 0 gets the codes of its fit.
    #[inline(always)]
    pub(super) fn round(
        &self,
        x: &Groups<GROUPS, GROUP>,
        fits: &AffineFits<GROUPS>,
        top: u8,
    ) -> [[u8; GROUP]; GROUPS] {
        let mut codes = [[0; GROUP]; GROUPS];
        for (g, codes) in codes.iter_mut().enumerate() {
            *codes = affine::round(&x[g], self.scales[g], self.offsets[g], fits.steps(g), top);
        }
        codes
    }
}

/// Reads the header at the start of `block`.
#[inline(always)]
pub(super) fn read(block: &[u8]) -> Header {
    let (d, dmin) = (read_f16(&block[D..]), read_f16(&block[DMIN..]));
    let (scales, offsets) = unpack(&block[SCALES]);
    Header {
        scales: scales.map(|code| d * f32::from(code)),
        offsets: offsets.map(|code| dmin * f32::from(code)),
    }
}

/// Reads the header at the start of `block` as integers and floats.
pub(super) fn read_fields(block: &[u8], fields: FieldsMut<'_>) {
    (fields.d[0], fields.dmin[0]) = (read_f16(&block[D..]), read_f16(&block[DMIN..]));
    let (scales, offsets) = unpack(&block[SCALES]);
    fields.scales.copy_from_slice(&scales.map(i16::from));
    fields.offsets.copy_from_slice(&offsets.map(i16::from));
}

/// Writes the header at the start of `block` from integers and floats.
pub(super) fn write_fields(fields: Fields<'_>, block: &mut [u8]) {
    write_f16(fields.d[0], &mut block[D..]);
    write_f16(fields.dmin[0], &mut block[DMIN..]);
    let bytes = |codes: &[i16]| std::array::from_fn(|g| codes[g] as u8);
    pack(&bytes(fields.scales), &bytes(fields.offsets), &mut block[SCALES]);
}

/// Writes the header at the start of `block` and returns it as decoding will see it.
#[inline(always)]
pub(super) fn write(coded: &CodedScales<GROUPS>, block: &mut [u8]) -> Header {
    write_f16(coded.scales.unit, &mut block[D..]);
    write_f16(coded.offsets.unit, &mut block[DMIN..]);
    pack(&coded.scales.codes, &coded.offsets.codes, &mut block[SCALES]);
    read(block)
}

/// Packs 8 scales and 8 offsets into 12 bytes. Codes above [`TOP`] spill into the high bits of their byte.
#[inline(always)]
fn pack(scales: &[u8; GROUPS], offsets: &[u8; GROUPS], bytes: &mut [u8]) {
    for j in 0..4 {
        let (scale, offset) = (scales[j + 4], offsets[j + 4]);
        bytes[j] = scales[j] | (scale >> 4) << 6;
        bytes[j + 4] = offsets[j] | (offset >> 4) << 6;
        bytes[j + 8] = (scale & 15) | (offset & 15) << 4;
    }
}

/// Returns the 8 scales and the 8 offsets in 12 bytes.
#[inline(always)]
fn unpack(bytes: &[u8]) -> ([u8; GROUPS], [u8; GROUPS]) {
    let (mut scales, mut offsets) = ([0; GROUPS], [0; GROUPS]);
    for j in 0..4 {
        scales[j] = bytes[j] & TOP;
        offsets[j] = bytes[j + 4] & TOP;
        scales[j + 4] = (bytes[j + 8] & 15) | (bytes[j] >> 6) << 4;
        offsets[j + 4] = (bytes[j + 8] >> 4) | (bytes[j + 4] >> 6) << 4;
    }
    (scales, offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacking_undoes_packing() {
        let scales = [63, 0, 17, 42, 63, 1, 33, 20];
        let offsets = [5, 62, 31, 0, 48, 63, 9, 16];
        let mut bytes = [0xff; 12];
        pack(&scales, &offsets, &mut bytes);
        assert_eq!(unpack(&bytes), (scales, offsets));
    }
}
