//! Whole files of every format, which are damaged by the tests of mutants and by fuzz/.
pub mod statistics;
pub mod targets;

use std::fs;
use std::path::Path;

use kquant_formats::gguf::{Array, Metadata, TensorSpec, Value, layout};
use kquant_formats::logits::{LogitsWriter, encode_row};

/// The bytes of the file that `write` writes.
fn written(write: impl FnOnce(&Path)) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("whole");
    write(&path);
    fs::read(path).unwrap()
}

/// A GGUF with keys of all kinds and three tensors.
pub fn gguf() -> Vec<Vec<u8>> {
    let mut keys = Metadata::new();
    keys.set("general.architecture", "llama".into());
    keys.set("general.alignment", Value::U32(64));
    keys.set("llama.block_count", Value::U32(2));
    keys.set("list", Value::Array(Array::String(vec!["a".into(), "longer text".into()])));
    keys.set("numbers", Value::Array(Array::F32(vec![1.0, -2.0])));
    keys.set("flag", Value::Bool(true));
    let spec = |name: &str, shape: &[u64]| TensorSpec {
        name: name.into(),
        shape: shape.to_vec(),
        type_id: 0,
        bytes: 4 * shape.iter().product::<u64>(),
    };
    let specs = [spec("a.weight", &[32, 4]), spec("b.weight", &[8]), spec("c.weight", &[4, 2, 2])];
    let placed = layout(&keys, &specs).unwrap();
    let mut bytes = placed.header;
    bytes.resize(placed.total as usize, 7);
    vec![bytes]
}

/// Two tensors of two types.
pub fn safetensors() -> Vec<Vec<u8>> {
    let header = br#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}}"#;
    vec![[&(header.len() as u64).to_le_bytes()[..], header, &[1; 32]].concat()]
}

/// Importance of experts in both forms.
pub fn importance() -> Vec<Vec<u8>> {
    [
        &include_bytes!("../../../data/experts.imatrix.dat")[..],
        include_bytes!("../../../data/experts.imatrix.gguf"),
    ]
    .map(<[u8]>::to_vec)
    .to_vec()
}

/// Statistics without and with Fisher matrices.
pub fn statistics() -> Vec<Vec<u8>> {
    [statistics::write, statistics::write_with_fishers]
        .map(|write| written(|path| write(path).unwrap()))
        .to_vec()
}

/// Two chunks of three rows.
pub fn logits() -> Vec<Vec<u8>> {
    let mut row = Vec::new();
    encode_row(&[0.5, -1.0, 2.0, 0.0, 1.5], 2.700_512, &mut row).unwrap();
    vec![written(|path| {
        let mut writer = LogitsWriter::create(path, 8, 5, &[1; 16], true).unwrap();
        (0..2 * 3).for_each(|_| writer.append(&row).unwrap());
        writer.finish().unwrap();
    })]
}

/// A teacher's file of two chunks.
pub fn targets() -> Vec<Vec<u8>> {
    vec![written(targets::write)]
}

/// A vocabulary of a few hundred pieces.
pub fn sentencepiece() -> Vec<Vec<u8>> {
    vec![include_bytes!("../../../data/tokenizer.model").to_vec()]
}
