//! Damaged files of every format: readers refuse them or read all of them, without a panic and without more memory than the file
//! gives reason for.
use std::fs;
use std::path::Path;

use crate::common::mutants::{Change, changes, damaged};
use crate::common::{Scratch, data, types};
use kquant_formats::gguf::{Array, Gguf, Metadata, TensorSpec, Value, layout};
use kquant_formats::hessian::{Half, HessianFile};
use kquant_formats::imatrix::Imatrix;
use kquant_formats::logits::{LogitsFile, LogitsWriter};
use kquant_formats::safetensors::SafeTensors;
use kquant_formats::sentencepiece::SentencePiece;
use kquant_formats::targets::TargetsFile;
use proptest::prelude::*;
use proptest::sample::Index;

/// Writes the damaged bytes of `whole` under `name` and gives them to `read`.
fn with_damage(whole: &[u8], changes: &[(bool, Index, Change)], name: &str, read: impl FnOnce(&Path)) {
    let scratch = Scratch::new();
    read(&scratch.file(name, &damaged(whole.to_vec(), changes)));
}

/// A GGUF with keys of all kinds and three tensors.
fn gguf() -> Vec<u8> {
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
    bytes
}

fn safetensors() -> Vec<u8> {
    let header = br#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}}"#;
    [&(header.len() as u64).to_le_bytes()[..], header, &[1; 32]].concat()
}

fn logits() -> Vec<u8> {
    let scratch = Scratch::new();
    let path = scratch.path().join("logits.bin");
    let mut writer = LogitsWriter::create(&path, 8, 5, &[1; 16], true).unwrap();
    let row = crate::logits::encoded(&[0.5, -1.0, 2.0, 0.0, 1.5]);
    for _ in 0..2 * 3 {
        writer.append(&row).unwrap();
    }
    writer.finish().unwrap();
    fs::read(path).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn of_gguf(changes in changes()) {
        with_damage(&gguf(), &changes, "m.gguf", |path| {
            let Ok(file) = Gguf::open(path, types) else { return };
            for tensor in file.tensors() {
                assert!(file.data(tensor).is_ok_and(|data| data.len() as u64 == tensor.bytes));
            }
        });
    }

    #[test]
    fn of_safetensors(changes in changes()) {
        with_damage(&safetensors(), &changes, "m.safetensors", |path| {
            let Ok(file) = SafeTensors::open(path) else { return };
            for (number, tensor) in file.tensors().iter().enumerate() {
                assert!(file.data(number).is_ok_and(|data| data.len() as u64 == tensor.bytes));
            }
        });
    }

    #[test]
    fn of_importance(changes in changes(), legacy: bool) {
        let name = if legacy { "experts.imatrix.dat" } else { "experts.imatrix.gguf" };
        with_damage(&fs::read(data(name)).unwrap(), &changes, name, |path| {
            let Ok(matrix) = Imatrix::open(path) else { return };
            let _ = matrix.entries.values().map(|entry| entry.importance().len()).sum::<usize>();
        });
    }

    #[test]
    fn of_statistics(changes in changes()) {
        let scratch = Scratch::new();
        let path = scratch.path().join("whole.gguf");
        crate::hessian::write(&path).unwrap();
        with_damage(&fs::read(path).unwrap(), &changes, "statistics.gguf", |path| {
            let Ok(file) = HessianFile::open(path) else { return };
            for (number, group) in file.description().groups.iter().enumerate() {
                let mut sums = vec![0.0; group.packed()];
                let _ = (file.squares(number), file.add_outer((number, 0), Half::HeldOut, &mut sums));
            }
        });
    }

    #[test]
    fn of_logits(changes in changes()) {
        with_damage(&logits(), &changes, "logits.bin", |path| {
            let Ok(file) = LogitsFile::open(path) else { return };
            let mut buffer = Vec::new();
            for chunk in 0..file.chunks() {
                (0..file.rows_per_chunk()).for_each(|row| drop(file.row(chunk, row, &mut buffer)));
            }
        });
    }

    #[test]
    fn of_sentencepiece(changes in changes()) {
        with_damage(&fs::read(data("tokenizer.model")).unwrap(), &changes, "tokenizer.model", |path| {
            let Ok(model) = SentencePiece::open(path) else { return };
            assert!(model.pieces.iter().all(|piece| !piece.text.is_empty() && piece.score.is_finite()));
        });
    }

    #[test]
    fn of_teachers_files(changes in changes()) {
        let scratch = Scratch::new();
        let path = scratch.path().join("whole.gguf");
        crate::targets::write(&path);
        with_damage(&fs::read(path).unwrap(), &changes, "targets.gguf", |path| {
            let Ok(file) = TargetsFile::open(path) else { return };
            (0..file.description().len().min(4)).for_each(|chunk| drop(file.chunk(chunk)));
        });
    }
}
