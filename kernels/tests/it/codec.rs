//! Tests that compare the codecs of the block types with their encoders and decoders.

use kquant_kernels::block::{self, BlockType, TYPES};
use kquant_kernels::codec::{Codec, Coded};
use kquant_kernels::isa::Isa;
use proptest::prelude::*;

const NAMES: [&str; 14] = [
    "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS",
    "MXFP4", "NVFP4",
];
/// The columns of a row: two superblocks.
const COLUMNS: usize = 512;

fn codecs() -> impl Iterator<Item = &'static Codec> {
    NAMES.into_iter().map(|name| Codec::of(block::by_name(name).unwrap()).unwrap())
}

fn encode(ty: &BlockType, row: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    let mut bytes = vec![0xa5; ty.row_bytes(row.len() as u64).unwrap() as usize];
    (ty.encode.unwrap())(Isa::best(), row, importance, &mut bytes);
    bytes
}

fn bits(row: &[f32]) -> Vec<u32> {
    row.iter().map(|w| w.to_bits()).collect()
}

/// Returns the written blocks and what the type's decoder makes of them, after a check that `decode` and `value` agree
/// with it.
fn written(codec: &Codec, coded: &Coded) -> (Vec<u8>, Vec<f32>) {
    let ty = codec.block;
    let mut bytes = vec![0xa5; ty.row_bytes(coded.codes.len() as u64).unwrap() as usize];
    codec.write(coded, &mut bytes);
    let (mut decoded, mut row) = (vec![f32::NAN; coded.codes.len()], vec![f32::NAN; coded.codes.len()]);
    (ty.decode)(&bytes, &mut decoded);
    codec.decode(coded, &mut row);
    assert_eq!(bits(&row), bits(&decoded), "{}", ty.name);
    let values: Vec<f32> = (0..row.len()).map(|j| coded.value(codec, j)).collect();
    assert_eq!(bits(&values), bits(&decoded), "{}", ty.name);
    (bytes, decoded)
}

fn is_legal(codec: &Codec, coded: &Coded) -> bool {
    let floats = coded.d.iter().chain(&coded.dmin);
    let expected = Coded::zeros(codec, coded.codes.len());
    coded.d.len() == expected.d.len()
        && coded.scales.len() == expected.scales.len()
        && coded.scales.iter().all(|scale| codec.scales.contains(scale))
        && coded.offsets.iter().all(|offset| codec.offsets.contains(offset))
        && coded.codes.iter().all(|&code| usize::from(code) < codec.levels.len())
        && floats.filter(|d| **d != 0.0).all(|&d| codec.float.nearest(d) == d)
}

#[test]
fn plain_numbers_and_codebooks_have_no_codec() {
    let found: Vec<_> = TYPES.iter().filter(|ty| Codec::of(ty).is_some()).map(|ty| ty.name).collect();
    assert_eq!(found.len(), NAMES.len());
    assert!(NAMES.iter().all(|name| found.contains(name)));
}

#[test]
fn every_member_of_a_codec_s_set_is_a_row() {
    // The numbers pass through every code, scale and offset.
    for codec in codecs() {
        let mut coded = Coded::zeros(codec, COLUMNS * 8);
        let cycle = |range: &std::ops::RangeInclusive<i16>, i: usize| {
            range.start() + (i % usize::from(range.end().abs_diff(*range.start()) + 1)) as i16
        };
        let floats = coded.d.iter_mut().chain(&mut coded.dmin);
        floats.enumerate().for_each(|(i, d)| *d = codec.float.nearest(0.01 * (i as f32 - 9.5)));
        if codec.offsets == (0..=0) {
            coded.dmin.fill(0.0);
        }
        coded.scales.iter_mut().enumerate().for_each(|(i, scale)| *scale = cycle(&codec.scales, i));
        coded.offsets.iter_mut().enumerate().for_each(|(i, offset)| *offset = cycle(&codec.offsets, i * 3));
        coded.codes.iter_mut().enumerate().for_each(|(i, code)| *code = (i % codec.levels.len()) as u8);
        assert!(is_legal(codec, &coded), "{}", codec.block.name);
        let (bytes, _) = written(codec, &coded);
        assert_eq!(codec.read(&bytes, coded.codes.len()), coded, "{}", codec.block.name);
    }
}

fn weight() -> impl Strategy<Value = f32> {
    prop_oneof![6 => -3.0_f32..3.0, 2 => Just(0.0), 1 => -1e-3_f32..1e-3, 1 => -1e3_f32..1e3]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn reading_and_writing_keeps_ggml_s_blocks(
        row in prop::collection::vec(weight(), COLUMNS),
        importance in prop::collection::vec(prop_oneof![1 => Just(0.0_f32), 4 => 0.0_f32..10.0], COLUMNS),
    ) {
        for codec in codecs() {
            for importance in [None, Some(importance.as_slice())] {
                let bytes = encode(codec.block, &row, importance);
                let coded = codec.read(&bytes, COLUMNS);
                prop_assert!(is_legal(codec, &coded), "{}", codec.block.name);
                prop_assert_eq!(&written(codec, &coded).0, &bytes, "{}", codec.block.name);
            }
        }
    }
}
