//! Tests that compare the codecs of types whose codes stand for several weights with the decoders.

use kquant_kernels::block::by_name;
use kquant_kernels::codec::{Codec, VectorCodec};

const TYPES: [&str; 7] = ["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"];
const BLOCKS: usize = 600;

/// Returns blocks of random bits, except for those that would make d infinite.
fn blocks(name: &str, bytes: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let mut all: Vec<u8> = (0..BLOCKS * bytes).map(|_| next()).collect();
    let high = if name == "IQ1_M" { bytes - 1 } else { 1 };
    all.chunks_mut(bytes).for_each(|block| block[high] = block[high] & 0x0f | 0x30);
    all
}

#[test]
fn every_block_is_a_row_of_codes_and_back() {
    for name in TYPES {
        let block = by_name(name).unwrap();
        assert!(Codec::of(block).is_none());
        let codec = &VectorCodec::of(block).unwrap().codec;
        let bytes = blocks(name, block.bytes);
        let columns = BLOCKS * block.elements;
        let coded = codec.read(&bytes, columns);
        let (mut decoded, mut row) = (vec![0.0; columns], vec![f32::NAN; columns]);
        (block.decode)(&bytes, &mut decoded);
        codec.decode(&coded, &mut row);
        let bits = |row: &[f32]| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert!(bits(&row) == bits(&decoded), "{name}");
        let mut written = vec![0xa5; bytes.len()];
        codec.write(&coded, &mut written);
        assert!(written == bytes, "{name}");
        let legal = |x: &i16| codec.scales.contains(x) && (x - codec.scales.start()) % codec.scale_step == 0;
        assert!(coded.scales.iter().all(legal), "{name}");
    }
    assert!(VectorCodec::of(by_name("Q4_K").unwrap()).is_none());
}
