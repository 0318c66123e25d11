//! IQ1_M: 256 weights in 56 bytes (1.75 bits per weight): 32 points of a codebook, 8 weights each.
//!
//! | field | bytes | meaning |
//! |---|---|---|
//! | qs | 32 | low 8 bits of each point's number |
//! | qh | 16 | 4 bits per point, the lower ones first: high 3 bits of its number, then the shift's sign |
//! | scales | 8 | four u16: four scales of 3 bits, one per two points; on top 4 bits of d, the lowest of d first |
//!
//! d is an f16 put together from those four times 4 bits.
//!
//! weight = d * (2 * scale + 1) * (coordinate + shift), coordinate in -1, 0, 1, shift = 1/8 or -1/8 (bit set).
//! Source: ggml's `block_iq1_m`.

use std::array::from_fn;
use std::sync::LazyLock;

use super::iq1_s::{BOOK, SHIFT};
use super::layout::{decode_blocks, to_f16};
use super::limits::is_odd;
use super::packed_points::{self, DecodePoints, Pack, Packed};
use super::points::Codebook;
use super::row::{Groups, with_importance};
use super::ternary::{CutSums, D, DOWN, SortedGroup, TernaryFit, UP, sorted, vanishes};
use super::{BlockCodec, BlockType, Importance, Limits, codebook, grid};
use crate::block::fit::integer::nearest_int;
use crate::block::fit::weights::{importance_weights, squares, sum_of_squares};
use crate::codec::{Points, Signs, VectorCodec};
use crate::lanes::{Simd, in_lanes};

const ELEMENTS: usize = 256;
const BYTES: usize = 56;

pub(super) static TYPE: BlockType = BlockType {
    name: "IQ1_M",
    id: 29,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode: |bytes, out| decode_blocks(bytes, out, packed_points::decode_block::<Iq1M, 32, 16, BYTES>),
    encode: Some(encode),
    importance: Importance::Required,
    codec: BlockCodec::Vector(&VECTOR_CODEC),
    limits: Limits { overflowed, ..Limits::scaled::<BYTES, 0>(15.0 * (1.0 + SHIFT)) },
};

static LEVELS: [f32; 6] = [-1.0 - SHIFT, -1.0 + SHIFT, -SHIFT, SHIFT, 1.0 - SHIFT, 1.0 + SHIFT];

pub(crate) static VECTOR_CODEC: VectorCodec =
    packed_points::describe::<Iq1M, 32, 16, BYTES>(&TYPE, &LEVELS, Signs::Shift, || &POINTS);

static POINTS: LazyLock<Points> = LazyLock::new(|| packed_points::points::<Iq1M, 32, 16, BYTES>(&LEVELS));

struct Iq1M;

impl Pack<32, 16, BYTES> for Iq1M {
    const BOOK: &'static [u16] = &codebook::IQ1;
    const SHIFTED: bool = true;

    fn unpack(block: &[u8; BYTES]) -> Packed<32, 16> {
        let (low, rest) = block.split_at(32);
        let (high, scales) = rest.split_at(16);
        let word = |k: usize| u16::from_le_bytes([scales[2 * k], scales[2 * k + 1]]);
        let high = |p: usize| high[p / 2] >> (p % 2 * 4);
        Packed {
            d: (0..4).rev().fold(0, |d, k| d << 4 | word(k) >> 12).to_le_bytes(),
            points: from_fn(|p| u16::from(high(p) & 7) << 8 | u16::from(low[p])),
            signs: from_fn(|p| if high(p) & 8 == 0 { 0 } else { 0xff }),
            scales: from_fn(|g| (word(g / 4) >> (g % 4 * 3) & 7) as u8),
        }
    }

    fn pack(fields: &Packed<32, 16>, block: &mut [u8; BYTES]) {
        block.fill(0);
        let (low, rest) = block.split_at_mut(32);
        let (high, scales) = rest.split_at_mut(16);
        for (p, &point) in fields.points.iter().enumerate() {
            low[p] = point as u8;
            high[p / 2] |= ((point >> 8) as u8 | (fields.signs[p] & 1) << 3) << (p % 2 * 4);
        }
        let d = u16::from_le_bytes(fields.d);
        for (k, out) in scales.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            let codes = (0..4).map(|i| u16::from(fields.scales[4 * k + i]) << (3 * i));
            *out = (codes.sum::<u16>() | (d >> (4 * k)) << 12).to_le_bytes();
        }
    }
}

/// Returns the first block whose scale, spread over the highest bits of four words, is infinite or NaN.
fn overflowed(blocks: &[u8]) -> Option<usize> {
    let odd = |block: &[u8; BYTES]| is_odd(u16::from_le_bytes(Iq1M::unpack(block).d));
    blocks.as_chunks::<BYTES>().0.iter().position(odd)
}

impl DecodePoints<32, 16, BYTES> for Iq1M {
    const UNIT: f32 = 1.0;

    fn coordinates(point: u16) -> &'static [i8] {
        &grid::IQ1[usize::from(point)]
    }
}

const GROUPS: usize = 16;
pub(super) const GROUP: usize = 16;
/// The number of places of a cut, 17, rounded up to a whole number of the widest vectors.
const PADDED: usize = 32;
/// The magnitude below which all elements of a group count as zero (ggml's `GROUP_MAX_EPS_IQ1_M`).
const ZERO: f32 = 1e-7;
/// The factor by which ggml enlarges the stored scale, found there by trial.
const FUDGE: f32 = 1.1125;

in_lanes! {
    fn encode<V>(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        let book = &*BOOK;
        for ((x, importance), out) in with_importance::<GROUPS, GROUP>(row, importance).zip(out.as_chunks_mut().0) {
            encode_block::<V>(book, x, importance, out);
        }
    }
}

/// Returns the shift of point `k` of a group under a choice of shifts: bit 1 is set where the first point is shifted
/// down, bit 0 where the second one is.
#[inline(always)]
fn shift(shifts: usize, k: usize) -> f32 {
    if shifts >> (1 - k) & 1 == 0 { SHIFT } else { -SHIFT }
}

#[inline(always)]
fn encode_block<V: Simd>(
    book: &Codebook<D>,
    x: &Groups<GROUPS, GROUP>,
    importance: Option<&Groups<GROUPS, GROUP>>,
    out: &mut [u8; BYTES],
) {
    let variance = 2.0 * sum_of_squares(x.as_flattened()) / ELEMENTS as f32;
    let mut weights = [[0.0; GROUP]; GROUPS];
    let mut fits = [TernaryFit::<2>::ZERO; GROUPS];
    for (g, fit) in fits.iter_mut().enumerate() {
        weights[g] = match importance {
            Some(importance) => importance_weights(&x[g], &importance[g], variance),
            None => squares(&x[g]),
        };
        if !vanishes(&x[g], ZERO) {
            let group = SortedGroup { x: &x[g], weights: &weights[g], order: sorted::<V, GROUP>(&x[g]) };
            let halves = Half::both(&group);
            *fit = group.to_points::<V, 2>(book, halves.best_cut::<V>(&group), shift, |shifts| 3 - shifts);
        }
    }
    write_block(book, x, &weights, &fits, out);
}

/// Sums over the elements before each place of a cut, in the order of size, that belong to one of the group's two
/// points; padded to a whole number of vectors.
///
/// Each half has its own sums because ggml's compiled code makes them so: in another order its bytes would differ.
pub(super) struct Half {
    /// `Σ w·x`
    x: [f32; PADDED],
    /// `Σ w`
    w: [f32; PADDED],
}

impl Half {
    #[inline(always)]
    pub(super) fn both(group: &SortedGroup<'_, GROUP>) -> [Self; 2] {
        [Self::new(group, 0), Self::new(group, 1)]
    }

    #[inline(always)]
    fn new(group: &SortedGroup<'_, GROUP>, half: usize) -> Self {
        let mut sums = Self { x: [0.0; PADDED], w: [0.0; PADDED] };
        for (j, &place) in group.order.iter().enumerate() {
            let place = usize::from(place);
            (sums.x[j + 1], sums.w[j + 1]) = (sums.x[j], sums.w[j]);
            if place / D == half {
                sums.x[j + 1] += group.weights[place] * group.x[place];
                sums.w[j + 1] += group.weights[place];
            }
        }
        sums
    }

    /// Returns `Σ w·q·x` and `Σ w·q²` over the half. The three values are 1 apart, so that each cut subtracts its sum
    /// from what all elements at the largest value would give.
    #[inline(always)]
    fn products<V: Simd>(&self, [low, middle, high]: [f32; 3], first: usize, start: usize) -> (V, V) {
        let cuts = V::splat(self.x[first]) + V::load(&self.x[start..]);
        let second = V::load(&self.w[start..]);
        let squares = self.w[first] * (low * low - middle * middle) + self.w[GROUP] * high * high;
        (
            V::splat(self.x[GROUP] * high) - cuts,
            second * V::splat(middle * middle - high * high) + V::splat(squares),
        )
    }
}

impl CutSums<GROUP> for [Half; 2] {
    /// There are two shifts for each of two points: bit 1 of a choice is the first point's, bit 0 the second's.
    const CHOICES: usize = 4;

    #[inline(always)]
    fn products<V: Simd>(&self, shifts: usize, first: usize, start: usize) -> (V, V) {
        let one = self[0].products::<V>(if shifts < 2 { UP } else { DOWN }, first, start);
        let other = self[1].products::<V>(if shifts & 1 == 0 { UP } else { DOWN }, first, start);
        (one.0 + other.0, one.1 + other.1)
    }

    #[inline(always)]
    fn shift(shifts: usize) -> f32 {
        0.5 * (shift(shifts, 0) + shift(shifts, 1))
    }
}

/// Writes a block. Unlike in the other types the stored scale is fitted once more, to the points and the groups' coded
/// scales.
#[inline(always)]
fn write_block(
    book: &Codebook<D>,
    x: &Groups<GROUPS, GROUP>,
    weights: &Groups<GROUPS, GROUP>,
    fits: &[TernaryFit<2>; GROUPS],
    out: &mut [u8; BYTES],
) {
    out.fill(0);
    let largest =
        fits.iter().fold(0.0f32, |largest, fit| if largest > fit.scale { largest } else { fit.scale });
    if largest == 0.0 {
        return;
    }
    let mut d = largest / 15.0;
    let inverse = 1.0 / d;
    let scales: [u8; GROUPS] =
        from_fn(|g| nearest_int(0.5 * (inverse * fits[g].scale - 1.0)).clamp(0, 7) as u8);
    let (mut qx, mut qq) = (0.0, 0.0);
    for (g, fit) in fits.iter().enumerate() {
        let group = SortedGroup { x: &x[g], weights: &weights[g], order: [0; GROUP] };
        for (k, &point) in fit.points.iter().enumerate() {
            let (shift, multiple) = (shift(fit.shifts, k), f32::from(2 * scales[g] + 1));
            group.add_products(k, book.odds(point), shift, multiple, (&mut qx, &mut qq));
        }
    }
    if qq > 0.0 {
        d = qx / qq;
    }
    let packed = Packed {
        d: to_f16(d * FUDGE),
        points: from_fn(|p| fits[p / 2].points[p % 2]),
        signs: from_fn(|p| if shift(fits[p / 2].shifts, p % 2) < 0.0 { 0xff } else { 0 }),
        scales,
    };
    Iq1M::pack(&packed, out);
}
