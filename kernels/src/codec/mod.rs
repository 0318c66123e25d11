//! Block types as calibrated encoders see them: scales, offsets and codes, apart from the bits that hold them.
//!
//! ```text
//! weight[j] = (d[s] * scale[g]) * levels[code[j]] - dmin[s] * offset[g]     s: superblock of j, g: group of j
//! ```
//!
//! in f32, one rounding per operation: to the bit what the decoder of the type returns.

mod coded;
mod float;
mod search;
mod vectors;

use std::ops::RangeInclusive;

use crate::block::{BlockType, Coding};

pub use coded::Coded;
pub(crate) use coded::{Fields, FieldsMut};
pub use float::Float;
pub use search::{Magnitude, SearchOptions, column_weights, search};
pub(crate) use vectors::Points;
pub use vectors::{Signs, UNIT, VectorCodec};

/// How a block type spends its bits. Each type's row stands in its file, beside its decoder.
#[derive(Debug)]
pub struct Codec {
    /// The type.
    pub block: &'static BlockType,
    /// Columns that share `d` and `dmin`; at most the columns of a block.
    pub superblock: usize,
    /// Columns that share a scale and an offset; a divisor of `superblock`.
    pub group: usize,
    /// What the codes stand for, ascending.
    pub levels: &'static [f32],
    /// Legal scales; `1..=1` where `d` is the only one.
    pub scales: RangeInclusive<i16>,
    /// From one legal scale to the next.
    pub scale_step: i16,
    /// Legal offsets; `0..=0` for types without, `1..=1` where `dmin` is the only one.
    pub offsets: RangeInclusive<i16>,
    /// Which numbers `d` and `dmin` can be.
    pub float: Float,
    /// Where all of it lies in a block.
    pub(crate) layout: Layout,
}

/// Access to the fields of one block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// Reads a block of `bytes` bytes. Fields that the type does not have are left alone.
    pub(crate) read: fn(block: &[u8], fields: FieldsMut<'_>),
    /// Writes every bit of it.
    pub(crate) write: fn(fields: Fields<'_>, block: &mut [u8]),
}

impl Codec {
    /// The codec of a block type; `None` for plain numbers and for types whose codes stand for several weights.
    pub fn of(block: &BlockType) -> Option<&'static Self> {
        match block.coding {
            Coding::Scalar(codec) => Some(codec),
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

    /// The weights `[columns]` of a row: to the bit what the type's decoder makes of the written blocks.
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
