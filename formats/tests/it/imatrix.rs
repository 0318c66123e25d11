//! Importance matrices as llama-imatrix writes them, and the numbers that llama-quantize derives from them.
use crate::common::{Raw, Scratch, data, types};
use kquant_formats::gguf::{Array, Gguf, Metadata, TensorSpec, Value, layout};
use kquant_formats::imatrix::{Entry, Imatrix};

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn a_gguf_matrix_is_read() {
    let matrix = Imatrix::open(&data("llama-5m.imatrix.gguf")).unwrap();
    assert_eq!(matrix.entries.len(), 28);
    assert_eq!(matrix.datasets, ["calibration-small.txt"]);
    assert_eq!((matrix.chunk_count, matrix.chunk_size), (Some(100), Some(256)));
    let entry = &matrix.entries["blk.0.attn_k.weight"];
    assert_eq!((entry.columns, entry.matrices), (256, 1));
    assert_eq!(entry.counts, [25600.0]);
    assert_eq!(entry.sums[..2], [4_816.404_3, 8_558.468]);
    // The quotients in f32 were computed independently of this code.
    assert_eq!(bits(&entry.importance()[..2]), [0x3e40_a7fb, 0x3eab_2b5b]);
    assert_eq!(matrix.entries["blk.0.ffn_down.weight"].columns, 768);
}

#[test]
fn a_legacy_matrix_is_read() {
    let matrix = Imatrix::open(&data("llama-5m.imatrix.dat")).unwrap();
    assert_eq!(matrix.entries.len(), 28);
    assert_eq!(matrix.datasets, ["calibration-small.txt"]);
    assert_eq!((matrix.chunk_count, matrix.chunk_size), (Some(20), None));
    let entry = &matrix.entries["blk.0.attn_k.weight"];
    assert_eq!((entry.columns, entry.matrices), (256, 1));
    assert_eq!(entry.counts, [20.0]);
    assert_eq!(bits(&entry.importance()[..2]), [0x3e45_751e, 0x3ea7_b031]);
    let last = matrix.entries["blk.3.ffn_up.weight"].importance();
    assert_eq!(last[255].to_bits(), 0x3f9a_01f6);
}

#[test]
fn both_formats_know_the_same_tensors() {
    let open = |name| Imatrix::open(&data(name)).unwrap().entries;
    let (gguf, dat) = (open("llama-5m.imatrix.gguf"), open("llama-5m.imatrix.dat"));
    let sizes = |entries: &std::collections::BTreeMap<String, Entry>| {
        entries.iter().map(|(name, e)| (name.clone(), e.sums.len())).collect::<Vec<_>>()
    };
    assert_eq!(sizes(&gguf), sizes(&dat));
}

/// Writes and reads a GGUF matrix of one entry with three experts of two columns.
fn experts(counts: [f32; 3]) -> Entry {
    let mut metadata = Metadata::new();
    metadata.set("imatrix.chunk_count", Value::U32(1));
    metadata.set("imatrix.chunk_size", Value::U32(512));
    metadata.set("imatrix.datasets", Value::Array(Array::String(vec![])));
    let spec = |name: &str, shape: &[u64]| {
        let bytes = shape.iter().product::<u64>() * 4;
        TensorSpec { name: name.into(), shape: shape.into(), type_id: 0, bytes }
    };
    let tensors = [spec("t.in_sum2", &[2, 3]), spec("t.counts", &[1, 3])];
    let header = layout(&metadata, &tensors).unwrap().header;
    let file = Raw(header).f32s(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).pad(32).f32s(&counts).pad(32);
    let scratch = Scratch::new();
    let path = scratch.file("m.gguf", &file.0);
    assert_eq!(Gguf::open(&path, types).unwrap().tensors().len(), 2);
    Imatrix::open(&path).unwrap().entries.remove("t").unwrap()
}

#[test]
fn each_expert_has_its_own_count() {
    let entry = experts([2.0, 0.0, 3.0]);
    assert_eq!((entry.columns, entry.matrices), (2, 3));
    // No tokens reached the second expert, so it gets ones.
    assert_eq!(entry.importance(), [0.5, 1.0, 1.0, 1.0, 5.0 / 3.0, 2.0]);
}

#[test]
fn counts_are_rounded_to_whole_numbers() {
    let entry = experts([2.4, 2.5, 0.4]);
    assert_eq!(entry.counts, [2.0, 3.0, 0.0]);
    assert_eq!(entry.importance(), [0.5, 1.0, 1.0, 4.0 / 3.0, 1.0, 1.0]);
}

/// Returns a legacy file of one entry "t" with `calls` calls and two values, to which an end can be appended.
fn legacy(calls: i32) -> Raw {
    Raw::default().i32(1).i32(1).bytes(b"t").i32(calls).i32(2).f32s(&[3.0, 6.0])
}

#[test]
fn legacy_values_without_calls_are_taken_as_they_are() {
    let scratch = Scratch::new();
    let matrix = Imatrix::open(&scratch.file("m.dat", &legacy(0).0)).unwrap();
    assert_eq!(matrix.entries["t"].importance(), [3.0, 6.0]);
    let matrix = Imatrix::open(&scratch.file("m.dat", &legacy(4).0)).unwrap();
    assert_eq!(matrix.entries["t"].importance(), [0.75, 1.5]);
}

#[test]
fn the_end_of_legacy_files_is_optional() {
    let scratch = Scratch::new();
    let open = |raw: Raw| Imatrix::open(&scratch.file("m.dat", &raw.0)).unwrap();
    let read = open(legacy(1));
    assert_eq!((read.chunk_count, read.datasets.len()), (None, 0));
    let read = open(legacy(1).i32(9));
    assert_eq!((read.chunk_count, read.datasets.len()), (Some(9), 0));
    let read = open(legacy(1).i32(9).i32(0));
    assert_eq!((read.chunk_count, read.datasets.len()), (Some(9), 0));
    let read = open(legacy(1).i32(9).i32(2).bytes(b"ab"));
    assert_eq!((read.chunk_count, read.datasets), (Some(9), vec!["ab".to_owned()]));
}
