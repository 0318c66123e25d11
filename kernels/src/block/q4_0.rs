//! Q4_0: 32 weights, one scale, 4-bit codes around zero (`block_q4_0` in ggml-common.h).
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..2 | `d` | f16 scale |
//! | 2..18 | `qs` | 4-bit codes: byte `j` holds weight `j` low, weight `j + 16` high |
//!
//! `weight = d * (code - 8)`

use super::codes::{pack, read_f16, unpack, write_f16};
use super::layout::{decode_blocks, integers, inverse, signed_extreme};
use super::row::blocks_and_bytes;
use super::weighted_blocks::{SymmetricBlock, symmetric};
use super::{BlockCodec, BlockType, Importance, Limits};
use crate::block::fit::integer::low_byte;
use crate::codec::{Codec, Fields, FieldsMut, Float, Layout};
use crate::lanes::in_lanes;

const ELEMENTS: usize = 32;
const BYTES: usize = 18;
/// The code of weight zero.
const ZERO: i32 = 8;
const LEVELS: [f32; 16] = integers(-ZERO);

pub(super) static TYPE: BlockType = BlockType {
    name: "Q4_0",
    id: 2,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode,
    encode: Some(encode),
    importance: Importance::Optional,
    codec: BlockCodec::Scalar(&CODEC),
    limits: Limits::scaled::<BYTES, 0>(8.0),
};

pub(crate) static CODEC: Codec = Codec {
    block: &TYPE,
    superblock: ELEMENTS,
    group: ELEMENTS,
    levels: &LEVELS,
    scales: 1..=1,
    scale_step: 1,
    offsets: 0..=0,
    float: Float::F16,
    layout: Layout { read: read_fields, write: write_fields },
};

fn decode(bytes: &[u8], out: &mut [f32]) {
    decode_blocks(bytes, out, |block: &[u8; BYTES], out: &mut [f32; ELEMENTS]| {
        let d = read_f16(block);
        *out = unpack::<4, 16, ELEMENTS>(&block[2..]).map(|code| (i32::from(code) - ZERO) as f32 * d);
    });
}

fn read_fields(block: &[u8], fields: FieldsMut<'_>) {
    fields.d[0] = read_f16(block);
    fields.codes.copy_from_slice(&unpack::<4, 16, ELEMENTS>(&block[2..]));
}

fn write_fields(fields: Fields<'_>, block: &mut [u8]) {
    write_f16(fields.d[0], block);
    pack::<4, 16>(fields.codes, 0, &mut block[2..]);
}

in_lanes! {
    fn encode<V>(row: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        match importance {
            None => {
                for (x, out) in blocks_and_bytes(row, out) {
                    encode_plain(x, out);
                }
            }
            Some(importance) => symmetric::<V, Q40, BYTES>(row, importance, out),
        }
    }
}

/// Encodes a block without importance: the weight of largest magnitude becomes code 0, and the others are rounded.
#[inline(always)]
fn encode_plain(x: &[f32; ELEMENTS], out: &mut [u8; BYTES]) {
    let d = signed_extreme(x) / -(ZERO as f32);
    let inverse = inverse(d);
    let mut codes = [0; ELEMENTS];
    for (code, &v) in codes.iter_mut().zip(x) {
        *code = low_byte((v * inverse + 8.5).trunc()).min(15);
    }
    Q40::write(d, &codes, out);
}

struct Q40;

impl SymmetricBlock<BYTES> for Q40 {
    const HALF: i32 = ZERO;

    #[inline(always)]
    fn write(scale: f32, codes: &[u8; ELEMENTS], out: &mut [u8; BYTES]) {
        write_f16(scale, out);
        pack::<4, 16>(codes, 0, &mut out[2..]);
    }
}
