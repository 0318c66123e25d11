//! Blocks of the i-quants below 4 bits as fields, and as codes of single weights.

use std::array::from_fn;

use super::BlockType;
use super::layout::from_f16;
use crate::codec::{Codec, Fields, FieldsMut, Float, Layout, Points, Signs, VectorCodec};

/// Weights of a block.
pub(super) const ELEMENTS: usize = 256;

/// What a block holds: `P` points, `G` scales.
pub(super) struct Packed<const P: usize, const G: usize> {
    /// An f16.
    pub(super) d: [u8; 2],
    pub(super) points: [u16; P],
    /// Of 8 weights each: set where one is negative, the first in the lowest bit; all where a shift goes down.
    pub(super) signs: [u8; 32],
    /// Weights are `2 * scale + 1` times something.
    pub(super) scales: [u8; G],
}

/// Access to the fields of a block type.
pub(super) trait Pack<const P: usize, const G: usize, const BYTES: usize> {
    /// The codebook.
    const BOOK: &'static [u16];
    /// Coordinates are levels -1, 0 and 1 with a shift, and not magnitudes with signs.
    const SHIFTED: bool;

    fn unpack(block: &[u8; BYTES]) -> Packed<P, G>;
    /// Writes every bit.
    fn pack(fields: &Packed<P, G>, block: &mut [u8; BYTES]);
}

/// Coordinate `i` of a point that is packed as `code`, `width` of them.
fn coordinate(code: u16, i: usize, width: usize) -> u8 {
    let bits = 16 / width;
    (code >> (bits * i)) as u8 & ((1 << bits) - 1)
}

/// The code of a coordinate: of `magnitudes` with signs, ascending, or shifted up (the higher of two) or down.
fn code_of(coordinate: u8, negative: bool, magnitudes: u8) -> u8 {
    match (magnitudes, negative) {
        (0, down) => 2 * coordinate + u8::from(!down),
        (n, false) => n + coordinate,
        (n, true) => n - 1 - coordinate,
    }
}

/// The inverse of [`code_of`].
fn coordinate_of(code: u8, magnitudes: u8) -> (u8, bool) {
    match magnitudes {
        0 => (code / 2, code.is_multiple_of(2)),
        n if code >= n => (code - n, false),
        n => (n - 1 - code, true),
    }
}

/// The magnitudes of a codebook with points of `width` coordinates.
const fn magnitudes(shifted: bool, width: usize) -> u8 {
    match (shifted, width) {
        (true, _) => 0,
        (false, 8) => 3,
        (false, _) => 8,
    }
}

/// What gptq's feedback has to know of a type, most of which follows from its fields. `points` are those that [`points`] makes.
pub(super) const fn describe<T, const P: usize, const G: usize, const BYTES: usize>(
    block: &'static BlockType,
    levels: &'static [f32],
    signs: Signs,
    points: fn() -> &'static Points,
) -> VectorCodec
where
    T: Pack<P, G, BYTES>,
{
    VectorCodec {
        codec: Codec {
            block,
            superblock: ELEMENTS,
            group: ELEMENTS / G,
            levels,
            // Odd multiples, by 3 bits or by 4.
            scales: 1..=if T::SHIFTED { 15 } else { 31 },
            scale_step: 2,
            offsets: 0..=0,
            float: Float::F16,
            layout: Layout { read: read::<T, P, G, BYTES>, write: write::<T, P, G, BYTES> },
        },
        width: ELEMENTS / P,
        signs,
        points,
    }
}

/// The points of a type's codebook as codes of single weights.
pub(super) fn points<T, const P: usize, const G: usize, const BYTES: usize>(levels: &[f32]) -> Points
where
    T: Pack<P, G, BYTES>,
{
    let (width, count) = (ELEMENTS / P, magnitudes(T::SHIFTED, ELEMENTS / P));
    let codes = |down: bool| {
        T::BOOK
            .iter()
            .flat_map(move |&code| (0..width).map(move |i| code_of(coordinate(code, i, width), down, count)))
    };
    let all = if T::SHIFTED { codes(false).chain(codes(true)).collect() } else { codes(false).collect() };
    Points::new(all, width, levels)
}

/// Levels of magnitudes `2 i + 1`... with both signs, ascending, times `unit`.
pub(super) const fn signed_levels<const N: usize>(magnitudes: &[i8], unit: f32) -> [f32; N] {
    let mut levels = [0.0; N];
    let mut i = 0;
    while i < N / 2 {
        levels[N / 2 + i] = magnitudes[i] as f32 * unit;
        levels[N / 2 - 1 - i] = -levels[N / 2 + i];
        i += 1;
    }
    levels
}

/// Reads a block into codes.
fn read<T, const P: usize, const G: usize, const BYTES: usize>(block: &[u8], fields: FieldsMut<'_>)
where
    T: Pack<P, G, BYTES>,
{
    let Some(block) = block.first_chunk() else { return };
    let packed = T::unpack(block);
    let width = ELEMENTS / P;
    fields.d[0] = from_f16(packed.d);
    for (scale, &code) in fields.scales.iter_mut().zip(&packed.scales) {
        *scale = 2 * i16::from(code) + 1;
    }
    for (j, code) in fields.codes.iter_mut().enumerate() {
        let point = T::BOOK[usize::from(packed.points[j / width])];
        let negative = packed.signs[j / 8] >> (j % 8) & 1 == 1;
        *code = code_of(coordinate(point, j % width, width), negative, magnitudes(T::SHIFTED, width));
    }
}

/// Writes codes, which must make up points, as a block.
fn write<T, const P: usize, const G: usize, const BYTES: usize>(fields: Fields<'_>, block: &mut [u8])
where
    T: Pack<P, G, BYTES>,
{
    let Some(block) = block.first_chunk_mut() else { return };
    let (width, count) = (ELEMENTS / P, magnitudes(T::SHIFTED, ELEMENTS / P));
    let points = from_fn(|p| {
        let codes = fields.codes[p * width..][..width].iter().rev();
        let code = codes.fold(0, |all, &code| all << (16 / width) | u16::from(coordinate_of(code, count).0));
        T::BOOK.binary_search(&code).unwrap_or(0) as u16
    });
    let signs = from_fn(|i| {
        let codes = fields.codes[8 * i..][..8].iter().rev();
        codes.fold(0, |all, &code| all << 1 | u8::from(coordinate_of(code, count).1))
    });
    let scales = from_fn(|g| ((fields.scales[g] - 1) / 2) as u8);
    let d = half::f16::from_f32(fields.d[0]).to_le_bytes();
    T::pack(&Packed { d, points, signs, scales }, block);
}
