//! Block types whose codes stand for several weights, as codecs in which only some combinations of levels exist.
//!
//! The types are the i-quants below 4 bits (IQ1_S to IQ3_S), whose codebooks hold points of 8 or 4 neighbouring
//! weights.

use super::Codec;
use crate::block::{BlockCodec, BlockType};

/// The number of columns that are coded together: one point of 8 or two of 4.
pub const UNIT: usize = 8;

/// The number of points that are stored side by side, so that a search compares them in lanes.
pub(crate) const ABREAST: usize = 32;

/// The description of a block type whose codes stand for several weights. The levels of its codec are those of single
/// weights, with sign and shift; the codes of `width` neighbours must make up a point.
#[derive(Debug)]
pub struct VectorCodec {
    /// The type's scales, and the levels of single weights.
    pub codec: Codec,
    /// The number of columns of a point, 8 or 4.
    pub width: usize,
    /// The signs or shifts that are stored beside the points.
    pub signs: Signs,
    /// Returns the points of the codebook.
    pub(crate) points: fn() -> &'static Points,
}

/// The signs or shifts that are stored beside a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signs {
    /// Each magnitude has a sign.
    Free,
    /// Each magnitude has a sign, and among [`UNIT`] weights an even number is negative.
    Even,
    /// Each point has a shift, up or down.
    Shift,
    /// All points of a group have the same shift, up or down.
    SharedShift,
}

/// The points of a codebook as codes and levels of the codec. In types with shifts all points shifted up come first,
/// then all points shifted down.
#[derive(Debug)]
pub(crate) struct Points {
    /// The codes of each point, `[points][width]`.
    codes: Vec<u8>,
    /// The levels of each point, `[points][width]`.
    levels: Vec<f32>,
    /// The levels of points side by side, `[points / ABREAST][width]`.
    abreast: Vec<[f32; ABREAST]>,
    /// The highest code.
    last: u8,
}

impl VectorCodec {
    /// Returns the codec of a block type; `None` for plain numbers and for types whose codes stand for one weight.
    pub fn of(block: &BlockType) -> Option<&'static Self> {
        match block.codec {
            BlockCodec::Vector(codec) => Some(codec),
            _ => None,
        }
    }
}

impl Points {
    /// Makes points from their codes, `[points][width]`, and the levels of the codes. The number of points must be a
    /// multiple of [`ABREAST`].
    pub(crate) fn new(codes: Vec<u8>, width: usize, table: &[f32]) -> Self {
        let levels: Vec<f32> = codes.iter().map(|&code| table[usize::from(code)]).collect();
        let chunks = levels.chunks_exact(ABREAST * width);
        let abreast =
            chunks.flat_map(|chunk| (0..width).map(move |i| std::array::from_fn(|l| chunk[l * width + i])));
        Self { abreast: abreast.collect(), codes, levels, last: (table.len() - 1) as u8 }
    }

    /// Returns the levels of points side by side, `[points / ABREAST][width]`.
    pub(crate) fn abreast(&self) -> &[[f32; ABREAST]] {
        &self.abreast
    }

    /// Returns the code of a magnitude with a sign, given its code with the sign +; magnitudes are in ascending order.
    #[inline(always)]
    pub(crate) fn signed(&self, code: u8, negative: bool) -> u8 {
        if negative { self.last - code } else { code }
    }

    /// Returns the levels of point `number`.
    #[inline(always)]
    pub(crate) fn levels<const W: usize>(&self, number: usize) -> [f32; W] {
        self.levels.as_chunks().0[number]
    }

    /// Returns the codes of point `number`.
    #[inline(always)]
    pub(crate) fn codes<const W: usize>(&self, number: usize) -> [u8; W] {
        self.codes.as_chunks().0[number]
    }
}
