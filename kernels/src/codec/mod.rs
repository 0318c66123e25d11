//! Block types as calibrated encoders see them: scales, offsets and codes, apart from the bits that hold them.
//!
//! ```text
//! weight[j] = (d[s] * scale[g]) * levels[code[j]] - dmin[s] * offset[g]     s: superblock of j, g: group of j
//! ```
//!
//! in f32 with one rounding per operation, which is to the bit what the decoder of the type returns.
//!
//! [`Codec`] describes types whose codes stand for one weight each, [`VectorCodec`] the i-quants below 4 bits. The
//! encoder of [`search`](search()) and the encoders with feedback in `kquant::encode` work on a row as [`Coded`] and
//! know nothing of the bits of a block.

mod coded;
mod float;
mod search;
mod vector_codec;

use std::ops::RangeInclusive;

use crate::block::{BlockCodec, BlockType};

pub use coded::Coded;
pub(crate) use coded::{Fields, FieldsMut};
pub use float::Float;
pub use search::{Magnitude, SearchOptions, column_weights, search};
pub(crate) use vector_codec::Points;
pub use vector_codec::{Signs, UNIT, VectorCodec};

/// The description of a block type whose codes stand for one weight each. Every type's codec is in its file, beside the
/// decoder.
#[derive(Debug)]
pub struct Codec {
    /// The block type.
    pub block: &'static BlockType,
    /// The number of columns that share `d` and `dmin`; at most those of a block.
    pub superblock: usize,
    /// The number of columns that share a scale and an offset; a divisor of `superblock`.
    pub group: usize,
    /// The values of the codes, ascending.
    pub levels: &'static [f32],
    /// The range of the legal scales; `1..=1` in types whose only scale is `d`.
    pub scales: RangeInclusive<i16>,
    /// The distance from one legal scale to the next.
    pub scale_step: i16,
    /// The range of the legal offsets; `0..=0` in types without offsets, `1..=1` in types whose only offset is `dmin`.
    pub offsets: RangeInclusive<i16>,
    /// The set of numbers that `d` and `dmin` can be.
    pub float: Float,
    /// The functions that read and write the fields of a block.
    pub(crate) layout: Layout,
}

/// The functions that read and write the fields of one block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// Reads a block of `bytes` bytes. Fields that the type does not have are left alone.
    pub(crate) read: fn(block: &[u8], fields: FieldsMut<'_>),
    /// Writes a block, every bit of it.
    pub(crate) write: fn(fields: Fields<'_>, block: &mut [u8]),
}

impl Codec {
    /// Returns the codec of a block type; `None` for plain numbers and for types whose codes stand for several weights.
    pub fn of(block: &BlockType) -> Option<&'static Self> {
        match block.codec {
            BlockCodec::Scalar(codec) => Some(codec),
            _ => None,
        }
    }

    /// Reads a row's blocks.
    ///
    /// # Panics
    ///
    /// When `columns` are no whole number of blocks or `bytes` not exactly theirs.
    pub fn read(&self, bytes: &[u8], columns: usize) -> Coded {
        let mut coded = Coded::zeros(self, columns);
        assert_eq!(bytes.len(), columns / self.block.elements * self.block.bytes, "bytes of the row");
        for (index, block) in bytes.chunks_exact(self.block.bytes).enumerate() {
            (self.layout.read)(block, coded.block_mut(self, index));
        }
        coded
    }

    /// Writes a row's blocks.
    ///
    /// # Panics
    ///
    /// When `coded` is no row of this codec or `out` not exactly the bytes of its blocks.
    pub fn write(&self, coded: &Coded, out: &mut [u8]) {
        let blocks = coded.codes.len() / self.block.elements;
        assert_eq!(out.len(), blocks * self.block.bytes, "bytes of the row");
        for (index, block) in out.chunks_exact_mut(self.block.bytes).enumerate() {
            (self.layout.write)(coded.block(self, index), block);
        }
    }

    /// Decodes a row to its weights `[columns]`, which are to the bit what the type's decoder makes of the written
    /// blocks.
    ///
    /// # Panics
    ///
    /// When `coded` is no row of this codec or `out` not of its columns.
    pub fn decode(&self, coded: &Coded, out: &mut [f32]) {
        assert_eq!(out.len(), coded.codes.len(), "columns of the row");
        let groups = out.chunks_exact_mut(self.group).zip(coded.codes.chunks_exact(self.group));
        for (g, (out, codes)) in groups.enumerate() {
            let (scale, offset) = coded.line(self, g);
            for (out, &code) in out.iter_mut().zip(codes) {
                *out = scale * self.levels[usize::from(code)] - offset;
            }
        }
    }
}
