//! Q8_K: 256 weights in 292 bytes (9.125 bits per weight).
//!
//! ggml keeps activations in this type. A file may hold it, but nothing writes such files, so that kquant only
//! decodes it.
//!
//! | field | bytes | meaning |
//! |---|---|---|
//! | d | 4 | scale, f32 |
//! | qs | 256 | codes, i8 |
//! | bsums | 32 | sums of 16 codes each, i16; of no use to a decoder |
//!
//! weight = d * code. Source: ggml's `block_q8_K`.

use super::layout::decode_blocks;
use super::{BlockCodec, BlockType, Importance, Limits};

const ELEMENTS: usize = 256;
const BYTES: usize = 292;

pub(super) static TYPE: BlockType = BlockType {
    name: "Q8_K",
    id: 15,
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
    let [d0, d1, d2, d3, codes @ ..] = block;
    let scale = f32::from_le_bytes([*d0, *d1, *d2, *d3]);
    for (weight, code) in weights.iter_mut().zip(codes) {
        *weight = scale * f32::from(code.cast_signed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_scale_times_code() {
        let mut block = [0xff; BYTES];
        block[..4].copy_from_slice(&1.5_f32.to_le_bytes());
        block[4..7].copy_from_slice(&[0x80, 0x7f, 0x00]);
        let mut weights = [f32::NAN; ELEMENTS];
        (TYPE.decode)(&block, &mut weights);
        assert_eq!(weights[..4], [-192.0, 190.5, 0.0, -1.5]);
        assert_eq!(weights[255], -1.5);
    }
}
