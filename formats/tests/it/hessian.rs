//! Statistics files: round trips, and files that must be refused.
use crate::common::seeds::statistics::{TEXT, description, entry, fishers, group, write};
use crate::common::{Scratch, check_error, check_memory, data};
use kquant_formats::FormatError;
use kquant_formats::gguf::{Array, Metadata, TensorSpec, Value, layout};
use kquant_formats::hessian::{
    Description, Group, GroupSums, Half, HessianFile, HessianWriter, packed, packed_row,
};
use kquant_formats::imatrix::{Entry, Imatrix};
use proptest::prelude::*;

#[test]
fn what_is_written_is_read() {
    let scratch = Scratch::new();
    let path = scratch.path().join("statistics.gguf");
    write(&path).unwrap();
    assert!(HessianFile::is_at(&path).unwrap());
    let file = HessianFile::open(&path).unwrap();
    assert_eq!(file.description(), &description());
    assert_eq!(["k", "o", "v"].map(|name| file.group_of(name)), [Some(0), Some(1), None]);
    assert_eq!(file.squares(1).unwrap(), [[2.0, 0.0], [1e-17, 0.0]]);
    assert_eq!(Half::ALL.map(|half| file.tokens((1, 0), half)), [768, 512]);
    let mut sums = [10.0; 3];
    file.add_outer((1, 0), Half::HeldOut, &mut sums).unwrap();
    assert_eq!(sums, [10.5, 9.75, 18.0]);
    let mut sums = [0.0; 6];
    file.add_outer((0, 0), Half::Train, &mut sums).unwrap();
    assert_eq!(sums, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert!(
        file.add_outer((0, 0), Half::Train, &mut [0.0; 5]).is_err()
            && file.add_outer((2, 0), Half::Train, &mut []).is_err()
    );

    // Readers of importance matrices accept the file.
    let matrix = Imatrix::open(&path).unwrap();
    assert_eq!(&matrix, file.importance());
    assert_eq!(matrix.entries.keys().collect::<Vec<_>>(), ["k", "o", "q"]);
    assert_eq!((matrix.entries["k"].clone(), matrix.chunk_size), (entry(&[1.0, 4.0, 9.0], 1280.0), Some(64)));
}

#[test]
fn every_matrix_of_a_tensor_has_its_own_sums() {
    let scratch = Scratch::new();
    let path = scratch.path().join("statistics.gguf");
    let experts = Group { matrices: 3, ..group(&["gate", "up"], 2) };
    let description = Description { groups: vec![experts], ..description() };
    let writer = HessianWriter::create(&path, &description, false).unwrap();
    let sums = [1.0, 4.0, 0.0, 0.0, 9.0, 16.0];
    let entry = Entry {
        columns: 2,
        matrices: 3,
        sums: sums.map(|v: f64| v as f32).into(),
        counts: vec![5.0, 0.0, 7.0],
    };
    let tokens = [[5, 0], [0, 0], [4, 3]];
    let groups = GroupSums { entry: &entry, high: &sums, low: &[0.0; 6], tokens: &tokens };
    for matrix in [2, 0, 1] {
        writer.write_outer((0, matrix), Half::Train, &[matrix as f64, 0.5, 1.0]).unwrap();
        writer.write_outer((0, matrix), Half::HeldOut, &[0.0, 2.5, matrix as f64]).unwrap();
    }
    assert!(writer.write_outer((0, 3), Half::Train, &[0.0; 3]).is_err());
    assert!(writer.write_sums(0, &GroupSums { tokens: &tokens[1..], ..groups }).is_err());
    writer.write_sums(0, &groups).unwrap();
    writer.finish().unwrap();

    let file = HessianFile::open(&path).unwrap();
    assert_eq!(file.description(), &description);
    assert_eq!(file.importance().entries["up"], entry);
    assert_eq!(file.squares(0).unwrap(), [sums.to_vec(), vec![0.0; 6]]);
    for (matrix, tokens) in tokens.into_iter().enumerate() {
        assert_eq!(Half::ALL.map(|half| file.tokens((0, matrix), half)), tokens);
        let mut sums = [1.0; 3];
        file.add_outer((0, matrix), Half::HeldOut, &mut sums).unwrap();
        assert_eq!(sums, [1.0, 3.5, 1.0 + matrix as f64]);
    }
    assert!(file.add_outer((0, 3), Half::Train, &mut [0.0; 3]).is_err());
}

#[test]
fn fisher_matrices_are_read_as_they_were_written() {
    let scratch = Scratch::new();
    let path = scratch.path().join("statistics.gguf");
    let description =
        Description { groups: vec![group(&["q"], 3)], fishers: Some(fishers()), ..description() };
    let write = |act: &dyn Fn(&HessianWriter) -> Result<(), FormatError>| {
        let writer = HessianWriter::create(&path, &description, false)?;
        q(&writer, &[1.0; 3], [1.0; 3])?;
        Half::ALL.iter().try_for_each(|&half| writer.write_outer((0, 0), half, &[1.0; 6]))?;
        act(&writer)?;
        writer.finish()
    };
    let two = |writer: &HessianWriter, sums: &[f64]| {
        writer.write_fisher(1, 6, &[0.5, 0.0, 1.0, 2.0])?;
        writer.write_fisher(0, 5, sums)
    };
    for (case, result, fragment) in [
        ("one", write(&|w| w.write_fisher(0, 5, &[1.0; 3])), "1 parts of statistics were never written"),
        ("triangle", write(&|w| two(w, &[1.0; 4])), "the Fisher matrix of \"q\" has 3 values, not 4"),
        ("NaN", write(&|w| two(w, &[1.0, f64::NAN, 1.0])), "\"q\": a sum is not finite"),
        ("no such matrix", write(&|w| w.write_fisher(2, 5, &[])), "no Fisher matrix number 2"),
    ] {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(fragment) && scratch.names().is_empty(), "{case}: {message}");
    }
    write(&|writer| two(writer, &[1.0, -2.0, 3.0])).unwrap();
    let file = HessianFile::open(&path).unwrap();
    assert_eq!(file.description(), &description);
    assert_eq!([0, 1, 2].map(|number| file.fisher_tokens(number)), [5, 6, 0]);
    let (mut sums, mut diagonal) = ([10.0; 3], [0.0; 4]);
    file.add_fisher(0, &mut sums).unwrap();
    file.add_fisher(1, &mut diagonal).unwrap();
    assert_eq!((sums, diagonal), ([11.0, 8.0, 13.0], [0.5, 0.0, 1.0, 2.0]));
    assert!(file.add_fisher(0, &mut diagonal).is_err() && file.add_fisher(2, &mut []).is_err());
    assert_eq!(
        Imatrix::open(&path).unwrap().entries.len(),
        1,
        "for readers of importance matrices it is one"
    );
}

#[test]
fn rows_of_the_triangle_follow_each_other() {
    for n in [1, 2, 7, 64] {
        let mut next = 0;
        for row in 0..n {
            assert_eq!(packed_row(n, row), next..next + n - row);
            next += n - row;
        }
        assert_eq!(next, packed(n));
    }
}

/// Writes the sums of the first group of [`description`].
fn q(writer: &HessianWriter, sums: &[f32], high: [f64; 3]) -> Result<(), FormatError> {
    let entry = entry(sums, 1.0);
    writer.write_sums(0, &GroupSums { entry: &entry, high: &high, low: &[0.0; 3], tokens: &[[1, 0]] })
}

#[test]
fn nothing_is_left_of_what_cannot_be_written() {
    let scratch = Scratch::new();
    let path = scratch.path().join("statistics.gguf");
    let tried = |change: fn(&mut Description), act: fn(&HessianWriter) -> Result<(), FormatError>| {
        let mut description = description();
        change(&mut description);
        let writer = HessianWriter::create(&path, &description, false)?;
        act(&writer)?;
        writer.finish()
    };
    let same: fn(&mut Description) = |_| {};
    for (case, result, fragment) in [
        (
            "incomplete",
            tried(same, |w| q(w, &[1.0; 3], [1.0; 3])),
            "5 parts of statistics were never written",
        ),
        ("shape", tried(same, |w| q(w, &[1.0; 2], [1.0; 3])), "group \"q\" has 3 columns"),
        ("infinite sum", tried(same, |w| q(w, &[f32::INFINITY; 3], [1.0; 3])), "sum 0 is inf"),
        ("NaN sum", tried(same, |w| q(w, &[1.0; 3], [f64::NAN; 3])), "an exact sum is not finite"),
        (
            "triangle",
            tried(same, |w| w.write_outer((0, 0), Half::Train, &[0.0; 9])),
            "has 6 outer products, not 9",
        ),
        (
            "NaN",
            tried(same, |w| w.write_outer((0, 0), Half::Train, &[f64::NAN; 6])),
            "an outer product is not finite",
        ),
        ("no such group", tried(same, |w| w.write_outer((2, 0), Half::Train, &[])), "no group number 2"),
        ("no groups", tried(|d| d.groups.clear(), |_| Ok(())), "no tensors to collect statistics of"),
        ("space", tried(|d| d.groups[1].tensors[0] = "a b".into(), |_| Ok(())), "\"a b\" holds a space"),
        ("twice", tried(|d| d.groups[1].tensors[0] = "q".into(), |_| Ok(())), "are called \"q.in_sum2\""),
    ] {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(fragment), "{case}: {message}");
        assert!(scratch.names().is_empty(), "{case}: {:?}", scratch.names());
    }
}

/// A file put together by hand from F32 tensors (4 bytes per value) and F64 tensors.
#[derive(Clone)]
struct Parts {
    metadata: Metadata,
    tensors: Vec<(String, Vec<u64>, u32, Vec<f64>)>,
}

impl Parts {
    fn new() -> Self {
        let mut metadata = Metadata::new();
        let strings = |all: &[&str]| Value::Array(Array::String(all.iter().map(|&s| s.to_owned()).collect()));
        for (key, value) in [
            ("imatrix.datasets", strings(&["text"])),
            ("imatrix.chunk_count", Value::U32(20)),
            ("imatrix.chunk_size", Value::U32(64)),
            ("kquant.hessian.version", Value::U32(1)),
            ("kquant.hessian.block_tokens", Value::U32(512)),
            ("kquant.hessian.held_out_every", Value::U32(8)),
            ("kquant.hessian.groups", strings(&["q k"])),
            ("kquant.hessian.texts", strings(&[TEXT])),
            ("kquant.hessian.blocks", Value::Array(Array::U64(vec![0, 6, 9]))),
        ] {
            metadata.set(key, value);
        }
        let mut parts = Self { metadata, tensors: Vec::new() };
        for name in ["q", "k"] {
            parts.tensor(&format!("{name}.in_sum2"), &[2], 0, &[1.0, 2.0]);
            parts.tensor(&format!("{name}.counts"), &[1], 0, &[5.0]);
        }
        parts.tensor("q.in_sum2_exact", &[2, 2], 28, &[1.0, 2.0, 0.0, 0.0]);
        parts.tensor("q.in_outer.tokens", &[2], 28, &[3.0, 2.0]);
        parts.tensor("q.in_outer.train", &[3], 28, &[1.0, -1.0, 2.0]);
        parts.tensor("q.in_outer.held_out", &[3], 28, &[0.0, 0.0, 0.0]);
        parts
    }

    /// Returns a file that has Fisher matrices in addition.
    fn with_fisher(sums: &[f64]) -> Self {
        let mut parts = Self::new();
        parts.metadata.set("kquant.fisher.seed", Value::U64(9));
        parts.metadata.set("kquant.fisher.tensors", strings(&["q", "output.weight"]));
        parts.metadata.set("kquant.fisher.outputs", Value::Array(Array::U64(vec![2, 1])));
        parts.tensor("q.out_tokens", &[1], 28, &[5.0]);
        parts.tensor("q.out_outer", &[3], 28, sums);
        parts.tensor("output.weight.out_tokens", &[1], 28, &[5.0]);
        parts.tensor("output.weight.out_sum2", &[1], 28, &sums[2..]);
        parts
    }

    /// Adds a tensor or replaces it.
    fn tensor(&mut self, name: &str, shape: &[u64], type_id: u32, values: &[f64]) {
        let tensor = (name.to_owned(), shape.to_vec(), type_id, values.to_vec());
        match self.tensors.iter_mut().find(|t| t.0 == name) {
            Some(old) => *old = tensor,
            None => self.tensors.push(tensor),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let size = |type_id: u32| if type_id == 0 { 4 } else { 8 };
        let spec = |(name, shape, type_id, values): &(String, Vec<u64>, u32, Vec<f64>)| TensorSpec {
            name: name.clone(),
            shape: shape.clone(),
            type_id: *type_id,
            bytes: size(*type_id) * values.len() as u64,
        };
        let placed = layout(&self.metadata, &self.tensors.iter().map(spec).collect::<Vec<_>>()).unwrap();
        let mut bytes = placed.header;
        bytes.resize(placed.total as usize, 0);
        for ((_, _, type_id, values), offset) in self.tensors.iter().zip(placed.offsets) {
            let as_bytes = |v: &f64| {
                if *type_id == 0 { (*v as f32).to_le_bytes().to_vec() } else { v.to_le_bytes().to_vec() }
            };
            let data: Vec<u8> = values.iter().flat_map(as_bytes).collect();
            bytes[offset as usize..][..data.len()].copy_from_slice(&data);
        }
        bytes
    }
}

fn with_key(key: &str, value: Value) -> Vec<u8> {
    let mut parts = Parts::new();
    parts.metadata.set(key, value);
    parts.bytes()
}

fn without_key(key: &str) -> Vec<u8> {
    let mut parts = Parts::new();
    parts.metadata.remove(key);
    parts.bytes()
}

fn with_tensor(name: &str, shape: &[u64], type_id: u32, values: &[f64]) -> Vec<u8> {
    let mut parts = Parts::new();
    parts.tensor(name, shape, type_id, values);
    parts.bytes()
}

fn strings(all: &[&str]) -> Value {
    Value::Array(Array::String(all.iter().map(|&s| s.to_owned()).collect()))
}

fn cases() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let groups = |all: &[&str]| with_key("kquant.hessian.groups", strings(all));
    let blocks = |all: &[u64]| with_key("kquant.hessian.blocks", Value::Array(Array::U64(all.to_vec())));
    let number = |key: &str, value| with_key(key, Value::U32(value));
    let mut lacking = Parts::new();
    lacking.tensors.retain(|t| t.0 != "q.in_outer.train");
    vec![
        ("no version", without_key("kquant.hessian.version"), "holds no outer products of activations"),
        (
            "version",
            number("kquant.hessian.version", 2),
            "is a statistics file of version 2; version 1 is known",
        ),
        ("no importance", without_key("imatrix.datasets"), "is no importance matrix"),
        ("no blocks of tokens", without_key("kquant.hessian.block_tokens"), "block_tokens (u32) is missing"),
        (
            "ragged blocks",
            number("kquant.hessian.block_tokens", 500),
            "blocks of 500 tokens are no whole chunks of 64",
        ),
        ("empty blocks", number("kquant.hessian.block_tokens", 0), "blocks of 0 tokens"),
        ("empty chunks", number("imatrix.chunk_size", 0), "no whole chunks of 0"),
        ("all held out", number("kquant.hessian.held_out_every", 1), "held_out_every is 1"),
        (
            "no groups",
            without_key("kquant.hessian.groups"),
            "kquant.hessian.groups (array of strings) is missing",
        ),
        ("an unknown tensor", groups(&["q k v"]), "no entry for tensor \"v\""),
        ("two spaces", groups(&["q  k"]), "no entry for tensor \"\""),
        ("twice in a group", groups(&["q k q"]), "tensor \"q\" is in two groups"),
        ("twice", groups(&["q k", "q"]), "tensor \"q\" is in two groups"),
        ("left out", groups(&["q"]), "tensor \"k\" is in no group"),
        ("columns", with_tensor("k.in_sum2", &[3], 0, &[1.0; 3]), "\"q k\" differ in their columns"),
        ("no text", with_key("kquant.hessian.texts", strings(&["book"])), "\"book\" is no SHA-256 of a text"),
        (
            "no ranges",
            without_key("kquant.hessian.blocks"),
            "kquant.hessian.blocks (array of u64, three a range)",
        ),
        ("ragged ranges", blocks(&[0, 6]), "kquant.hessian.blocks (array of u64, three a range)"),
        ("range of no text", blocks(&[1, 6, 9]), "the range [1, 6, 9] of 1 texts"),
        ("empty range", blocks(&[0, 6, 6]), "the range [0, 6, 6]"),
        ("absurd range", blocks(&[u64::MAX, 0, u64::MAX]), "of 1 texts"),
        ("overlap", blocks(&[0, 6, 9, 0, 0, 7]), "blocks 6 to 6 of the text with SHA-256 0123"),
        ("no outer products", lacking.bytes(), "the tensor \"q.in_outer.train\" is missing"),
        (
            "no triangle",
            with_tensor("q.in_outer.train", &[4], 28, &[0.0; 4]),
            "\"q.in_outer.train\" has 32 bytes of type 28, expected are 3 values of F64",
        ),
        ("F32", with_tensor("q.in_outer.train", &[6], 0, &[0.0; 6]), "has 24 bytes of type 0"),
        ("squares", with_tensor("q.in_sum2_exact", &[3], 28, &[0.0; 3]), "\"q.in_sum2_exact\" has 24 bytes"),
        (
            "sums as F64",
            with_tensor("q.in_sum2", &[1], 28, &[0.0]),
            "entry \"q\": its sums and counts are not F32",
        ),
        (
            "count",
            with_tensor("q.in_outer.tokens", &[2], 28, &[3.0, 3.0]),
            "[3.0, 3.0] tokens of outer products",
        ),
        ("fraction", with_tensor("q.in_outer.tokens", &[2], 28, &[2.5, 2.5]), "[2.5, 2.5] tokens"),
        ("negative", with_tensor("q.in_outer.tokens", &[2], 28, &[7.0, -2.0]), "[7.0, -2.0] tokens"),
        ("NaN", with_tensor("q.in_outer.tokens", &[2], 28, &[f64::NAN, 0.0]), "[NaN, 0.0] tokens"),
        ("truncated", Parts::new().bytes()[..900].to_vec(), "of a file of 900"),
    ]
}

#[test]
fn malformed_files_are_refused() {
    let scratch = Scratch::new();
    HessianFile::open(&scratch.file("good.gguf", &Parts::new().bytes())).unwrap();
    for (case, bytes, fragment) in cases() {
        let path = scratch.file("statistics.gguf", &bytes);
        check_error(case, HessianFile::open(&path), &path, fragment);
    }
    check_memory();
}

#[test]
fn malformed_fisher_matrices_are_refused() {
    let scratch = Scratch::new();
    let good = Parts::with_fisher(&[1.0, -1.0, 2.0]);
    HessianFile::open(&scratch.file("good.gguf", &good.bytes())).unwrap();
    let with = |change: &dyn Fn(&mut Parts)| {
        let mut parts = good.clone();
        change(&mut parts);
        parts.bytes()
    };
    let outputs = |all: &[u64]| {
        let all = Value::Array(Array::U64(all.to_vec()));
        with(&|parts| parts.metadata.set("kquant.fisher.outputs", all.clone()))
    };
    let seed = |value: Value| with(&|parts| parts.metadata.set("kquant.fisher.seed", value.clone()));
    let tensor =
        |name: &str, values: &[f64]| with(&|parts| parts.tensor(name, &[values.len() as u64], 28, values));
    for (case, bytes, fragment) in [
        ("seed", seed(Value::U32(9)), "kquant.fisher.seed is no u64"),
        ("ragged", outputs(&[2]), "kquant.fisher.outputs (u64s) are not there or differ"),
        ("none", outputs(&[0, 1]), "\"q\" has none, or too many"),
        ("absurd", outputs(&[u64::MAX, 1]), "\"q\" has none, or too many"),
        (
            "many",
            outputs(&[1 << 31, 1]),
            "\"q.out_outer\" has 24 bytes of type 28, expected are 2305843010287435776",
        ),
        ("other", outputs(&[3, 1]), "\"q.out_outer\" has 24 bytes of type 28, expected are 6 values"),
        (
            "twice",
            with(&|parts| parts.metadata.set("kquant.fisher.tensors", strings(&["q", "q"]))),
            "kquant.fisher.tensors has \"q\" twice",
        ),
        (
            "lacking",
            with(&|parts| parts.tensors.retain(|t| t.0 != "output.weight.out_sum2")),
            "the tensor \"output.weight.out_sum2\" is missing",
        ),
        ("fraction", tensor("q.out_tokens", &[2.5]), "2.5 gradients of tensor \"q\""),
        ("NaN", tensor("q.out_tokens", &[f64::NAN]), "NaN gradients of tensor \"q\""),
    ] {
        let path = scratch.file("statistics.gguf", &bytes);
        check_error(case, HessianFile::open(&path), &path, fragment);
    }
    for (case, sums, number, fragment) in [
        ("NaN", [1.0, f64::NAN, 1.0], 0, "Fisher matrix of \"q\": value 1 is NaN"),
        ("negative", [1.0, -1.0, -0.5], 0, "Fisher matrix of \"q\": value 2 is -0.5"),
        ("negative diagonal", [1.0, -1.0, -0.5], 1, "Fisher matrix of \"output.weight\": value 0 is -0.5"),
    ] {
        let path = scratch.file("statistics.gguf", &Parts::with_fisher(&sums).bytes());
        let file = HessianFile::open(&path).unwrap();
        let mut into = vec![0.0; if number == 0 { 3 } else { 1 }];
        check_error(case, file.add_fisher(number, &mut into), &path, fragment);
    }
    check_memory();
}

/// Large sums are checked only when they are read.
#[test]
fn malformed_sums_are_refused() {
    let scratch = Scratch::new();
    for (case, values, fragment) in [
        ("NaN", [1.0, f64::NAN, 1.0], "group \"q\": outer product 1 is NaN"),
        ("infinity", [1.0, 0.0, f64::INFINITY], "group \"q\": outer product 2 is inf"),
        ("negative square", [1.0, -1.0, -0.5], "group \"q\": the square of column 1 is -0.5"),
    ] {
        let bytes = with_tensor("q.in_outer.held_out", &[3], 28, &values);
        let path = scratch.file("statistics.gguf", &bytes);
        let file = HessianFile::open(&path).unwrap();
        file.add_outer((0, 0), Half::Train, &mut [0.0; 3]).unwrap();
        check_error(case, file.add_outer((0, 0), Half::HeldOut, &mut [0.0; 3]), &path, fragment);
    }
    for (case, value) in [("NaN", f64::NAN), ("negative", -1.0)] {
        let bytes = with_tensor("q.in_sum2_exact", &[2, 2], 28, &[1.0, value, 0.0, 0.0]);
        let path = scratch.file("statistics.gguf", &bytes);
        check_error(case, HessianFile::open(&path).unwrap().squares(0), &path, "group \"q\": exact sum 1 is");
    }
}

#[test]
fn importance_matrices_and_others_are_told_apart() {
    let scratch = Scratch::new();
    for name in ["experts.imatrix.gguf", "experts.imatrix.dat"] {
        assert!(!HessianFile::is_at(&data(name)).unwrap(), "{name}");
    }
    assert!(!HessianFile::is_at(&scratch.file("empty", b"")).unwrap());
    let path = data("experts.imatrix.gguf");
    check_error("plain", HessianFile::open(&path), &path, "make it with kquant calibrate --hessian");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_corrupted_byte_panics(at in 0..Parts::with_fisher(&[1.0, -1.0, 2.0]).bytes().len(), byte: u8, length in 0usize..1800) {
        let whole = Parts::with_fisher(&[1.0, -1.0, 2.0]).bytes();
        let scratch = Scratch::new();
        let cut = whole[..length.min(whole.len())].to_vec();
        let mut changed = whole;
        changed[at] = byte;
        for bytes in [cut, changed] {
            let Ok(file) = HessianFile::open(&scratch.file("statistics.gguf", &bytes)) else { continue };
            for (i, fisher) in file.description().fishers.iter().flat_map(|all| &all.tensors).enumerate() {
                let _ = file.add_fisher(i, &mut vec![0.0; fisher.values()]);
            }
            for (i, group) in file.description().groups.iter().enumerate() {
                let mut sums = vec![0.0; group.packed()];
                let _ = (file.squares(i), file.add_outer((i, 0), Half::Train, &mut sums));
                prop_assert!(file.tokens((i, 0), Half::Train) <= 1 << 53);
            }
        }
    }
}
