//! Ranges of types: what is inside is held, what is outside is noticed.

use kquant_kernels::block::{self, BlockType, TYPES};
use kquant_kernels::codec::{Codec, Float, VectorCodec};
use kquant_kernels::isa::Isa;

const COLUMNS: usize = 512;

/// Usual weights, but for one.
fn row_with(weight: f32, at: usize) -> Vec<f32> {
    let mut row: Vec<f32> = (0..COLUMNS).map(|k| (k * 7919 % 211) as f32 / 105.5 - 1.0).collect();
    row[at] = weight;
    row
}

fn encoded(ty: &BlockType, row: &[f32]) -> Vec<u8> {
    encoded_by(ty, row, Some(&[1.0; COLUMNS]))
}

fn encoded_by(ty: &BlockType, row: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    let mut bytes = vec![0; ty.row_bytes(COLUMNS as u64).unwrap() as usize];
    (ty.encode.unwrap())(Isa::current(), row, importance, &mut bytes);
    bytes
}

fn with_range() -> impl Iterator<Item = &'static BlockType> {
    TYPES.iter().copied().filter(|ty| ty.encode.is_some() && ty.limits.high < f32::INFINITY)
}

#[test]
fn all_types_but_two_have_a_range() {
    let without = TYPES.iter().filter(|ty| ty.encode.is_some() && ty.limits.high.is_infinite());
    assert_eq!(without.map(|ty| ty.name).collect::<Vec<_>>(), ["F32", "MXFP4"]);
}

/// What is well inside the range is held, as nearly as the type can.
#[test]
fn weights_inside_the_range_are_held() {
    for ty in with_range().filter(|ty| ty.name != "Q1_0") {
        for weight in [0.45 * ty.limits.high, 0.45 * ty.limits.low] {
            assert!(ty.limits.holds(weight));
            let bytes = encoded(ty, &row_with(weight, 300));
            assert_eq!((ty.limits.overflowed)(&bytes), None, "{} {weight}", ty.name);
            let mut decoded = vec![0.0; COLUMNS];
            (ty.decode)(&bytes, &mut decoded);
            let ratio = decoded[300] / weight;
            assert!(ratio > 0.8 && ratio < 1.25, "{} {weight}: {}", ty.name, decoded[300]);
        }
    }
}

/// Past the range ggml's encoders write an infinite scale, or else the range alone shows it.
#[test]
fn weights_past_the_range_are_noticed() {
    for ty in with_range() {
        for weight in [ty.limits.high, ty.limits.low, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(!ty.limits.holds(weight), "{} {weight}", ty.name);
        }
        for weight in [1.5 * ty.limits.high, 1.5 * ty.limits.low].into_iter().filter(|_| ty.quantized) {
            let bytes = encoded(ty, &row_with(weight, 300));
            let expected = (ty.name != "NVFP4").then_some(300 / ty.elements);
            assert_eq!((ty.limits.overflowed)(&bytes), expected, "{} {weight}", ty.name);
        }
    }
    // An offset that no f16 holds, under weights inside the range: with importance it would be zero.
    for name in ["Q4_1", "Q5_1"] {
        let ty = block::by_name(name).unwrap();
        let row: Vec<f32> = row_with(0.0, 0).iter().map(|w| 1e5 + w).collect();
        assert!(row.iter().all(|&w| ty.limits.holds(w)));
        assert_eq!((ty.limits.overflowed)(&encoded_by(ty, &row, None)), Some(0), "{name}");
    }
}

#[test]
fn infinite_codes_of_mxfp4_are_noticed() {
    let ty = block::by_name("MXFP4").unwrap();
    for (exponent, codes, expected) in
        [(252, 0x77, None), (253, 0x55, None), (253, 0x77, Some(1)), (254, 0x17, Some(1)), (255, 0x11, None)]
    {
        let mut blocks = vec![0; 2 * ty.bytes];
        blocks[ty.bytes..].fill(codes);
        blocks[ty.bytes] = exponent;
        assert_eq!((ty.limits.overflowed)(&blocks), expected, "{exponent} {codes:#x}");
    }
}

#[test]
fn plain_numbers_are_held_up_to_what_rounds_to_infinity() {
    for name in ["F16", "BF16"] {
        let ty = block::by_name(name).unwrap();
        let below = f32::from_bits(ty.limits.high.to_bits() - 1);
        let decoded = |weight: f32| {
            let (bytes, mut decoded) = (encoded(ty, &row_with(weight, 0)), vec![0.0; COLUMNS]);
            (ty.decode)(&bytes, &mut decoded);
            decoded[0]
        };
        assert!(decoded(below).is_finite() && decoded(-below).is_finite(), "{name}");
        assert!(decoded(ty.limits.high).is_infinite() && decoded(ty.limits.low).is_infinite(), "{name}");
    }
}

/// The ranges are those that the codecs describe.
#[test]
fn ranges_are_those_of_the_lattices() {
    for ty in TYPES {
        let Some(codec) = Codec::of(ty).or_else(|| VectorCodec::of(ty).map(|v| &v.codec)) else { continue };
        let past = match codec.float {
            Float::F16 => 65520.0,
            Float::Ue4m3 => 232.0,
            Float::E8M0 => f32::INFINITY,
        };
        let magnitude = |all: &mut dyn Iterator<Item = f32>| all.map(f32::abs).fold(0.0, f32::max);
        let scales = [*codec.scales.start(), *codec.scales.end()].map(f32::from);
        let high = magnitude(&mut scales.into_iter()) * magnitude(&mut codec.levels.iter().copied());
        let (own, offset) = (f32::from(*codec.offsets.start()), f32::from(*codec.offsets.end()));
        // Where the offset is a number of its own it can be above zero.
        assert_eq!(ty.limits.high, past * (high + own), "{}", ty.name);
        assert_eq!(ty.limits.low, if offset > 0.0 { -past * offset } else { -ty.limits.high }, "{}", ty.name);
    }
}
