//! TQ1_0: 256 weights in 54 bytes (1.6875 bits per weight): ternary weights, five to a byte.
//!
//! | field | bytes | meaning |
//! |---|---|---|
//! | qs | 48 | 32 bytes for weights 0..160, then 16 bytes for weights 160..240 |
//! | qh | 4 | weights 240..256 |
//! | d | 2 | scale, f16 |
//!
//! A run of n bytes holds its weights in five columns (four in `qh`): digit k of byte j is weight k * n + j. The five
//! digits make a number t < 243 in base 3, the first digit the highest, stored as ceil(t * 256 / 243): multiplying by
//! 3^k, modulo 256, and then by 3 brings digit k out of the top of the byte.
//!
//! weight = d * (digit - 1). Source: ggml's `block_tq1_0`.

use super::layout::{abs_max, decode_blocks, from_f16, inverse, to_f16};
use super::row::blocks_and_bytes;
use super::tq2_0::ternary_code;
use super::{BlockCodec, BlockType, Importance, Limits};
use crate::lanes::in_lanes;

const ELEMENTS: usize = 256;
const BYTES: usize = 54;
const DIGITS: usize = 5;
/// The number of different values of five digits, 3^5.
const NUMBERS: u16 = 243;
/// The runs of a block, each as its bytes and the number of weights that they hold.
const RUNS: [(usize, usize); 3] = [(32, 160), (16, 80), (4, 16)];

pub(super) static TYPE: BlockType = BlockType {
    name: "TQ1_0",
    id: 34,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode: |bytes, out| decode_blocks(bytes, out, decode_block),
    encode: Some(encode),
    importance: Importance::Ignored,
    codec: BlockCodec::Opaque,
    limits: Limits::scaled::<BYTES, { BYTES - 2 }>(1.0),
};

fn decode_block(block: &[u8; BYTES], weights: &mut [f32; ELEMENTS]) {
    let [codes @ .., d0, d1] = block;
    let scale = from_f16([*d0, *d1]);
    let (mut codes, mut weights) = (codes.as_slice(), weights.as_mut_slice());
    for (bytes, elements) in RUNS {
        let (run, run_weights);
        (run, codes) = codes.split_at(bytes);
        (run_weights, weights) = weights.split_at_mut(elements);
        decode_run(run, scale, run_weights);
    }
}

fn decode_run(run: &[u8], scale: f32, weights: &mut [f32]) {
    let mut power = 1_u8;
    for column in weights.chunks_mut(run.len()) {
        for (weight, byte) in column.iter_mut().zip(run) {
            let digit = (u16::from(byte.wrapping_mul(power)) * 3) >> 8;
            *weight = (f32::from(digit) - 1.0) * scale;
        }
        power = power.wrapping_mul(3);
    }
}

in_lanes! {
    fn encode<V>(row: &[f32], _importance: Option<&[f32]>, out: &mut [u8]) {
        for (x, out) in blocks_and_bytes(row, out) {
            encode_block(x, out);
        }
    }
}

#[inline(always)]
fn encode_block(weights: &[f32; ELEMENTS], block: &mut [u8; BYTES]) {
    let [codes @ .., d0, d1] = block;
    let scale = abs_max(weights);
    [*d0, *d1] = to_f16(scale);
    let inverse = inverse(scale);
    let (mut codes, mut weights) = (codes.as_mut_slice(), weights.as_slice());
    for (bytes, elements) in RUNS {
        let (run, run_weights);
        (run, codes) = codes.split_at_mut(bytes);
        (run_weights, weights) = weights.split_at(elements);
        encode_run(run_weights, inverse, run);
    }
}

fn encode_run(weights: &[f32], inverse: f32, run: &mut [u8]) {
    let columns = run.len();
    for (first, byte) in run.iter_mut().enumerate() {
        let mut number = 0;
        for digit in 0..DIGITS {
            // The run `qh` has no fifth column, so that its last digit is 0.
            let code = weights.get(digit * columns + first).map_or(0, |w| ternary_code(w * inverse));
            number = 3 * number + u16::from(code);
        }
        *byte = (number * 256).div_ceil(NUMBERS) as u8;
    }
}
