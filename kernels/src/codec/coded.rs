//! A row as scales, offsets and codes, and the part of it that one block holds.

use super::Codec;

/// One row of weights as scales, offsets and codes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Coded {
    /// The scales of the scales, `[superblocks]`; members of the type's [`Float`](super::Float).
    pub d: Vec<f32>,
    /// The scales of the offsets, `[superblocks]`; zeros for types without offsets.
    pub dmin: Vec<f32>,
    /// Legal scales, `[groups]`.
    pub scales: Vec<i16>,
    /// Legal offsets, `[groups]`; zeros for types without offsets.
    pub offsets: Vec<i16>,
    /// Indices into the type's levels, `[columns]`.
    pub codes: Vec<u8>,
}

/// The part of a [`Coded`] row that one block holds, to write the block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    pub(crate) d: &'a [f32],
    pub(crate) dmin: &'a [f32],
    pub(crate) scales: &'a [i16],
    pub(crate) offsets: &'a [i16],
    pub(crate) codes: &'a [u8],
}

/// The part of a [`Coded`] row that one block holds, to read the block into.
#[derive(Debug)]
pub(crate) struct FieldsMut<'a> {
    pub(crate) d: &'a mut [f32],
    pub(crate) dmin: &'a mut [f32],
    pub(crate) scales: &'a mut [i16],
    pub(crate) offsets: &'a mut [i16],
    pub(crate) codes: &'a mut [u8],
}

impl Coded {
    /// Returns a row of zeros.
    ///
    /// # Panics
    ///
    /// When `columns` are no whole number of blocks.
    pub fn zeros(codec: &Codec, columns: usize) -> Self {
        assert!(columns.is_multiple_of(codec.block.elements), "{columns} columns of {}", codec.block.name);
        let (superblocks, groups) = (columns / codec.superblock, columns / codec.group);
        let zero = codec.levels.partition_point(|&level| level < 0.0);
        Self {
            d: vec![codec.float.member(0); superblocks],
            dmin: vec![0.0; superblocks],
            scales: vec![0.clamp(*codec.scales.start(), *codec.scales.end()); groups],
            offsets: vec![0.clamp(*codec.offsets.start(), *codec.offsets.end()); groups],
            codes: vec![zero as u8; columns],
        }
    }

    /// Returns the weight of column `j`, as the type's decoder computes it.
    ///
    /// # Panics
    ///
    /// When there is no such column in this row of `codec`.
    pub fn value(&self, codec: &Codec, j: usize) -> f32 {
        let (scale, offset) = self.line(codec, j / codec.group);
        scale * codec.levels[usize::from(self.codes[j])] - offset
    }

    /// Returns the scale of group `g`, by which its levels are multiplied, and the offset that is then subtracted.
    ///
    /// # Panics
    ///
    /// When there is no such group in this row of `codec`.
    pub fn line(&self, codec: &Codec, g: usize) -> (f32, f32) {
        let s = g * codec.group / codec.superblock;
        (self.d[s] * f32::from(self.scales[g]), self.dmin[s] * f32::from(self.offsets[g]))
    }

    /// Returns the part that block `index` holds.
    pub(crate) fn block(&self, codec: &Codec, index: usize) -> Fields<'_> {
        let elements = codec.block.elements;
        let (d, groups) = (elements / codec.superblock, elements / codec.group);
        Fields {
            d: &self.d[index * d..][..d],
            dmin: &self.dmin[index * d..][..d],
            scales: &self.scales[index * groups..][..groups],
            offsets: &self.offsets[index * groups..][..groups],
            codes: &self.codes[index * elements..][..elements],
        }
    }

    /// Returns the part that block `index` holds, to be changed.
    pub(crate) fn block_mut(&mut self, codec: &Codec, index: usize) -> FieldsMut<'_> {
        let elements = codec.block.elements;
        let (d, groups) = (elements / codec.superblock, elements / codec.group);
        FieldsMut {
            d: &mut self.d[index * d..][..d],
            dmin: &mut self.dmin[index * d..][..d],
            scales: &mut self.scales[index * groups..][..groups],
            offsets: &mut self.offsets[index * groups..][..groups],
            codes: &mut self.codes[index * elements..][..elements],
        }
    }
}
