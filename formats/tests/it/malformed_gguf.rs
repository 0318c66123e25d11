//! GGUF files that must be refused, with the place and the reason, without a panic or a large allocation.
use std::path::{Path, PathBuf};

use crate::common::{Raw, Scratch, check_error, check_memory, types};
use kquant_formats::FormatError;
use kquant_formats::gguf::{Gguf, Metadata, TensorSpec, Value, layout, split};

const U32: u32 = 4;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

fn header(tensors: u64, keys: u64) -> Raw {
    Raw::default().bytes(b"GGUF").u32(3).u64(tensors).u64(keys)
}

/// Returns a header with one key, whose type and value `value` appends, and room behind it for the size that they claim.
fn key(value: impl Fn(Raw) -> Raw) -> Raw {
    value(header(0, 1).text("key")).zeros(64)
}

/// Appends a tensor record.
fn tensor(raw: Raw, name: &str, shape: &[u64], type_id: u32, offset: u64) -> Raw {
    let raw = raw.text(name).u32(shape.len() as u32);
    shape.iter().fold(raw, |raw, &d| raw.u64(d)).u32(type_id).u64(offset)
}

/// Returns a file with one tensor and more data than it needs.
fn one(name: &str, shape: &[u64], type_id: u32, offset: u64) -> Raw {
    tensor(header(1, 0), name, shape, type_id, offset).pad(32).zeros(4096)
}

/// Returns a file with a `general.alignment` and one tensor.
fn aligned(value: impl Fn(Raw) -> Raw) -> Raw {
    tensor(value(header(1, 1).text("general.alignment")), "t", &[4], 0, 0).pad(32).zeros(64)
}

/// Returns a valid file with every kind of value and two tensors.
fn valid() -> Raw {
    let raw = header(2, 5).text("general.architecture").u32(STRING).text("llama");
    let raw = raw.text("a.count").u32(U32).u32(7).text("a.flag").u32(BOOL).u8(1);
    let raw = raw.text("a.list").u32(ARRAY).u32(U32).u64(2).u32(1).u32(2);
    let raw = raw.text("a.words").u32(ARRAY).u32(STRING).u64(2).text("x").text("yz");
    let raw = tensor(raw, "first", &[5, 2], 0, 0);
    tensor(raw, "second", &[32, 3], 8, 64).pad(32).zeros(64 + 34 * 3)
}

type Case = (&'static str, Raw, &'static str);

fn preamble_cases() -> Vec<Case> {
    vec![
        ("empty file", Raw::default(), "the magic number needs 4 bytes"),
        ("other magic", Raw::default().bytes(b"PK\x03\x04").zeros(32), r#"starts with "PK\x03\x04""#),
        ("magic swapped", Raw::default().bytes(b"FUGG").zeros(32), "big-endian"),
        (
            "version swapped",
            Raw::default().bytes(b"GGUF").u32(3 << 24).zeros(32),
            "at byte 4: is a big-endian GGUF",
        ),
        ("version 0", Raw::default().bytes(b"GGUF").u32(0).zeros(32), "at byte 4: is GGUF version 0"),
        ("version 1", Raw::default().bytes(b"GGUF").u32(1).zeros(32), "version 1"),
        ("version 4", Raw::default().bytes(b"GGUF").u32(4).zeros(32), "versions 2 and 3"),
        ("tensor count", header(1 << 60, 0), "at byte 8: claims 1152921504606846976 tensors"),
        ("tensor count 2^64-1", header(u64::MAX, 0).zeros(99), "at byte 8: claims"),
        ("key count", header(0, 1 << 33).zeros(99), "at byte 16: claims 8589934592 keys"),
    ]
}

fn key_cases() -> Vec<Case> {
    vec![
        ("empty key", header(0, 1).text("").zeros(64), "at byte 24: the name of key 0 is empty"),
        ("key longer than the file", header(0, 1).u64(999).zeros(64), "the name of key 0 needs 999 bytes"),
        (
            "key of 2^63 bytes",
            header(0, 1).u64(1 << 63).zeros(64),
            "at byte 24: the name of key 0 is 9223372036854775808",
        ),
        (
            "key is no UTF-8",
            header(0, 1).u64(3).bytes(b"a\xff\xfe").zeros(64),
            "at byte 33: the name of key 0 is no UTF-8",
        ),
        (
            "key twice",
            header(0, 2).text("key").u32(BOOL).u8(0).text("key").u32(BOOL).u8(0),
            "at byte 40: the key \"key\" appears twice",
        ),
        ("value type 13", key(|r| r.u32(13)), "at byte 35: the key \"key\" has unknown value type 13"),
        ("value type 2^32-1", key(|r| r.u32(u32::MAX)), "unknown value type 4294967295"),
        ("boolean 2", key(|r| r.u32(BOOL).u8(2)), "at byte 39: the key \"key\" is a boolean of value 2"),
        (
            "text longer than the file",
            key(|r| r.u32(STRING).u64(1000)),
            "the key \"key\" needs 1000 bytes but 64",
        ),
        (
            "text of 2^40 bytes",
            key(|r| r.u32(STRING).u64(1 << 40)),
            "the key \"key\" is 1099511627776 bytes of text",
        ),
        (
            "text is no UTF-8",
            key(|r| r.u32(STRING).u64(1).u8(0xc0)),
            "at byte 47: the key \"key\" is no UTF-8",
        ),
        ("array of arrays", key(|r| r.u32(ARRAY).u32(ARRAY).u64(1).u32(U32).u64(1)), "is an array of arrays"),
        ("array type 99", key(|r| r.u32(ARRAY).u32(99).u64(1)), "has unknown element type 99"),
        (
            "array of 2^61 numbers",
            key(|r| r.u32(ARRAY).u32(U32).u64(1 << 61)),
            "is an array of 2305843009213693952",
        ),
        (
            "array of 2^29 numbers",
            key(|r| r.u32(ARRAY).u32(U32).u64(1 << 29)),
            "the key \"key\" needs 2147483648 bytes",
        ),
        (
            "array of 2^30 strings",
            key(|r| r.u32(ARRAY).u32(STRING).u64(1 << 30)),
            "the key \"key\" needs 8589934592 bytes",
        ),
        (
            "array of 2^30 booleans",
            key(|r| r.u32(ARRAY).u32(BOOL).u64(1 << 30)),
            "the key \"key\" needs 1073741824 bytes",
        ),
        (
            "string of an array too long",
            key(|r| r.u32(ARRAY).u32(STRING).u64(2).text("ok").u64(70)),
            "at byte 69: the key \"key\" needs 70 bytes but 64",
        ),
        ("boolean 7 in an array", key(|r| r.u32(ARRAY).u32(BOOL).u64(2).u8(1).u8(7)), "at byte 52"),
        ("alignment 0", aligned(|r| r.u32(U32).u32(0)), "general.alignment is 0"),
        ("alignment 3", aligned(|r| r.u32(U32).u32(3)), "general.alignment is 3"),
        ("alignment 2^31", aligned(|r| r.u32(U32).u32(1 << 31)), "general.alignment is 2147483648"),
        ("alignment as text", aligned(|r| r.u32(STRING).text("32")), "general.alignment is of type str"),
        ("alignment as u64", aligned(|r| r.u32(10).u64(32)), "general.alignment is of type u64"),
    ]
}

fn tensor_cases() -> Vec<Case> {
    let twice = tensor(tensor(header(2, 0), "t", &[8], 0, 0), "t", &[8], 0, 32).pad(32).zeros(64);
    let late = tensor(tensor(header(2, 0), "t", &[8], 0, 0), "u", &[8], 0, 64).pad(32).zeros(128);
    let overlap = tensor(tensor(header(2, 0), "t", &[9], 0, 0), "u", &[8], 0, 32).pad(32).zeros(128);
    let swapped = tensor(tensor(header(2, 0), "t", &[8], 0, 32), "u", &[8], 0, 0).pad(32).zeros(64);
    vec![
        ("empty name", one("", &[4], 0, 0), "at byte 24: a tensor has an empty name"),
        ("name of 64 bytes", one(&"n".repeat(64), &[4], 0, 0), "has 64 bytes; the most is 63"),
        ("name twice", twice, "at byte 57: the tensor \"t\" appears twice"),
        ("no dimensions", one("t", &[], 0, 0), "at byte 24: tensor \"t\": it has 0 dimensions"),
        ("5 dimensions", one("t", &[1; 5], 0, 0), "it has 5 dimensions"),
        ("2^31 dimensions", header(1, 0).text("t").u32(1 << 31).zeros(64), "it has 2147483648 dimensions"),
        ("empty dimension", one("t", &[4, 0], 0, 0), "its shape [4, 0] has an empty dimension"),
        ("elements overflow", one("t", &[1 << 32, 1 << 32], 0, 0), "more elements than 63 bits"),
        ("elements overflow i64", one("t", &[1 << 32, 1 << 31], 0, 0), "more elements than 63 bits"),
        ("negative dimension", one("t", &[u64::MAX], 0, 0), "more elements than 63 bits"),
        ("bytes overflow", one("t", &[1 << 62], 0, 0), "overflows 64 bits of size"),
        ("end overflows", one("t", &[(1 << 62) - 1], 0, 0), "overflow 64 bits"),
        ("type 99", one("t", &[4], 99, 0), "tensor \"t\": its type 99 is unknown"),
        ("type 2^32-1", one("t", &[4], u32::MAX, 0), "its type 4294967295 is unknown"),
        ("removed type 4", one("t", &[32], 4, 0), "type 4 (Q4_2) was removed"),
        ("removed type 31", one("t", &[32], 31, 0), "type 31 (Q4_0_4_4) was removed"),
        ("removed type 38", one("t", &[32], 38, 0), "type 38 (IQ4_NL_8_8) was removed"),
        (
            "broken row",
            one("t", &[255, 2], 12, 0),
            "its rows of 255 are no whole number of Q4_K blocks of 256",
        ),
        ("first offset", one("t", &[4], 0, 32), "its data offset is 32, expected 0"),
        ("hole", late, "at byte 57: tensor \"u\": its data offset is 64, expected 32"),
        ("overlap", overlap, "tensor \"u\": its data offset is 32, expected 64"),
        ("order swapped", swapped, "tensor \"t\": its data offset is 32, expected 0"),
        ("unaligned", one("t", &[4], 0, 1), "its data offset is 1, expected 0"),
        ("data past the end", one("t", &[1025], 0, 0), "its data are bytes 64 to 4164 of a file of 4160"),
        ("exabytes of data", one("t", &[1 << 60], 0, 0), "of a file of 4160"),
        (
            "no data at all",
            tensor(header(1, 0), "t", &[4], 0, 0),
            "its data are bytes 64 to 80 of a file of 57",
        ),
    ]
}

#[test]
fn malformed_files_are_refused() {
    let scratch = Scratch::new();
    for (case, raw, fragment) in [preamble_cases(), key_cases(), tensor_cases()].concat() {
        let path = scratch.file("model.gguf", &raw.0);
        check_error(case, Gguf::open(&path, types), &path, fragment);
    }
    check_memory();
}

#[test]
fn every_truncation_is_refused() {
    let scratch = Scratch::new();
    let valid = valid().0;
    for length in 0..valid.len() {
        let path = scratch.file("model.gguf", &valid[..length]);
        check_error(&format!("{length} bytes"), Gguf::open(&path, types), &path, "fetch it again");
    }
    let path = scratch.file("model.gguf", &valid);
    assert_eq!(Gguf::open(&path, types).unwrap().tensors().len(), 2);
}

#[test]
fn no_corrupted_byte_panics() {
    let scratch = Scratch::new();
    let valid = valid().0;
    for at in 0..valid.len() - 34 * 3 {
        for byte in [0, 0x80, 0xff, valid[at] ^ 1] {
            let mut bytes = valid.clone();
            bytes[at] = byte;
            if let Ok(gguf) = Gguf::open(&scratch.file("model.gguf", &bytes), types) {
                for tensor in gguf.tensors() {
                    assert_eq!(gguf.data(tensor).unwrap().len() as u64, tensor.bytes);
                }
            }
        }
    }
    check_memory();
}

#[test]
fn the_system_s_refusals_name_the_file() {
    let scratch = Scratch::new();
    let path = scratch.path().join("none.gguf");
    check_error("no file", Gguf::open(&path, types), &path, "cannot open");
    check_error("folder", Gguf::open(scratch.path(), types), scratch.path(), "cannot read");
}

/// Writes a shard with the keys `keys` and one tensor under the name of shard `name_no` of three.
fn write_shard(scratch: &Scratch, name_no: u16, keys: &[(&str, Value)], tensor: &str) -> PathBuf {
    let mut metadata = Metadata::new();
    for (key, value) in keys {
        metadata.set(*key, value.clone());
    }
    let spec = TensorSpec { name: tensor.into(), shape: vec![8], type_id: 0, bytes: 32 };
    let mut file = layout(&metadata, &[spec]).unwrap().header;
    file.extend_from_slice(&[name_no as u8; 32]);
    let path = split::shard_path(Path::new("m"), name_no, 3);
    scratch.file(path.to_str().unwrap(), &file)
}

fn shard_keys(no: u16) -> Vec<(&'static str, Value)> {
    vec![(split::NO, Value::U16(no)), (split::COUNT, Value::U16(3)), (split::TENSORS, Value::I32(3))]
}

/// Makes a model of three shards, lets `change` change it, and opens it by its first shard.
fn open_split(change: impl Fn(&Scratch)) -> (Scratch, Result<Gguf, FormatError>) {
    let scratch = Scratch::new();
    for no in 0..3 {
        write_shard(&scratch, no, &shard_keys(no), &format!("tensor{no}"));
    }
    change(&scratch);
    let opened = Gguf::open(&scratch.path().join("m-00001-of-00003.gguf"), types);
    (scratch, opened)
}

#[test]
fn any_shard_opens_the_whole_model() {
    let (scratch, opened) = open_split(|_| ());
    opened.unwrap();
    for no in 1..=3 {
        let path = scratch.path().join(format!("m-{no:05}-of-00003.gguf"));
        let gguf = Gguf::open(&path, types).unwrap();
        let names: Vec<_> = gguf.tensors().iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["tensor0", "tensor1", "tensor2"]);
        for (i, tensor) in gguf.tensors().iter().enumerate() {
            assert_eq!(tensor.shard, i);
            assert_eq!(gguf.data(tensor).unwrap(), [i as u8; 32]);
        }
        assert_eq!(gguf.metadata().get(split::NO), Some(&Value::U16(0)));
        assert_eq!(gguf.files().len(), 3);
    }
}

#[test]
fn shards_that_do_not_belong_together_are_refused() {
    type Change = fn(&Scratch);
    let cases: &[(&str, Change, &str, &str)] = &[
        (
            "missing shards",
            |s| {
                std::fs::remove_file(s.path().join("m-00002-of-00003.gguf")).unwrap();
                std::fs::remove_file(s.path().join("m-00003-of-00003.gguf")).unwrap();
            },
            "m-00001-of-00003.gguf",
            "2 of 3 shards are missing beside it: m-00002-of-00003.gguf, m-00003-of-00003.gguf",
        ),
        (
            "the first shard again as the second",
            |s| drop(write_shard(s, 1, &shard_keys(0), "tensor0")),
            "m-00002-of-00003.gguf",
            "split.no is 0, but 1 is expected of this name",
        ),
        (
            "cyclic order",
            |s| (0..3).for_each(|no| drop(write_shard(s, no, &shard_keys((no + 1) % 3), "t"))),
            "m-00001-of-00003.gguf",
            "split.no is 1, but 0 is expected",
        ),
        (
            "a number beyond the count",
            |s| drop(write_shard(s, 2, &shard_keys(7), "tensor2")),
            "m-00003-of-00003.gguf",
            "split.no is 7, but 2 is expected",
        ),
        (
            "no number",
            |s| drop(write_shard(s, 1, &[(split::COUNT, Value::U16(3))], "tensor1")),
            "m-00002-of-00003.gguf",
            "the key split.no is missing",
        ),
        (
            "a shard that stands alone",
            |s| drop(write_shard(s, 1, &[], "tensor1")),
            "m-00002-of-00003.gguf",
            "split.count is 1, but 3 in the other shards",
        ),
        (
            "another count than the name's",
            |s| drop(write_shard(s, 0, &[(split::COUNT, Value::U16(4))], "tensor0")),
            "m-00001-of-00003.gguf",
            "is named as one of 3 shards, but split.count is 4",
        ),
        (
            "a count as text",
            |s| drop(write_shard(s, 0, &[(split::COUNT, "3".into())], "tensor0")),
            "m-00001-of-00003.gguf",
            "split.count (str) is no number",
        ),
        (
            "a negative count",
            |s| drop(write_shard(s, 0, &[(split::COUNT, Value::I32(-3))], "tensor0")),
            "m-00001-of-00003.gguf",
            "split.count (i32) is no number",
        ),
        (
            "the same tensor in two shards",
            |s| drop(write_shard(s, 2, &shard_keys(2), "tensor0")),
            "m-00003-of-00003.gguf",
            "the tensor \"tensor0\" is in an earlier shard as well",
        ),
        (
            "another number of tensors",
            |s| {
                let mut keys = shard_keys(0);
                keys[2].1 = Value::I32(4);
                write_shard(s, 0, &keys, "tensor0");
            },
            "m-00001-of-00003.gguf",
            "but the shards hold 3 tensors",
        ),
        (
            "a truncated shard",
            |s| drop(s.file("m-00003-of-00003.gguf", b"GGUF")),
            "m-00003-of-00003.gguf",
            "the version needs 4 bytes",
        ),
    ];
    for (case, change, file, fragment) in cases {
        let (_scratch, opened) = open_split(change);
        check_error(case, opened, Path::new(file), fragment);
    }
}

#[test]
fn a_renamed_shard_is_refused() {
    let scratch = Scratch::new();
    let path = write_shard(&scratch, 0, &shard_keys(0), "t");
    let renamed = scratch.path().join("model.gguf");
    std::fs::rename(path, &renamed).unwrap();
    check_error("renamed", Gguf::open(&renamed, types), &renamed, "does not end in -00001-of-00003.gguf");
}
