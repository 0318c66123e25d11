//! Importance matrices that must be refused, with the entry or the place, and the reason.
use crate::common::{Raw, Scratch, check_error, check_memory, data};
use kquant_formats::gguf::{Array, Metadata, TensorSpec, Value, layout};
use kquant_formats::imatrix::Imatrix;
use proptest::prelude::*;

type Case = (&'static str, Vec<u8>, &'static str);

fn entry(raw: Raw, name: &str, calls: i32, values: &[f32]) -> Raw {
    raw.i32(name.len() as i32).bytes(name.as_bytes()).i32(calls).i32(values.len() as i32).f32s(values)
}

fn legacy(entries: i32) -> Raw {
    Raw::default().i32(entries)
}

fn legacy_cases() -> Vec<Case> {
    let named = |length: i32| legacy(1).i32(length).bytes(b"name").i32(1).i32(1).f32s(&[1.0]);
    let sized = |count: i32| legacy(1).i32(1).bytes(b"t").i32(1).i32(count).f32s(&[1.0]);
    let valued = |value: f32| entry(legacy(1), "t", 1, &[1.0, value]);
    let good = || entry(legacy(1), "t", 1, &[1.0]);
    let cases: Vec<(&'static str, Raw, &'static str)> = vec![
        ("empty file", Raw::default(), "at byte 0: the entry count needs 4 bytes"),
        ("no entries", legacy(0).zeros(64), "at byte 0: claims 0 entries"),
        ("negative entries", legacy(-1).zeros(64), "at byte 0: the entry count is -1"),
        ("absurd entries", legacy(i32::MAX).zeros(64), "claims 2147483647 entries in 64 bytes"),
        ("text", Raw::default().bytes(b"{\"calibration\": [1, 2, 3, 4, 5]}"), "entries in 28 bytes"),
        ("negative name", named(-4), "at byte 4: the length of the name of entry 0 is -4"),
        ("empty name", named(0), "at byte 4: entry 0 has the name \"\""),
        ("absurd name", named(i32::MAX), "at byte 8: the name of entry 0 needs 2147483647 bytes"),
        (
            "name is no UTF-8",
            legacy(1).i32(1).u8(0xff).zeros(16),
            "at byte 8: the name of entry 0 is no UTF-8",
        ),
        ("zero in the name", legacy(1).i32(2).bytes(b"a\0").zeros(16), "entry 0 has the name \"a\\0\""),
        (
            "name twice",
            entry(entry(legacy(2), "t", 1, &[1.0]), "t", 1, &[1.0]),
            "at byte 21: entry \"t\" appears twice",
        ),
        ("negative calls", entry(legacy(1), "t", -1, &[1.0]), "at byte 9: the calls of entry \"t\" is -1"),
        ("no values", sized(0), "at byte 13: entry \"t\" has no values"),
        ("negative length", sized(-1), "at byte 13: the length of entry \"t\" is -1"),
        ("absurd length", sized(i32::MAX), "at byte 17: the values of entry \"t\" needs 8589934588 bytes"),
        ("NaN", valued(f32::NAN), "at byte 21: entry \"t\": value 1 is NaN"),
        ("infinity", valued(f32::INFINITY), "at byte 21: entry \"t\": value 1 is inf"),
        ("negative value", valued(-0.5), "at byte 21: entry \"t\": value 1 is -0.5"),
        (
            "fewer entries than claimed",
            entry(legacy(2), "t", 1, &[1.0; 9]),
            "the length of the name of entry 1 needs 4",
        ),
        ("chunk count cut", good().bytes(b"\x01\x02"), "at byte 21: the chunk count needs 4 bytes"),
        ("negative chunk count", good().i32(-5), "at byte 21: the chunk count is -5"),
        (
            "dataset cut",
            good().i32(1).i32(9).bytes(b"text"),
            "at byte 29: the dataset's name needs 9 bytes but 4",
        ),
        ("negative dataset", good().i32(1).i32(-9), "at byte 25: the length of the dataset's name is -9"),
        ("bytes after the end", good().i32(1).i32(1).bytes(b"txyz"), "at byte 30: 3 bytes follow the end"),
    ];
    cases.into_iter().map(|(case, raw, fragment)| (case, raw.0, fragment)).collect()
}

fn keys() -> Metadata {
    let mut metadata = Metadata::new();
    metadata.set("general.type", "imatrix".into());
    metadata.set("imatrix.chunk_count", Value::U32(1));
    metadata.set("imatrix.chunk_size", Value::U32(512));
    metadata.set("imatrix.datasets", Value::Array(Array::String(vec!["x".into()])));
    metadata
}

/// Returns a GGUF of F32 tensors.
fn gguf(metadata: &Metadata, tensors: &[(&str, &[u64], &[f32])]) -> Vec<u8> {
    let specs: Vec<_> = tensors
        .iter()
        .map(|(name, shape, values)| TensorSpec {
            name: (*name).into(),
            shape: shape.to_vec(),
            type_id: 0,
            bytes: 4 * values.len() as u64,
        })
        .collect();
    let raw = Raw(layout(metadata, &specs).unwrap().header);
    tensors.iter().fold(raw, |raw, (_, _, values)| raw.f32s(values).pad(32)).0
}

fn gguf_cases() -> Vec<Case> {
    let without = |key: &str| {
        let mut metadata = keys();
        metadata.remove(key);
        gguf(&metadata, &[])
    };
    let with = |key: &str, value: Value| {
        let mut metadata = keys();
        metadata.set(key, value);
        gguf(&metadata, &[])
    };
    let pair = |sums: &[f32], counts: &[f32]| {
        let (columns, matrices) = ([sums.len() as u64], [1, counts.len() as u64]);
        gguf(&keys(), &[("t.in_sum2", &columns, sums), ("t.counts", &matrices, counts)])
    };
    let mut half = gguf(&keys(), &[("t.in_sum2", &[4], &[1.0; 4])]);
    let record = half.windows(9).position(|w| w == b"t.in_sum2").unwrap();
    half[record + 9 + 4 + 8] = 1; // This byte is the type, which becomes F16.
    let mut model = Metadata::new();
    model.set("general.architecture", "llama".into());
    vec![
        (
            "a model",
            gguf(&model, &[]),
            "is no importance matrix: the key imatrix.chunk_count (u32) is missing",
        ),
        ("no chunk size", without("imatrix.chunk_size"), "the key imatrix.chunk_size (u32) is missing"),
        (
            "no datasets",
            without("imatrix.datasets"),
            "the key imatrix.datasets (array of strings) is missing",
        ),
        (
            "chunk count as text",
            with("imatrix.chunk_count", "1".into()),
            "imatrix.chunk_count (u32) is missing",
        ),
        (
            "datasets as text",
            with("imatrix.datasets", "x".into()),
            "imatrix.datasets (array of strings) is missing",
        ),
        ("no entries", gguf(&keys(), &[("other", &[1], &[1.0])]), "has no entries"),
        ("no counts", gguf(&keys(), &[("t.in_sum2", &[1], &[1.0])]), "entry \"t\": it has only one of"),
        ("no sums", gguf(&keys(), &[("t.counts", &[1], &[1.0])]), "entry \"t\": it has only one of"),
        ("sums in F16", half, "tensor \"t.in_sum2\": its type 1 is unknown"),
        (
            "5 sums, 2 matrices",
            pair(&[1.0; 5], &[1.0; 2]),
            "entry \"t\": 5 sums cannot be shared by 2 matrices",
        ),
        ("more matrices than sums", pair(&[1.0; 2], &[1.0; 4]), "2 sums cannot be shared by 4 matrices"),
        ("NaN sum", pair(&[1.0, f32::NAN], &[1.0]), "entry \"t\": sum 1 is NaN"),
        ("infinite sum", pair(&[f32::INFINITY], &[1.0]), "entry \"t\": sum 0 is inf"),
        ("negative sum", pair(&[-1.0], &[1.0]), "entry \"t\": sum 0 is -1"),
        ("NaN count", pair(&[1.0; 2], &[1.0, f32::NAN]), "entry \"t\": count 1 is NaN"),
        ("negative count", pair(&[1.0], &[-3.0]), "entry \"t\": count 0 is -3"),
        ("truncated", pair(&[1.0; 64], &[1.0])[..300].to_vec(), "of a file of 300"),
    ]
}

#[test]
fn malformed_files_are_refused() {
    let scratch = Scratch::new();
    for (case, bytes, fragment) in [legacy_cases(), gguf_cases()].concat() {
        let path = scratch.file("imatrix", &bytes);
        check_error(case, Imatrix::open(&path), &path, fragment);
    }
    check_memory();
}

fn valid_legacy() -> Vec<u8> {
    let raw = entry(entry(legacy(2), "first", 3, &[1.0, 2.0]), "second", 3, &[0.5]);
    raw.i32(3).i32(4).bytes(b"text").0
}

#[test]
fn truncations_are_refused_but_where_the_end_is_optional() {
    let scratch = Scratch::new();
    let valid = valid_legacy();
    for length in 0..valid.len() {
        let path = scratch.file("imatrix.dat", &valid[..length]);
        // A file may end after the entries, and after the chunk count.
        if length == valid.len() - 12 || length == valid.len() - 8 {
            Imatrix::open(&path).unwrap();
        } else {
            check_error(&format!("{length} bytes"), Imatrix::open(&path), &path, " at byte ");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_corrupted_legacy_byte_panics(at in 0..valid_legacy().len(), byte: u8) {
        let mut bytes = valid_legacy();
        bytes[at] = byte;
        let scratch = Scratch::new();
        if let Ok(matrix) = Imatrix::open(&scratch.file("imatrix.dat", &bytes)) {
            for entry in matrix.entries.values() {
                prop_assert_eq!(entry.importance().len(), entry.columns * entry.matrices);
            }
        }
    }

    #[test]
    fn no_corrupted_gguf_byte_panics(at in 0usize..3500, byte: u8, length in 0usize..3500) {
        let whole = std::fs::read(data("llama-5m.imatrix.gguf")).unwrap();
        let scratch = Scratch::new();
        let path = scratch.file("imatrix.gguf", &whole[..length]);
        prop_assert!(Imatrix::open(&path).is_err());
        let mut bytes = whole;
        bytes[at] = byte;
        if let Ok(matrix) = Imatrix::open(&scratch.file("imatrix.gguf", &bytes)) {
            for entry in matrix.entries.values() {
                prop_assert_eq!(entry.importance().len(), entry.columns * entry.matrices);
            }
        }
    }
}
