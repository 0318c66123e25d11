//! Block types whose codes stand for several weights: codecs of which only some combinations of levels exist.

use super::Codec;
use crate::block::{BlockType, Coding};

/// Columns that are coded together: one point of 8 or two of 4.
pub const UNIT: usize = 8;

/// Points side by side.
pub(crate) const ABREAST: usize = 32;

/// How such a type spends its bits. The levels of its codec are those of single weights, with sign and shift; the codes of
/// `width` neighbours must make up a point.
#[derive(Debug)]
pub struct VectorCodec {
    /// Scales, and what codes of single weights stand for.
    pub codec: Codec,
    /// Columns of a point, 8 or 4.
    pub width: usize,
    /// What goes with a point.
    pub signs: Signs,
    /// The points.
    pub(crate) points: fn() -> &'static Points,
}

/// What goes with a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signs {
    /// A sign for each of its magnitudes.
    Free,
    /// The same, but among [`UNIT`] weights an even number is negative.
    Even,
    /// A shift up or down, its own.
    Shift,
    /// A shift that all points of a group have.
    SharedShift,
}

/// The points of a codebook, as codes and levels of the codec: with shifts all that go up, then all that go down.
#[derive(Debug)]
pub(crate) struct Points {
    /// `[points][width]`: codes of the levels.
    codes: Vec<u8>,
    /// `[points][width]`: levels.
    levels: Vec<f32>,
    /// `[points / ABREAST][width]`: the same side by side.
    abreast: Vec<[f32; ABREAST]>,
    /// The highest code.
    last: u8,
}

impl VectorCodec {
    /// Those of a block type; `None` for the types that have none.
    pub fn of(block: &BlockType) -> Option<&'static Self> {
        match block.coding {
            Coding::Vector(codec) => Some(codec),
            _ => None,
        }
    }
}

impl Points {
    /// From their codes, `[points][width]`, points in multiples of [`ABREAST`].
    pub(crate) fn new(codes: Vec<u8>, width: usize, table: &[f32]) -> Self {
        let levels: Vec<f32> = codes.iter().map(|&code| table[usize::from(code)]).collect();
        let chunks = levels.chunks_exact(ABREAST * width);
        let abreast =
            chunks.flat_map(|chunk| (0..width).map(move |i| std::array::from_fn(|l| chunk[l * width + i])));
        Self { abreast: abreast.collect(), codes, levels, last: (table.len() - 1) as u8 }
    }

    /// Levels side by side, `[points / ABREAST][width]`.
    pub(crate) fn abreast(&self) -> &[[f32; ABREAST]] {
        &self.abreast
    }

    /// The code of a magnitude with a sign, of magnitudes in ascending order.
    #[inline(always)]
    pub(crate) fn signed(&self, code: u8, negative: bool) -> u8 {
        if negative { self.last - code } else { code }
    }

    /// Levels of point `number`.
    #[inline(always)]
    pub(crate) fn levels<const W: usize>(&self, number: usize) -> [f32; W] {
        self.levels.as_chunks().0[number]
    }

    /// Codes of point `number`.
    #[inline(always)]
    pub(crate) fn codes<const W: usize>(&self, number: usize) -> [u8; W] {
        self.codes.as_chunks().0[number]
    }
}
