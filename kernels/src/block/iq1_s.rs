//! IQ1_S: 256 weights in 50 bytes (1.5625 bits per weight): 8 groups of 32 weights, each four points of a codebook.
//!
//! | field | bytes | meaning |
//! |---|---|---|
//! | d | 2 | scale of the block, f16 |
//! | qs | 32 | low 8 bits of each point's number |
//! | qh | 16 | a u16 per group: the high 3 bits of four points' numbers, 3 bits of scale, the shift's sign |
//!
//! weight = d * (2 * scale + 1) * (coordinate + shift), coordinate in -1, 0, 1, shift = 1/8 or -1/8 (bit set).
//! Source: ggml's `block_iq1_s`.

use std::array::from_fn;
use std::sync::LazyLock;

use super::layout::{decode_blocks, from_f16, to_f16};
use super::packed_points::{self, Pack, Packed};
use super::points::Codebook;
use super::row::{Groups, with_importance};
use super::ternary::{CutSums, D, DOWN, SortedGroup, TernaryFit, UP, sorted, vanishes};
use super::{BlockCodec, BlockType, Importance, Limits, codebook, grid};
use crate::block::fit::integer::nearest_int;
use crate::block::fit::weights::{importance_weights, squares, sum_of_squares};
use crate::codec::{Points, Signs, VectorCodec};
use crate::lanes::{Simd, in_lanes};

const ELEMENTS: usize = 256;
const BYTES: usize = 50;

pub(super) static TYPE: BlockType = BlockType {
    name: "IQ1_S",
    id: 19,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode: |bytes, out| decode_blocks(bytes, out, decode_block),
    encode: Some(encode),
    importance: Importance::Required,
    codec: BlockCodec::Vector(&VECTOR_CODEC),
    limits: Limits::scaled::<BYTES, 0>(15.0 * (1.0 + SHIFT)),
};

/// The shift that a group adds to its coordinates or subtracts from them (ggml's `IQ1S_DELTA`).
pub(super) const SHIFT: f32 = 0.125;

static LEVELS: [f32; 6] = [-1.0 - SHIFT, -1.0 + SHIFT, -SHIFT, SHIFT, 1.0 - SHIFT, 1.0 + SHIFT];

pub(crate) static VECTOR_CODEC: VectorCodec =
    packed_points::describe::<Iq1S, 32, 8, BYTES>(&TYPE, &LEVELS, Signs::SharedShift, || &POINTS);

static POINTS: LazyLock<Points> = LazyLock::new(|| packed_points::points::<Iq1S, 32, 8, BYTES>(&LEVELS));

struct Iq1S;

impl Pack<32, 8, BYTES> for Iq1S {
    const BOOK: &'static [u16] = &codebook::IQ1;
    const SHIFTED: bool = true;

    fn unpack(block: &[u8; BYTES]) -> Packed<32, 8> {
        let (low, words) = block[2..].split_at(32);
        let word = |g: usize| u16::from_le_bytes([words[2 * g], words[2 * g + 1]]);
        Packed {
            d: [block[0], block[1]],
            points: from_fn(|p| (word(p / 4) >> (3 * (p % 4)) & 7) << 8 | u16::from(low[p])),
            signs: from_fn(|p| if word(p / 4) & 0x8000 == 0 { 0 } else { 0xff }),
            scales: from_fn(|g| (word(g) >> 12 & 7) as u8),
        }
    }

    fn pack(fields: &Packed<32, 8>, block: &mut [u8; BYTES]) {
        block[..2].copy_from_slice(&fields.d);
        let (low, words) = block[2..].split_at_mut(32);
        for (g, out) in words.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            let mut word = u16::from(fields.scales[g]) << 12 | u16::from(fields.signs[4 * g] & 1) << 15;
            for k in 0..4 {
                let point = fields.points[4 * g + k];
                low[4 * g + k] = point as u8;
                word |= (point >> 8) << (3 * k);
            }
            *out = word.to_le_bytes();
        }
    }
}

fn decode_block(block: &[u8; BYTES], weights: &mut [f32; ELEMENTS]) {
    let [d0, d1, fields @ ..] = block;
    let d = from_f16([*d0, *d1]);
    let (low, words) = fields.split_at(32);
    let (words, _) = words.as_chunks();
    for (word, (low, weights)) in words.iter().zip(low.chunks(4).zip(weights.chunks_mut(32))) {
        let word = u16::from_le_bytes(*word);
        let scale = d * f32::from(2 * (word >> 12 & 7) + 1);
        let shift = if word & 0x8000 == 0 { SHIFT } else { -SHIFT };
        for (l, (low, weights)) in low.iter().zip(weights.chunks_mut(8)).enumerate() {
            let point = usize::from(word >> (3 * l) & 7) << 8 | usize::from(*low);
            grid::decode_shifted(&grid::IQ1[point], shift, scale, weights);
        }
    }
}

const GROUPS: usize = 8;
pub(super) const GROUP: usize = 32;
/// The number of places of a cut, 33, rounded up to a whole number of the widest vectors.
const PADDED: usize = 48;
/// The magnitude below which all elements of a group count as zero (ggml's `GROUP_MAX_EPS_IQ1_S`).
const ZERO: f32 = 1e-12;
/// The factor by which ggml enlarges the stored scale, found there by trial.
const FUDGE: f32 = 1.125;

/// The codebook that the encoders of IQ1_S and IQ1_M search in; lists of neighbours have the three least distances.
pub(super) static BOOK: LazyLock<Codebook<D>> = LazyLock::new(|| Codebook::new(&codebook::IQ1, 3, 3));

in_lanes! {
    fn encode<V>(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        let book = &*BOOK;
        for ((x, importance), out) in with_importance::<GROUPS, GROUP>(row, importance).zip(out.as_chunks_mut().0) {
            encode_block::<V>(book, x, importance, out);
        }
    }
}

#[inline(always)]
fn encode_block<V: Simd>(
    book: &Codebook<D>,
    x: &Groups<GROUPS, GROUP>,
    importance: Option<&Groups<GROUPS, GROUP>>,
    out: &mut [u8; BYTES],
) {
    let variance = 2.0 * sum_of_squares(x.as_flattened()) / ELEMENTS as f32;
    let mut fits = [TernaryFit::<4>::ZERO; GROUPS];
    for (g, fit) in fits.iter_mut().enumerate() {
        if !vanishes(&x[g], ZERO) {
            let weights = match importance {
                Some(importance) => importance_weights(&x[g], &importance[g], variance),
                None => squares(&x[g]),
            };
            let group = SortedGroup { x: &x[g], weights: &weights, order: sorted::<V, GROUP>(&x[g]) };
            let cut = Running::new(&group).best_cut::<V>(&group);
            *fit =
                group.to_points::<V, 4>(book, cut, |shifts, _| Running::shift(shifts), |shifts| 1 - shifts);
        }
    }
    write_block(&fits, out);
}

/// Sums over the elements before each place of a cut, in the order of size, padded to a whole number of vectors.
/// Places past the last one are never offered.
pub(super) struct Running {
    /// `Σ w·x`
    x: [f32; PADDED],
    /// `Σ w`
    w: [f32; PADDED],
}

impl Running {
    #[inline(always)]
    pub(super) fn new(group: &SortedGroup<'_, GROUP>) -> Self {
        let mut sums = Self { x: [0.0; PADDED], w: [0.0; PADDED] };
        for (j, &place) in group.order.iter().enumerate() {
            let (x, w) = (group.x[usize::from(place)], group.weights[usize::from(place)]);
            sums.x[j + 1] = sums.x[j] + w * x;
            sums.w[j + 1] = sums.w[j] + w;
        }
        sums
    }
}

/// Adds up the three runs of elements between the cuts, each under its value.
#[inline(always)]
fn runs<V: Simd>(sums: &[f32; PADDED], first: usize, start: usize) -> [V; 3] {
    let (one, two, all) = (V::splat(sums[first]), V::load(&sums[start..]), V::splat(sums[GROUP]));
    [one, two - one, all - two]
}

impl CutSums<GROUP> for Running {
    /// All values are shifted up (choice 0) or down (choice 1).
    const CHOICES: usize = 2;

    #[inline(always)]
    fn products<V: Simd>(&self, shifts: usize, first: usize, start: usize) -> (V, V) {
        let [low, middle, high] = if shifts == 0 { UP } else { DOWN };
        let (low, middle, high) = (V::splat(low), V::splat(middle), V::splat(high));
        let ([x0, x1, x2], [w0, w1, w2]) =
            (runs::<V>(&self.x, first, start), runs::<V>(&self.w, first, start));
        let squares = w0 * low * low + w1 * middle * middle + w2 * high * high;
        (x0 * low + x1 * middle + x2 * high, squares)
    }

    #[inline(always)]
    fn shift(shifts: usize) -> f32 {
        if shifts == 0 { SHIFT } else { -SHIFT }
    }
}

#[inline(always)]
fn write_block(fits: &[TernaryFit<4>; GROUPS], out: &mut [u8; BYTES]) {
    out.fill(0);
    let largest =
        fits.iter().fold(0.0f32, |largest, fit| if largest > fit.scale { largest } else { fit.scale });
    if largest == 0.0 {
        return;
    }
    let d = largest / 15.0;
    let inverse = 1.0 / d;
    let packed = Packed {
        d: to_f16(d * FUDGE),
        points: from_fn(|p| fits[p / 4].points[p % 4]),
        signs: from_fn(|p| if fits[p / 4].shifts == 0 { 0 } else { 0xff }),
        scales: from_fn(|g| nearest_int(0.5 * (inverse * fits[g].scale - 1.0)).clamp(0, 7) as u8),
    };
    Iq1S::pack(&packed, out);
}
