//! Q8_1: 32 weights in 36 bytes (9 bits per weight).
//!
//! ggml keeps activations in this type. A file may hold it, but nothing writes such files, so that kquant only
//! decodes it.
//!
//! | field | bytes | meaning |
//! |---|---|---|
//! | d | 2 | scale, f16 |
//! | s | 2 | d times the sum of the codes, f16; of no use to a decoder |
//! | qs | 32 | codes, i8 |
//!
//! weight = d * code. Source: ggml's `block_q8_1`.

use super::layout::{decode_blocks, from_f16};
use super::{BlockCodec, BlockType, Importance, Limits};

const ELEMENTS: usize = 32;
const BYTES: usize = 36;

pub(super) static TYPE: BlockType = BlockType {
    name: "Q8_1",
    id: 9,
    elements: ELEMENTS,
    bytes: BYTES,
    quantized: true,
    decode: |bytes, out| decode_blocks(bytes, out, decode_block),
    encode: None,
    importance: Importance::Ignored,
    codec: BlockCodec::Opaque,
    limits: Limits::ANY,
};

fn decode_block(block: &[u8; BYTES], weights: &mut [f32; ELEMENTS]) {
    let [d0, d1, _, _, codes @ ..] = block;
    let scale = from_f16([*d0, *d1]);
    for (weight, code) in weights.iter_mut().zip(codes) {
        *weight = scale * f32::from(code.cast_signed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_scale_times_code() {
        let mut block = [0; BYTES];
        // The block has d = -0.5 and s = NaN, which must not matter.
        block[..8].copy_from_slice(&[0x00, 0xb8, 0xff, 0xff, 0x80, 0x7f, 0x00, 0x01]);
        let mut weights = [f32::NAN; ELEMENTS];
        (TYPE.decode)(&block, &mut weights);
        assert_eq!(weights[..5], [64.0, -63.5, 0.0, -0.5, 0.0]);
    }
}
