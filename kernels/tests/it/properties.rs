//! Properties of every block type that hold for any input, whatever the golden rows contain.

use kquant_kernels::block::{self, BlockType, Importance, TYPES};
use kquant_kernels::isa::Isa;
use proptest::prelude::*;

/// The columns of a row: a whole number of the largest blocks, so that all types can hold it.
const COLUMNS: usize = 512;

fn row_bytes(ty: &BlockType) -> usize {
    ty.row_bytes(COLUMNS as u64).unwrap() as usize
}

/// Decodes a row over an output that held `before`, and returns its bits, by which NaN compares.
fn decode_over(ty: &BlockType, bytes: &[u8], before: f32) -> Vec<u32> {
    let mut weights = vec![before; bytes.len() / ty.bytes * ty.elements];
    (ty.decode)(bytes, &mut weights);
    weights.iter().map(|w| w.to_bits()).collect()
}

/// Returns weights of usual sizes, zeros, and any bit pattern at all.
fn weight() -> impl Strategy<Value = f32> {
    prop_oneof![4 => -3.0_f32..3.0, 1 => Just(0.0), 1 => any::<u32>().prop_map(f32::from_bits)]
}

/// Returns weights of usual sizes, and any finite weights.
fn finite() -> impl Strategy<Value = f32> {
    let any = any::<u32>().prop_map(f32::from_bits).prop_filter("finite", |x| x.is_finite());
    prop_oneof![16 => -3.0_f32..3.0, 1 => Just(0.0), 1 => -1e-30_f32..1e-30, 1 => any]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_decode_to_weights_of_their_own(bytes in prop::collection::vec(any::<u8>(), COLUMNS * 8)) {
        for ty in TYPES {
            let bytes = &bytes[..row_bytes(ty)];
            let row = decode_over(ty, bytes, 0.0);
            prop_assert_eq!(&row, &decode_over(ty, bytes, 1.0), "{} leaves weights unwritten", ty.name);
            let by_block: Vec<u32> = bytes.chunks(ty.bytes).flat_map(|b| decode_over(ty, b, 0.0)).collect();
            prop_assert_eq!(&row, &by_block, "{}: a block's weights depend on other blocks", ty.name);
        }
    }

    #[test]
    fn buffers_that_do_not_fit_do_not_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        weights in 0..600_usize,
    ) {
        for ty in TYPES {
            (ty.decode)(&bytes, &mut vec![0.0; weights]);
        }
    }

    #[test]
    fn any_weights_encode_to_bytes_that_depend_on_nothing_else(
        row in prop::collection::vec(weight(), COLUMNS),
        importance in prop::collection::vec(0.0_f32..10.0, COLUMNS),
    ) {
        for ty in TYPES {
            let Some(encode) = ty.encode else { continue };
            for importance in [None, Some(importance.as_slice())] {
                if importance.is_none() && ty.importance == Importance::Required {
                    continue;
                }
                let [over_zeros, over_ones] = [0x00, 0xff].map(|before| {
                    let mut bytes = vec![before; row_bytes(ty)];
                    encode(Isa::best(), &row, importance, &mut bytes);
                    bytes
                });
                prop_assert_eq!(over_zeros, over_ones, "{} leaves bytes unwritten", ty.name);
            }
        }
    }

    /// Rows have every length around those that fill the lanes, with whole blocks of zeros and of equal weights among
    /// them.
    #[test]
    fn every_instruction_set_writes_the_same_bytes(
        superblocks in 1_usize..20,
        weights in prop::collection::vec(finite(), 1024),
        importance in prop::collection::vec(prop_oneof![8 => 0.0_f32..10.0, 1 => Just(0.0)], 1024),
        levels in prop::collection::vec(prop_oneof![4 => Just(None), 1 => Just(Some(0.0)), 1 => Just(Some(-0.7))], 40),
    ) {
        let columns = 256 * superblocks;
        let row: Vec<f32> = (0..columns).map(|i| levels[i / 128].unwrap_or(weights[i * 7 % 1024])).collect();
        let importance: Vec<f32> = (0..columns).map(|i| importance[i * 5 % 1024]).collect();
        for ty in TYPES {
            let Some(encode) = ty.encode else { continue };
            for importance in [None, Some(importance.as_slice())] {
                if importance.is_none() && ty.importance == Importance::Required {
                    continue;
                }
                let encoded = |isa: Isa| {
                    let mut bytes = vec![0; ty.row_bytes(columns as u64).unwrap() as usize];
                    encode(isa, &row, importance, &mut bytes);
                    bytes
                };
                let all = Isa::available();
                let expected = encoded(all[0]);
                for &isa in &all[1..] {
                    let bytes = encoded(isa);
                    let differs = bytes.chunks(ty.bytes).zip(expected.chunks(ty.bytes)).position(|(a, b)| a != b);
                    prop_assert_eq!(differs, None, "{} {:?}, importance {}", ty.name, isa, importance.is_some());
                }
            }
        }
    }

    #[test]
    fn plain_numbers_survive_decoding_and_encoding(bytes in prop::collection::vec(any::<u8>(), COLUMNS * 4)) {
        for name in ["F32", "F16", "BF16"] {
            let ty = block::by_name(name).unwrap();
            let bytes = &bytes[..row_bytes(ty)];
            let mut weights = vec![0.0; COLUMNS];
            (ty.decode)(bytes, &mut weights);
            let mut again = vec![0; bytes.len()];
            ty.encode.unwrap()(Isa::best(), &weights, None, &mut again);
            let fields = bytes.chunks(ty.bytes).zip(again.chunks(ty.bytes)).zip(&weights);
            for ((field, again), weight) in fields {
                prop_assert!(field == again || weight.is_nan(), "{name}: {field:?} became {again:?}");
            }
        }
    }
}

#[test]
fn the_table_is_in_the_order_of_its_ids() {
    assert!(TYPES.is_sorted_by(|a, b| a.id < b.id));
}

#[test]
fn types_are_found_by_id_and_by_name_in_any_case() {
    for ty in TYPES {
        assert_eq!(block::by_id(ty.id).expect(ty.name).name, ty.name);
        assert_eq!(block::by_name(ty.name).expect(ty.name).id, ty.id);
        assert_eq!(block::by_name(&ty.name.to_lowercase()).expect(ty.name).id, ty.id);
    }
    assert!(block::by_id(4).is_none(), "Q4_2 is gone");
    assert!(block::by_name("Q4").is_none());
}

#[test]
fn rows_are_whole_blocks_and_their_size_does_not_wrap() {
    let ty = block::by_name("NVFP4").unwrap();
    assert_eq!(ty.row_bytes(192), Some(108));
    assert_eq!(ty.row_bytes(100), None);
    assert_eq!(block::by_name("F64").unwrap().row_bytes(u64::MAX), None);
    assert_eq!(block::by_name("IQ1_S").unwrap().bits_per_weight(), 1.5625);
}
