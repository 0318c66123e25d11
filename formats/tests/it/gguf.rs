//! Round trips of GGUF files byte for byte, and files that ggml wrote.
use std::fs;

use crate::common::{Raw, Scratch, data, types};
use kquant_formats::FormatError;
use kquant_formats::gguf::{Array, Gguf, Layout, Metadata, TensorInfo, TensorSpec, Value, layout};
use proptest::collection::vec;
use proptest::prelude::*;

fn number() -> impl Strategy<Value = f32> {
    any::<f32>().prop_filter("comparable", |v| !v.is_nan())
}

fn array() -> impl Strategy<Value = Array> {
    prop_oneof![
        vec(any::<u8>(), 0..9).prop_map(Array::U8),
        vec(any::<i8>(), 0..9).prop_map(Array::I8),
        vec(any::<u16>(), 0..9).prop_map(Array::U16),
        vec(any::<i16>(), 0..9).prop_map(Array::I16),
        vec(any::<u32>(), 0..9).prop_map(Array::U32),
        vec(any::<i32>(), 0..9).prop_map(Array::I32),
        vec(number(), 0..9).prop_map(Array::F32),
        vec(any::<bool>(), 0..9).prop_map(Array::Bool),
        vec(".{0,9}", 0..9).prop_map(Array::String),
        vec(any::<u64>(), 0..9).prop_map(Array::U64),
        vec(any::<i64>(), 0..9).prop_map(Array::I64),
        vec(number().prop_map(f64::from), 0..9).prop_map(Array::F64),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i8>().prop_map(Value::I8),
        any::<u16>().prop_map(Value::U16),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        number().prop_map(Value::F32),
        any::<bool>().prop_map(Value::Bool),
        ".{0,40}".prop_map(Value::String),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        number().prop_map(|v| Value::F64(v.into())),
        array().prop_map(Value::Array),
    ]
}

/// Generates keys and values in a random order, with or without an alignment among them.
fn metadata() -> impl Strategy<Value = Metadata> {
    let alignment = prop_oneof![Just(None), (0u32..=12).prop_map(|power| Some(1 << power))];
    (vec(("[a-z.]{1,12}", value()), 0..8), alignment, any::<prop::sample::Index>()).prop_map(
        |(mut entries, alignment, place)| {
            if let Some(alignment) = alignment {
                let at = place.index(entries.len() + 1);
                entries.insert(at, ("general.alignment".into(), Value::U32(alignment)));
            }
            let mut metadata = Metadata::new();
            entries.into_iter().for_each(|(key, value)| metadata.set(key, value));
            metadata
        },
    )
}

fn tensors() -> impl Strategy<Value = Vec<TensorSpec>> {
    let kind = prop_oneof![Just((0u32, 1u64)), Just((1, 1)), Just((8, 32))];
    let tensor = (kind, vec(1u64..5, 1..=4));
    vec(tensor, 0..6).prop_map(|list| {
        let spec = |(i, ((type_id, block), mut shape)): (usize, ((u32, u64), Vec<u64>))| {
            shape[0] *= block;
            let stored = types(type_id).unwrap();
            let bytes = shape.iter().product::<u64>() / stored.elements * stored.bytes;
            TensorSpec { name: format!("blk.{i}.weight"), shape, type_id, bytes }
        };
        list.into_iter().enumerate().map(spec).collect()
    })
}

/// Returns the whole file of `layout`, in which tensor i is filled with bytes of value i + 1.
fn file(layout: &Layout, tensors: &[TensorSpec]) -> Vec<u8> {
    let mut file = layout.header.clone();
    file.resize(layout.total as usize, 0);
    for (i, (tensor, &at)) in tensors.iter().zip(&layout.offsets).enumerate() {
        file[at as usize..][..tensor.bytes as usize].fill(i as u8 + 1);
    }
    file
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(metadata in metadata(), tensors in tensors()) {
        let layout = layout(&metadata, &tensors).unwrap();
        let scratch = Scratch::new();
        let gguf = Gguf::open(&scratch.file("m.gguf", &file(&layout, &tensors)), types).unwrap();

        let keys = |m: &Metadata| m.iter().map(|(k, v)| (k.to_owned(), v.clone())).collect::<Vec<_>>();
        prop_assert_eq!(keys(gguf.metadata()), keys(&metadata));
        prop_assert_eq!(gguf.version(), 3);
        if !tensors.is_empty() {
            prop_assert_eq!(&gguf.header_bytes(0).unwrap(), &layout.header);
        }
        prop_assert_eq!(gguf.tensors().len(), tensors.len());
        for (i, (read, written)) in gguf.tensors().iter().zip(&tensors).enumerate() {
            let TensorSpec { name, shape, type_id, bytes } = written.clone();
            let expected = TensorInfo { name, shape, type_id, offset: layout.offsets[i], bytes, shard: 0 };
            prop_assert_eq!(read, &expected);
            prop_assert_eq!(read.offset % gguf.alignment(), 0);
            prop_assert_eq!(gguf.data(read).unwrap(), vec![i as u8 + 1; bytes as usize]);
        }
    }
}

fn spec(name: &str, shape: &[u64]) -> TensorSpec {
    TensorSpec {
        name: name.into(),
        shape: shape.into(),
        type_id: 0,
        bytes: shape.iter().product::<u64>() * 4,
    }
}

#[test]
fn the_layout_is_ggml_s() {
    // ggml wrote this file, so its keys and tensors, laid out anew, must give its bytes.
    let path = data("llama-5m.imatrix.gguf");
    let gguf = Gguf::open(&path, types).unwrap();
    let specs: Vec<_> = gguf.tensors().iter().map(|t| spec(&t.name, &t.shape)).collect();
    let layout = layout(gguf.metadata(), &specs).unwrap();
    assert_eq!(layout.header, gguf.header_bytes(0).unwrap());
    assert_eq!(layout.total, fs::metadata(&path).unwrap().len());
    assert!(gguf.tensors().iter().map(|t| t.offset).eq(layout.offsets));
    assert_eq!(gguf.tensors().len(), 56);
}

#[test]
fn a_small_file_byte_by_byte() {
    let mut metadata = Metadata::new();
    metadata.set("k", Value::Array(Array::I16(vec![-2, 3])));
    metadata.set("general.alignment", Value::U32(8));
    let tensors = [spec("a", &[3]), spec("b", &[1, 2])];
    let layout = layout(&metadata, &tensors).unwrap();
    let expected = Raw::default()
        .bytes(b"GGUF\x03\0\0\0\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0")
        .bytes(b"\x01\0\0\0\0\0\0\0k\x09\0\0\0\x03\0\0\0\x02\0\0\0\0\0\0\0\xfe\xff\x03\0")
        .bytes(b"\x11\0\0\0\0\0\0\0general.alignment\x04\0\0\0\x08\0\0\0")
        .bytes(b"\x01\0\0\0\0\0\0\0a\x01\0\0\0\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")
        .bytes(b"\x01\0\0\0\0\0\0\0b\x02\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\0")
        .pad(8);
    assert_eq!(layout.header, expected.0);
    let start = expected.0.len() as u64;
    assert_eq!(layout.offsets, [start, start + 16]);
    assert_eq!(layout.total, start + 24);
}

#[test]
fn version_2_and_absent_padding_are_read() {
    let tensors = [spec("a", &[3]), spec("b", &[5])];
    let layout = layout(&Metadata::new(), &tensors).unwrap();
    let mut bytes = file(&layout, &tensors);
    bytes[4] = 2;
    bytes.truncate(layout.offsets[1] as usize + 20);
    let scratch = Scratch::new();
    let gguf = Gguf::open(&scratch.file("m.gguf", &bytes), types).unwrap();
    assert_eq!(gguf.version(), 2);
    assert_eq!(gguf.data(&gguf.tensors()[0]).unwrap(), [1; 12]);
    assert_eq!(gguf.data(&gguf.tensors()[1]).unwrap(), [2; 20]);
}

#[test]
fn a_tensor_of_another_file_has_no_data() {
    let gguf = Gguf::open(&data("llama-5m.imatrix.gguf"), types).unwrap();
    let mut foreign = gguf.tensors()[0].clone();
    foreign.offset = u64::MAX;
    assert!(gguf.data(&foreign).is_err());
    foreign.shard = 7;
    assert!(gguf.data(&foreign).is_err());
    assert!(gguf.header_bytes(7).is_err());
}

#[test]
fn what_cannot_be_written_is_refused() {
    let key = |key: &str, value| {
        let mut metadata = Metadata::new();
        metadata.set(key, value);
        metadata
    };
    let none = Metadata::new();
    let mut huge = spec("t", &[4]);
    huge.bytes = u64::MAX - 8;
    let cases: Vec<(Metadata, Vec<TensorSpec>, &str)> = vec![
        (key("", Value::U8(0)), vec![], "a metadata key is empty"),
        (key("general.alignment", Value::U32(0)), vec![], "general.alignment is 0"),
        (key("general.alignment", Value::U32(48)), vec![], "general.alignment is 48"),
        (key("general.alignment", Value::U32(1 << 25)), vec![], "general.alignment is 33554432"),
        (key("general.alignment", Value::U64(32)), vec![], "of type u64"),
        (none.clone(), vec![spec("", &[1])], "an empty name"),
        (none.clone(), vec![spec(&"n".repeat(64), &[1])], "has 64 bytes"),
        (none.clone(), vec![spec("t", &[1]), spec("t", &[1])], "two tensors are called \"t\""),
        (none.clone(), vec![spec("t", &[])], "it has 0 dimensions"),
        (none.clone(), vec![spec("t", &[1; 5])], "it has 5 dimensions"),
        (none.clone(), vec![spec("t", &[0, 3])], "empty dimension"),
        (none, vec![huge], "do not fit 64 bits"),
    ];
    for (metadata, tensors, fragment) in cases {
        let error = layout(&metadata, &tensors).unwrap_err();
        assert!(matches!(error, FormatError::Invalid { .. }));
        assert!(error.to_string().contains(fragment), "expected {fragment:?} in: {error}");
    }
}

#[test]
fn a_name_of_63_bytes_is_written() {
    layout(&Metadata::new(), &[spec(&"n".repeat(63), &[1])]).unwrap();
}
