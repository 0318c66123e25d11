//! GGUF files.

use std::fs;
use std::path::{Path, PathBuf};

use kquant_formats::gguf::{Array, Metadata, TensorSpec, Value, layout};

use crate::malformed::check;
use crate::support::noise;

/// A small GGUF of an unknown architecture: an F32 norm, an F16 matrix and a Q8_0 matrix.
pub fn gguf_bytes(metadata: &Metadata) -> Vec<u8> {
    let specs = [
        ("norm.weight", vec![64], 0, 256),
        ("blk.0.ffn_up.weight", vec![64, 4], 1, 512),
        ("blk.0.ffn_gate.weight", vec![64, 4], 8, 4 * 68),
        ("blk.0.ffn_xx.weight", vec![8], 0, 32),
    ]
    .map(|(name, shape, type_id, bytes)| TensorSpec { name: name.into(), shape, type_id, bytes });
    let placed = layout(metadata, &specs).unwrap();
    let mut bytes = placed.header.clone();
    bytes.resize(placed.total as usize, 0);
    for (i, w) in noise(9, 64).iter().enumerate() {
        bytes[placed.offsets[0] as usize + 4 * i..][..4].copy_from_slice(&w.to_le_bytes());
    }
    bytes
}

pub fn metadata() -> Metadata {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", Value::from("unheard-of"));
    metadata.set("verbs", Value::U8(1));
    metadata.set("words", Value::Array(Array::String(vec!["a".into(), "b".into()])));
    metadata
}

fn with_gguf(folder: &Path, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = gguf_bytes(&metadata());
    change(&mut bytes);
    let path = folder.join("model.gguf");
    fs::write(&path, bytes).unwrap();
    path
}

/// Replaces the only occurrence of `from`.
fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    let at = bytes.windows(from.len()).position(|w| w == from).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to);
}

/// Overwrites bytes `skip` after the end of `name`.
fn after(bytes: &mut [u8], name: &str, skip: usize, to: &[u8]) {
    let at = bytes.windows(name.len()).position(|w| w == name.as_bytes()).unwrap() + name.len() + skip;
    bytes[at..at + to.len()].copy_from_slice(to);
}

pub const UP: &str = "blk.0.ffn_up.weight";
/// Dimensions follow a tensor's name as a count (4 bytes) and 8 bytes each, then the type, then the offset.
const UP_TYPE: usize = 4 + 2 * 8;

#[test]
fn gguf_files() {
    check(
        "malformed-gguf",
        &[
            ("empty", |f| with_gguf(f, |b| b.clear()), &[], "model.gguf"),
            ("half a magic", |f| with_gguf(f, |b| b.truncate(2)), &[], "model.gguf"),
            ("wrong magic", |f| with_gguf(f, |b| b[0] = b'X'), &[], "GGUF"),
            ("version 1", |f| with_gguf(f, |b| b[4] = 1), &[], "version 1"),
            ("version 9", |f| with_gguf(f, |b| b[4] = 9), &[], "version 9"),
            ("big-endian", |f| with_gguf(f, |b| b[4..8].reverse()), &[], "big-endian"),
            ("2^60 tensors", |f| with_gguf(f, |b| b[15] = 0x10), &[], "model.gguf"),
            ("2^60 keys", |f| with_gguf(f, |b| b[23] = 0x10), &[], "model.gguf"),
            ("key of 2^60 bytes", |f| with_gguf(f, |b| b[31] = 0x10), &[], "model.gguf"),
            (
                "value of an unknown type",
                |f| with_gguf(f, |b| after(b, "general.architecture", 0, &[99])),
                &[],
                "99",
            ),
            ("array of arrays", |f| with_gguf(f, |b| after(b, "words", 4, &[9])), &[], "model.gguf"),
            (
                "array of 2^60 strings",
                |f| with_gguf(f, |b| after(b, "words", 15, &[0x10])),
                &[],
                "model.gguf",
            ),
            ("key twice", |f| with_gguf(f, |b| replace(b, b"verbs", b"words")), &[], "words"),
            ("header cut", |f| with_gguf(f, |b| b.truncate(60)), &[], "model.gguf"),
            ("data cut", |f| with_gguf(f, |b| b.truncate(b.len() - 100)), &[], "blk.0.ffn_gate.weight"),
            (
                "tensor twice",
                |f| with_gguf(f, |b| replace(b, b"blk.0.ffn_xx.weight", UP.as_bytes())),
                &[],
                UP,
            ),
            ("5 dimensions", |f| with_gguf(f, |b| after(b, UP, 0, &[5])), &[], UP),
            ("no dimensions", |f| with_gguf(f, |b| after(b, UP, 0, &[0])), &[], UP),
            ("dimensions overflow", |f| with_gguf(f, |b| after(b, UP, 4, &[0xff; 16])), &[], UP),
            ("removed type", |f| with_gguf(f, |b| after(b, UP, UP_TYPE, &[4])), &[], UP),
            ("unknown type", |f| with_gguf(f, |b| after(b, UP, UP_TYPE, &[142])), &[], "142"),
            ("row no whole number of blocks", |f| with_gguf(f, |b| after(b, UP, UP_TYPE, &[12])), &[], UP),
            ("wrong offset", |f| with_gguf(f, |b| after(b, UP, UP_TYPE + 4, &[64])), &[], UP),
            (
                "NaN",
                |f| {
                    with_gguf(f, |b| {
                        let at = b.len() - 256 - 512 - 288 - 32;
                        b[at + 8..at + 12].copy_from_slice(&f32::NAN.to_le_bytes());
                    })
                },
                &["--allow-requantize"],
                "`norm.weight` (from `norm.weight`): weight at row 0, column 2 is NaN",
            ),
            (
                "block with an infinite scale",
                |f| {
                    with_gguf(f, |b| {
                        let at = b.len() - 288 - 32 + 34;
                        b[at..at + 3].copy_from_slice(&[0x00, 0x7c, 1]);
                    })
                },
                &["--allow-requantize"],
                "`blk.0.ffn_gate.weight`",
            ),
            ("already quantized", |f| with_gguf(f, |_| {}), &[], "--allow-requantize"),
            ("alignment 0", |f| with_alignment(f, Value::U32(0)), &[], "alignment"),
            ("alignment 24", |f| with_alignment(f, Value::U32(24)), &[], "alignment"),
            ("alignment a string", |f| with_alignment(f, Value::from("x")), &[], "alignment"),
            ("one shard of three", lonely_shard, &[], "00002-of-00003"),
            (
                "folder of GGUF files",
                |f| with_gguf(f, |_| {}).parent().unwrap().to_owned(),
                &[],
                "model.gguf",
            ),
        ],
    );
}

/// The bytes of a valid file with a key of the length of `general.alignment` renamed to it.
fn with_alignment(folder: &Path, value: Value) -> PathBuf {
    let mut metadata = metadata();
    metadata.set("general.alignmenX", value);
    let mut bytes = gguf_bytes(&metadata);
    replace(&mut bytes, b"general.alignmenX", b"general.alignment");
    let path = folder.join("model.gguf");
    fs::write(&path, bytes).unwrap();
    path
}

fn lonely_shard(folder: &Path) -> PathBuf {
    let mut metadata = metadata();
    metadata.set("split.no", Value::U16(0));
    metadata.set("split.count", Value::U16(3));
    metadata.set("split.tensors.count", Value::I32(9));
    let path = folder.join("model-00001-of-00003.gguf");
    fs::write(&path, gguf_bytes(&metadata)).unwrap();
    path
}
