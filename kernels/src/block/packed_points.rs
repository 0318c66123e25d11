//! The i-quants below 4 bits, described for calibrated encoders as [`VectorCodec`]s.
//!
//! A block of these types holds points of a codebook, signs or shifts, and scales: [`Packed`], which each type's file
//! reads and writes through [`Pack`]. Encoders with feedback work on single weights instead. So each weight gets a
//! code, the index of its level in an ascending table that includes sign and shift, and a block can be written only
//! if the codes of each point's weights make up a point of the codebook.

use std::array::from_fn;

use super::BlockType;
use super::grid::{decode_shifted, decode_signed};
use super::iq1_s::SHIFT;
use super::layout::from_f16;
use crate::codec::{Codec, Fields, FieldsMut, Float, Layout, Points, Signs, VectorCodec};

/// The number of weights of a block.
pub(super) const ELEMENTS: usize = 256;

/// The fields of a block with `P` points and `G` scales.
pub(super) struct Packed<const P: usize, const G: usize> {
    /// The scale of the block, the bytes of an f16.
    pub(super) d: [u8; 2],
    /// Indices into the codebook.
    pub(super) points: [u16; P],
    /// One byte for every 8 weights: a bit is set where the weight is negative, the first weight in the lowest bit. In
    /// types with a shift all bits are set where the shift is negative.
    pub(super) signs: [u8; 32],
    /// Codes of the groups' scales; a code stands for the factor `2 * code + 1`.
    pub(super) scales: [u8; G],
}

/// Access to the fields of a block type.
pub(super) trait Pack<const P: usize, const G: usize, const BYTES: usize> {
    /// The codebook: one packed point per entry, see [`super::codebook`].
    const BOOK: &'static [u16];
    /// True if coordinates are -1, 0 and 1 plus a shift; false if they are magnitudes with signs.
    const SHIFTED: bool;

    /// Reads the fields of a block.
    fn unpack(block: &[u8; BYTES]) -> Packed<P, G>;
    /// Writes the fields of a block, every bit of it.
    fn pack(fields: &Packed<P, G>, block: &mut [u8; BYTES]);
}

/// A block type that [`decode_block`] decodes.
pub(super) trait DecodePoints<const P: usize, const G: usize, const BYTES: usize>:
    Pack<P, G, BYTES>
{
    /// The unit of the coordinates, a power of two: `weight = d * (2 * scale + 1) * UNIT * coordinate`, with sign or
    /// shift.
    const UNIT: f32;

    /// Returns the coordinates of a point.
    fn coordinates(point: u16) -> &'static [i8];
}

/// Decodes a block by its fields.
///
/// ggml writes the scale as `d * (0.5 + scale) * 0.25` in IQ2, which gives the same bits, as its factors differ by
/// powers of two. IQ1_S, IQ2_XXS and IQ3_XXS have decoders of their own that read a group's word once: by fields they
/// took 1.2 to 1.7 times as long, while the other types became up to 1.7 times as fast.
pub(super) fn decode_block<T, const P: usize, const G: usize, const BYTES: usize>(
    block: &[u8; BYTES],
    weights: &mut [f32; ELEMENTS],
) where
    T: DecodePoints<P, G, BYTES>,
{
    let packed = T::unpack(block);
    let d = from_f16(packed.d);
    for (p, weights) in weights.chunks_exact_mut(ELEMENTS / P).enumerate() {
        let first = p * (ELEMENTS / P);
        let scale = d * f32::from(2 * packed.scales[p * G / P] + 1) * T::UNIT;
        let signs = packed.signs[first / 8] >> (first % 8);
        let coordinates = T::coordinates(packed.points[p]);
        if T::SHIFTED {
            let shift = if signs & 1 == 0 { SHIFT } else { -SHIFT };
            decode_shifted(coordinates, shift, scale, weights);
        } else {
            decode_signed(coordinates, signs, scale, weights);
        }
    }
}

/// Returns coordinate `i` of the point of `width` coordinates that is packed as `code`.
fn coordinate(code: u16, i: usize, width: usize) -> u8 {
    let bits = 16 / width;
    (code >> (bits * i)) as u8 & ((1 << bits) - 1)
}

/// Returns the code of a single weight, which counts the type's levels in ascending order. With `magnitudes` above 0
/// the levels are that many magnitudes with both signs. With 0 they are the three coordinates, each shifted down
/// (even codes) and up (odd codes), and `negative` means shifted down.
fn code_of(coordinate: u8, negative: bool, magnitudes: u8) -> u8 {
    match (magnitudes, negative) {
        (0, down) => 2 * coordinate + u8::from(!down),
        (n, false) => n + coordinate,
        (n, true) => n - 1 - coordinate,
    }
}

/// Returns the coordinate of a code and whether it is negative (or shifted down): the inverse of [`code_of`].
fn coordinate_of(code: u8, magnitudes: u8) -> (u8, bool) {
    match magnitudes {
        0 => (code / 2, code.is_multiple_of(2)),
        n if code >= n => (code - n, false),
        n => (n - 1 - code, true),
    }
}

/// Returns the number of magnitudes in a codebook with points of `width` coordinates; 0 for codebooks with shifts.
const fn magnitudes(shifted: bool, width: usize) -> u8 {
    match (shifted, width) {
        (true, _) => 0,
        (false, 8) => 3,
        (false, _) => 8,
    }
}

/// Describes a type for encoders with feedback; most of the description follows from the fields. `points` returns what
/// [`points()`] makes, kept in a static.
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
            // Scales are the odd numbers that codes of 3 or of 4 bits stand for.
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

/// Returns the points of a type's codebook as codes of single weights.
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

/// Returns `±magnitudes[i] * unit`, ascending.
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

/// Reads a block as scales and codes of single weights.
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

/// Writes a block from scales and codes of single weights. Codes that make up no point of the codebook become point 0.
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
