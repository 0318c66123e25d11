//! Q6_K: superblocks of 256 weights in 16 groups of 16, 8-bit scales, 6-bit codes around zero (`block_q6_K` in
//! ggml-common.h).
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..128 | `ql` | low 4 bits: 64 bytes hold 128 weights, byte `j` weight `j` low, weight `j + 64` high |
//! | 128..192 | `qh` | high 2 bits: 32 bytes hold 128 weights, byte `j` the weights `j`, `j + 32`, `j + 64`, `j + 96` |
//! | 192..208 | `scales` | signed, one per group |
//! | 208..210 | `d` | f16 scale of the scales |
//!
//! `weight = d * scale * (code - 32)`

use super::codes::{pack, read_f16, unpack, write_f16};
use super::layout::{decode_blocks, integers};
use super::row::{AT_ONCE, EncodeBlocks, Groups, encode_row, superblocks, vector_starts};
use super::{BlockCodec, BlockType, Importance, Limits};
use crate::block::fit::integer::nearest_int;
use crate::block::fit::weights::squares;
use crate::block::fit::{ZERO_GROUP, signed_extreme, symmetric};
use crate::codec::{Codec, Fields, FieldsMut, Float, Layout};
use crate::lanes::{Simd, in_lanes, to_slice, transposed};

const ELEMENTS: usize = 256;
const BYTES: usize = 210;
const GROUPS: usize = 16;
const GROUP: usize = 16;

const CODES: std::ops::Range<usize> = 0..128;
const HIGH_BITS: std::ops::Range<usize> = 128..192;
const SCALES: std::ops::Range<usize> = 192..208;
const D: usize = 208;

/// The code of weight zero.
const ZERO: i32 = 32;
const LEVELS: [f32; 64] = integers(-ZERO);
/// The code that the scale of largest magnitude gets, and below it the largest code of a scale.
const SCALE_EXTREME: f32 = -128.0;
const SCALE_TOP: i32 = 127;

pub(super) static TYPE: BlockType = BlockType {
    name: "Q6_K",
    id: 14,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode,
    encode: Some(encode),
    importance: Importance::Optional,
    codec: BlockCodec::Scalar(&CODEC),
    limits: Limits::scaled::<BYTES, D>(128.0 * 32.0),
};

pub(crate) static CODEC: Codec = Codec {
    block: &TYPE,
    superblock: ELEMENTS,
    group: GROUP,
    levels: &LEVELS,
    scales: -128..=127,
    scale_step: 1,
    offsets: 0..=0,
    float: Float::F16,
    layout: Layout { read: read_fields, write: write_fields },
};

fn decode(bytes: &[u8], out: &mut [f32]) {
    decode_blocks(bytes, out, |block: &[u8; BYTES], out: &mut [f32; ELEMENTS]| {
        let codes = unpack_codes(block);
        let scales = group_scales(block);
        for (i, out) in out.iter_mut().enumerate() {
            *out = scales[i / GROUP] * (i32::from(codes[i]) - ZERO) as f32;
        }
    });
}

#[inline(always)]
fn unpack_codes(block: &[u8]) -> [u8; ELEMENTS] {
    let low = unpack::<4, 64, ELEMENTS>(&block[CODES]);
    let high = unpack::<2, 32, ELEMENTS>(&block[HIGH_BITS]);
    std::array::from_fn(|i| low[i] | high[i] << 4)
}

/// Returns the scale of each group, by which its codes are multiplied.
#[inline(always)]
fn group_scales(block: &[u8; BYTES]) -> [f32; GROUPS] {
    let d = read_f16(&block[D..]);
    let scales = &block[SCALES];
    std::array::from_fn(|g| d * f32::from(scales[g] as i8))
}

fn read_fields(block: &[u8], fields: FieldsMut<'_>) {
    fields.d[0] = read_f16(&block[D..]);
    for (scale, byte) in fields.scales.iter_mut().zip(&block[SCALES]) {
        *scale = i16::from(byte.cast_signed());
    }
    fields.codes.copy_from_slice(&unpack_codes(block));
}

fn write_fields(fields: Fields<'_>, block: &mut [u8]) {
    write_f16(fields.d[0], &mut block[D..]);
    for (byte, &scale) in block[SCALES].iter_mut().zip(fields.scales) {
        *byte = scale as u8;
    }
    pack_codes(fields.codes, block);
}

#[inline(always)]
fn pack_codes(codes: &[u8], block: &mut [u8]) {
    pack::<4, 64>(codes, 0, &mut block[CODES]);
    pack::<2, 32>(codes, 4, &mut block[HIGH_BITS]);
}

in_lanes! {
    fn encode<V>(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        encode_row::<V, Q6K, _, BYTES>(superblocks::<GROUPS, GROUP>(row), importance.map(superblocks), out);
    }
}

struct Q6K;

impl EncodeBlocks<Groups<GROUPS, GROUP>, BYTES> for Q6K {
    #[inline(always)]
    fn plain<V: Simd>(x: &[Groups<GROUPS, GROUP>], out: &mut [[u8; BYTES]]) {
        let (groups, mut fits) = (x.as_flattened(), SymmetricFits::new());
        for first in vector_starts::<V>(groups.len()) {
            let x = transposed::<V, GROUP>(&groups[first..]);
            fits.put(first, symmetric::fit(&x, &squares(&x), ZERO));
        }
        fits.write(x, out);
    }

    /// Encodes with the importance alone as the weight of an error. Unlike in the other types the size of a weight
    /// does not count.
    #[inline(always)]
    fn weighted<V: Simd>(
        x: &[Groups<GROUPS, GROUP>],
        importance: &[Groups<GROUPS, GROUP>],
        out: &mut [[u8; BYTES]],
    ) {
        let (groups, importance, mut fits) =
            (x.as_flattened(), importance.as_flattened(), SymmetricFits::new());
        for first in vector_starts::<V>(groups.len()) {
            let x = transposed::<V, GROUP>(&groups[first..]);
            fits.put(first, symmetric::fit(&x, &transposed(&importance[first..]), ZERO));
        }
        fits.write(x, out);
    }
}

/// The fits of the groups of up to [`AT_ONCE`] superblocks.
struct SymmetricFits {
    scales: [[f32; GROUPS]; AT_ONCE],
    inverses: [[f32; GROUPS]; AT_ONCE],
}

impl SymmetricFits {
    #[inline(always)]
    fn new() -> Self {
        Self { scales: [[0.0; GROUPS]; AT_ONCE], inverses: [[0.0; GROUPS]; AT_ONCE] }
    }

    /// Stores the fits of the groups from index `first` on.
    #[inline(always)]
    fn put<V: Simd>(&mut self, first: usize, fit: symmetric::SymmetricFit<V>) {
        to_slice(fit.scale, &mut self.scales.as_flattened_mut()[first..]);
        to_slice(fit.inverse, &mut self.inverses.as_flattened_mut()[first..]);
    }

    #[inline(always)]
    fn write(&self, x: &[Groups<GROUPS, GROUP>], out: &mut [[u8; BYTES]]) {
        for (s, (x, out)) in x.iter().zip(out).enumerate() {
            write_block(x, &self.scales[s], &self.inverses[s], out);
        }
    }
}

/// Codes the scales of the groups and rounds the weights once more, under the scales as stored. A group whose stored
/// scale is 0 gets the codes of its fit.
#[inline(always)]
fn write_block(
    x: &Groups<GROUPS, GROUP>,
    scales: &[f32; GROUPS],
    inverses: &[f32; GROUPS],
    out: &mut [u8; BYTES],
) {
    let extreme = signed_extreme(scales);
    if extreme.abs() < ZERO_GROUP {
        out.fill(0);
        return;
    }
    let inverse = SCALE_EXTREME / extreme;
    write_f16(1.0 / inverse, &mut out[D..]);
    for (code, scale) in out[SCALES].iter_mut().zip(scales) {
        *code = nearest_int(inverse * scale).min(SCALE_TOP) as u8;
    }
    let scales = group_scales(out);
    let mut codes = [[0; GROUP]; GROUPS];
    for (g, codes) in codes.iter_mut().enumerate() {
        *codes = symmetric::round(&x[g], scales[g], ZERO, || symmetric::codes(&x[g], inverses[g], ZERO));
    }
    pack_codes(codes.as_flattened(), out);
}
