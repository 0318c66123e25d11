//! Q5_1: 32 weights, scale and minimum, 5-bit codes (`block_q5_1` in ggml-common.h).
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..2 | `d` | f16 scale |
//! | 2..4 | `m` | f16 minimum |
//! | 4..8 | `qh` | fifth bits, weight `j` in bit `j` of a little-endian u32 |
//! | 8..24 | `qs` | low 4 bits: byte `j` holds weight `j` low, weight `j + 16` high |
//!
//! `weight = d * code + m`

use super::codes::{read_f16, write_f16};
use super::layout::{decode_blocks, integers, inverse};
use super::q5_0::{pack_codes, unpack_codes};
use super::row::blocks_and_bytes;
use super::weighted_blocks::{AffineBlock, affine};
use super::{BlockCodec, BlockType, Importance, Limits};
use crate::block::fit::integer::low_byte;
use crate::block::fit::weights::range;
use crate::codec::{Codec, Fields, FieldsMut, Float, Layout};
use crate::lanes::in_lanes;

const ELEMENTS: usize = 32;
const BYTES: usize = 24;
const TOP: u8 = 31;
const LEVELS: [f32; 32] = integers(0);

pub(super) static TYPE: BlockType = BlockType {
    name: "Q5_1",
    id: 7,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode,
    encode: Some(encode),
    importance: Importance::Optional,
    codec: BlockCodec::Scalar(&CODEC),
    limits: Limits::offset::<BYTES, 0, 2>(1.0, 31.0 + 1.0),
};

pub(crate) static CODEC: Codec = Codec {
    block: &TYPE,
    superblock: ELEMENTS,
    group: ELEMENTS,
    levels: &LEVELS,
    scales: 1..=1,
    scale_step: 1,
    offsets: 1..=1,
    float: Float::F16,
    layout: Layout { read: read_fields, write: write_fields },
};

fn decode(bytes: &[u8], out: &mut [f32]) {
    decode_blocks(bytes, out, |block: &[u8; BYTES], out: &mut [f32; ELEMENTS]| {
        let (d, m) = (read_f16(block), read_f16(&block[2..]));
        *out = unpack_codes(&block[4..]).map(|code| f32::from(code) * d + m);
    });
}

fn read_fields(block: &[u8], fields: FieldsMut<'_>) {
    fields.d[0] = read_f16(block);
    fields.dmin[0] = -read_f16(&block[2..]);
    fields.codes.copy_from_slice(&unpack_codes(&block[4..]));
}

fn write_fields(fields: Fields<'_>, block: &mut [u8]) {
    write_f16(fields.d[0], block);
    write_f16(-fields.dmin[0], &mut block[2..]);
    pack_codes(fields.codes, &mut block[4..]);
}

in_lanes! {
    fn encode<V>(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        match importance {
            None => {
                for (x, out) in blocks_and_bytes(row, out) {
                    encode_plain(x, out);
                }
            }
            Some(importance) => affine::<V, Q51, BYTES>(row, importance, out),
        }
    }
}

/// Encodes a block without importance: the least weight becomes code 0, the largest one the top code, and the others
/// are rounded. As in ggml the codes are not bounded.
#[inline(always)]
fn encode_plain(x: &[f32; ELEMENTS], out: &mut [u8; BYTES]) {
    let (low, high) = range(x);
    let d = (high - low) / f32::from(TOP);
    let inverse = inverse(d);
    let mut codes = [0; ELEMENTS];
    for (code, &v) in codes.iter_mut().zip(x) {
        *code = low_byte(((v - low) * inverse + 0.5).trunc());
    }
    Q51::write(d, low, &codes, out);
}

struct Q51;

impl AffineBlock<BYTES> for Q51 {
    const TOP: u8 = TOP;

    #[inline(always)]
    fn write(scale: f32, minimum: f32, codes: &[u8; ELEMENTS], out: &mut [u8; BYTES]) {
        write_f16(scale, out);
        write_f16(minimum, &mut out[2..]);
        pack_codes(codes, &mut out[4..]);
    }
}
