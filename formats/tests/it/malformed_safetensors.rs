//! Safetensors files and folders that must be refused, with the place and the reason.
use std::fs;

use crate::common::{Raw, Scratch, check_error, check_memory};
use kquant_formats::safetensors::SafeTensors;
use proptest::prelude::*;

const INDEX: &str = "model.safetensors.index.json";

fn file(header: &str, data: usize) -> Raw {
    Raw::default().u64(header.len() as u64).bytes(header.as_bytes()).zeros(data)
}

/// Returns a tensor's entry in a header.
fn entry(name: &str, dtype: &str, shape: &str, from: u64, to: u64) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
}

/// Returns a file with these entries and `data` bytes of data.
fn entries(list: &[String], data: usize) -> Raw {
    file(&format!("{{{}}}", list.join(",")), data)
}

fn one(dtype: &str, shape: &str, from: u64, to: u64, data: usize) -> Raw {
    entries(&[entry("t", dtype, shape, from, to)], data)
}

type Case = (&'static str, Raw, &'static str);

fn header_cases() -> Vec<Case> {
    let twice = [entry("t", "F32", "[1]", 0, 4), entry("t", "F32", "[1]", 4, 8)];
    vec![
        ("empty file", Raw::default(), "at byte 0: the length of the header needs 8 bytes"),
        (
            "header longer than the file",
            Raw::default().u64(50).zeros(9),
            "at byte 8: the header needs 50 bytes but 9",
        ),
        ("header of 2^63 bytes", Raw::default().u64(1 << 63), "the header is 9223372036854775808 bytes long"),
        ("a GGUF", Raw::default().bytes(b"GGUF\x03\0\0\0").zeros(99), "bytes long; the most is 100000000"),
        ("no UTF-8", Raw::default().u64(3).bytes(b"{\xff}"), "at byte 9: the header is no UTF-8"),
        ("no JSON", file("{\"t\": nonsense}", 0), "at byte 15: the header is malformed"),
        ("JSON not closed", file("{\"t\": {", 0), "the header is malformed: "),
        ("empty header", file("", 0), "the header is malformed"),
        ("a list", file("[1, 2]", 0), "expected an object of tensors"),
        ("JSON nested deeply", file(&"{\"t\":".repeat(100_000), 0), "the header is malformed"),
        ("two JSON values", file("{} {}", 0), "trailing characters"),
        ("name twice", entries(&twice, 8), "\"t\" appears twice"),
        ("entry is a number", file(r#"{"t":3}"#, 0), "\"t\": invalid type: integer"),
        ("no dtype", file(r#"{"t":{"shape":[],"data_offsets":[0,0]}}"#, 0), "\"t\": missing field `dtype`"),
        (
            "no shape",
            file(r#"{"t":{"dtype":"F32","data_offsets":[0,0]}}"#, 0),
            "\"t\": missing field `shape`",
        ),
        ("no offsets", file(r#"{"t":{"dtype":"F32","shape":[]}}"#, 0), "\"t\": missing field `data_offsets`"),
        ("metadata of numbers", file(r#"{"__metadata__":{"a":1}}"#, 0), "\"__metadata__\": invalid type"),
        ("unknown dtype", one("F33", "[1]", 0, 4, 4), "\"t\": unknown variant `F33`"),
        ("negative dimension", one("F32", "[-1]", 0, 4, 4), "\"t\": invalid value: integer `-1`"),
        ("fractional dimension", one("F32", "[1.5]", 0, 6, 6), "\"t\": invalid type: floating point"),
        ("dimension over 64 bits", one("F32", "[18446744073709551616]", 0, 4, 4), "\"t\": invalid type"),
    ]
}

fn placement_cases() -> Vec<Case> {
    // Eight of these add up to just under 2^64 bytes, so that the sum with the header overflows.
    let step = (1 << 61) - 1;
    let exabytes: Vec<_> = (0..8)
        .map(|i| entry(&format!("t{i}"), "U8", &format!("[{step}]"), i * step, (i + 1) * step))
        .collect();
    let pair = |a: (u64, u64), b: (u64, u64), data| {
        entries(&[entry("a", "F32", "[1]", a.0, a.1), entry("b", "F32", "[1]", b.0, b.1)], data)
    };
    vec![
        (
            "packed dtype",
            one("F4", "[2]", 0, 1, 1),
            "tensor \"t\" is of type F4, less than a byte per element",
        ),
        (
            "dtype too small",
            one("F16", "[2]", 0, 8, 8),
            "tensor \"t\": F16 of shape [2] needs 4 bytes, not 8",
        ),
        (
            "dtype too large",
            one("F64", "[2]", 0, 8, 8),
            "tensor \"t\": F64 of shape [2] needs 16 bytes, not 8",
        ),
        ("empty tensor of 4 bytes", one("F32", "[0]", 0, 4, 4), "needs 0 bytes, not 4"),
        (
            "shape overflows",
            one("F32", "[4294967296, 4294967296]", 0, 4, 4),
            "needs more than 64 bits can count bytes",
        ),
        (
            "offsets reversed",
            one("F32", "[1]", 4, 0, 4),
            "tensor \"t\": its data_offsets 4 and 0 are no range",
        ),
        ("offset near 2^64", one("U8", "[1]", u64::MAX - 1, u64::MAX, 4), "are no range of bytes"),
        ("hole at the start", one("F32", "[1]", 4, 8, 8), "expected 62: a hole before it"),
        (
            "hole",
            pair((0, 4), (8, 12), 12),
            "tensor \"b\": its data start at byte 124, expected 120: a hole before it",
        ),
        (
            "overlap",
            pair((0, 4), (2, 6), 6),
            "tensor \"b\": its data start at byte 117, expected 119: overlaps",
        ),
        (
            "same place",
            pair((0, 4), (0, 4), 4),
            "tensor \"b\": its data start at byte 115, expected 119: overlaps",
        ),
        ("data past the end", one("F32", "[2]", 0, 8, 7), "its data are bytes 62 to 70 of a file of 69"),
        ("exabytes", one("U8", "[1152921504606846976]", 0, 1 << 60, 4), "of a file of "),
        ("sizes overflow in sum", entries(&exabytes, 4), "of a file of "),
        ("bytes left over", one("F32", "[1]", 0, 4, 7), "at byte 66: the last 3 bytes belong to no tensor"),
        ("data without tensors", file("{}", 4), "at byte 10: the last 4 bytes belong to no tensor"),
    ]
}

#[test]
fn malformed_files_are_refused() {
    let scratch = Scratch::new();
    for (case, raw, fragment) in [header_cases(), placement_cases()].concat() {
        let path = scratch.file("model.safetensors", &raw.0);
        check_error(case, SafeTensors::open(&path), &path, fragment);
    }
    check_memory();
}

fn valid() -> Vec<u8> {
    entries(&[entry("a", "F16", "[2, 3]", 0, 12), entry("b", "I8", "[]", 12, 13)], 13).0
}

#[test]
fn every_truncation_is_refused() {
    let scratch = Scratch::new();
    let valid = valid();
    for length in 0..valid.len() {
        let path = scratch.file("m.safetensors", &valid[..length]);
        check_error(&format!("{length} bytes"), SafeTensors::open(&path), &path, " at byte ");
    }
    assert_eq!(SafeTensors::open(&scratch.file("m.safetensors", &valid)).unwrap().tensors().len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_corrupted_byte_panics(at in 0..valid().len(), byte: u8) {
        let mut bytes = valid();
        bytes[at] = byte;
        let scratch = Scratch::new();
        if let Ok(checkpoint) = SafeTensors::open(&scratch.file("m.safetensors", &bytes)) {
            for (i, tensor) in checkpoint.tensors().iter().enumerate() {
                prop_assert_eq!(checkpoint.data(i).unwrap().len() as u64, tensor.bytes);
            }
        }
    }
}

/// Makes a folder of two shards, `a` and `b` in one, `c` in two, with an index of the given weight_map.
fn folder(weight_map: &str) -> Scratch {
    let scratch = Scratch::new();
    let one = entries(&[entry("a", "F32", "[1]", 0, 4), entry("b", "F32", "[1]", 4, 8)], 8);
    scratch.file("one.safetensors", &one.0);
    scratch.file("two.safetensors", &entries(&[entry("c", "F32", "[1]", 0, 4)], 4).0);
    scratch.file(INDEX, format!(r#"{{"metadata":{{}},"weight_map":{weight_map}}}"#).as_bytes());
    scratch
}

#[test]
fn an_index_that_disagrees_with_its_files_is_refused() {
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "missing and escaping files, all in one error",
            r#"{"a":"one.safetensors","x":"gone.safetensors","y":"gone.safetensors","z":"../one.safetensors"}"#,
            &["\"../one.safetensors\" does not lie in", "gone.safetensors is missing (2 tensors)"],
        ),
        ("absolute path", r#"{"a":"/etc/passwd"}"#, &["\"/etc/passwd\" does not lie in"]),
        ("detour", r#"{"a":"x/../one.safetensors"}"#, &["does not lie in"]),
        ("empty file name", r#"{"a":""}"#, &["\"\" does not lie in"]),
        ("the folder itself", r#"{"a":"."}"#, &["\".\" does not lie in"]),
        (
            "extra tensor in a file",
            r#"{"a":"one.safetensors","c":"two.safetensors"}"#,
            &["\"b\" is in one.safetensors but listed nowhere"],
        ),
        (
            "missing tensor",
            r#"{"a":"one.safetensors","b":"one.safetensors","c":"two.safetensors","d":"two.safetensors"}"#,
            &["\"d\" is not in two.safetensors"],
        ),
        (
            "misplaced tensor",
            r#"{"a":"one.safetensors","b":"two.safetensors","c":"two.safetensors"}"#,
            &["\"b\" is in one.safetensors but listed in two.safetensors", "\"b\" is not in two.safetensors"],
        ),
        ("no tensors", "{}", &["it lists no tensors"]),
        ("weight_map is a list", "[]", &["is no index of weights"]),
        ("file is a number", r#"{"a":1}"#, &["is no index of weights", "line 1"]),
    ];
    for (case, weight_map, fragments) in cases {
        let scratch = folder(weight_map);
        for fragment in *fragments {
            check_error(case, SafeTensors::open(scratch.path()), &scratch.path().join(INDEX), fragment);
        }
    }
}

#[test]
fn long_lists_of_problems_are_cut() {
    let list: Vec<String> = (0..25).map(|i| format!(r#""t{i}":"gone-{i:02}.safetensors""#)).collect();
    let scratch = folder(&format!("{{{}}}", list.join(",")));
    let message = SafeTensors::open(scratch.path()).unwrap_err().to_string();
    assert!(message.contains("gone-09.safetensors is missing (1 tensors) and 15 more"), "{message}");
}

#[test]
fn index_files_that_are_no_index_are_refused() {
    for (case, bytes) in [("no JSON", &b"{"[..]), ("empty", b""), ("no weight_map", b"{\"metadata\":{}}")] {
        let scratch = Scratch::new();
        let path = scratch.file(INDEX, bytes);
        check_error(case, SafeTensors::open(scratch.path()), &path, "is no index of weights");
    }
}

#[test]
fn a_malformed_shard_is_named() {
    let scratch = folder(r#"{"a":"one.safetensors","b":"one.safetensors","c":"two.safetensors"}"#);
    SafeTensors::open(scratch.path()).unwrap();
    let path = scratch.file("two.safetensors", b"");
    check_error(
        "empty shard",
        SafeTensors::open(scratch.path()),
        &path,
        "the length of the header needs 8 bytes",
    );
}

#[test]
fn folders_without_a_clear_choice_are_refused() {
    let scratch = Scratch::new();
    check_error("empty", SafeTensors::open(scratch.path()), scratch.path(), "is an empty folder");
    scratch.file("pytorch_model.bin", b"");
    scratch.file("config.json", b"{}");
    check_error(
        "none",
        SafeTensors::open(scratch.path()),
        scratch.path(),
        "only config.json, pytorch_model.bin",
    );
    scratch.file("b.safetensors", &valid());
    SafeTensors::open(scratch.path()).unwrap();
    scratch.file("a.safetensors", &valid());
    let fragment = "has 2 safetensors files but neither model.safetensors nor model.safetensors.index.json: a.safetensors";
    check_error("two", SafeTensors::open(scratch.path()), scratch.path(), fragment);
    let gone = scratch.path().join("gone");
    check_error("no such path", SafeTensors::open(&gone), &gone, "cannot open");
    fs::create_dir(&gone).unwrap();
    fs::create_dir(gone.join("model.safetensors")).unwrap();
    check_error(
        "a folder as a file",
        SafeTensors::open(&gone),
        &gone.join("model.safetensors"),
        "cannot read",
    );
}
