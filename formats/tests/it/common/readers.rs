//! What every reader does with the bytes of a file that may be damaged: it takes them, and then gives all of them, or refuses them,
//! without a panic. The tests of mutants and the targets of fuzz/ call the same functions, so that they cannot drift apart. Each
//! returns whether the file was taken.
use std::fs;
use std::path::Path;

use kquant_formats::gguf::{Gguf, TypeLayout};
use kquant_formats::hessian::{Half, HessianFile};
use kquant_formats::imatrix::Imatrix;
use kquant_formats::logits::LogitsFile;
use kquant_formats::safetensors::SafeTensors;
use kquant_formats::sentencepiece::SentencePiece;
use kquant_formats::targets::TargetsFile;

/// Writes `bytes` to a file with the name `name` and gives it to `read`.
fn with_file(name: &str, bytes: &[u8], read: impl FnOnce(&Path) -> bool) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    read(&path)
}

/// A few types, so that the rules of blocks apply.
pub fn types(id: u32) -> Option<TypeLayout> {
    let (name, elements, bytes) = match id {
        0 => ("F32", 1, 4),
        1 => ("F16", 1, 2),
        8 => ("Q8_0", 32, 34),
        12 => ("Q4_K", 256, 144),
        _ => return None,
    };
    Some(TypeLayout { name, elements, bytes })
}

/// A GGUF: its header and the data of all tensors.
pub fn gguf(bytes: &[u8]) -> bool {
    with_file("m.gguf", bytes, |path| {
        let Ok(file) = Gguf::open(path, types) else { return false };
        for tensor in file.tensors() {
            assert!(file.data(tensor).is_ok_and(|data| data.len() as u64 == tensor.bytes));
        }
        true
    })
}

/// A safetensors file: its header and the data of all tensors.
pub fn safetensors(bytes: &[u8]) -> bool {
    with_file("m.safetensors", bytes, |path| {
        let Ok(file) = SafeTensors::open(path) else { return false };
        for (number, tensor) in file.tensors().iter().enumerate() {
            assert!(file.data(number).is_ok_and(|data| data.len() as u64 == tensor.bytes));
        }
        true
    })
}

/// An importance matrix in either form. What was taken can be written as GGUF and read again.
pub fn importance(bytes: &[u8]) -> bool {
    with_file("imatrix", bytes, |path| {
        let Ok(matrix) = Imatrix::open(path) else { return false };
        let written = path.with_extension("gguf");
        if matrix.write_gguf(&written, false).is_ok() {
            let again = Imatrix::open(&written).unwrap();
            assert_eq!(again.entries.len(), matrix.entries.len());
        }
        assert!(matrix.entries.values().all(|entry| entry.importance().len() == entry.sums.len()));
        true
    })
}

/// A statistics file: its sums of squares, outer products and Fisher matrices.
pub fn statistics(bytes: &[u8]) -> bool {
    with_file("statistics.gguf", bytes, |path| {
        let Ok(file) = HessianFile::open(path) else { return false };
        for (number, group) in file.description().groups.iter().enumerate() {
            let mut sums = vec![0.0; group.packed()];
            let _ = file.squares(number);
            for half in Half::ALL {
                let _ = file.add_outer((number, 0), half, &mut sums);
                assert!(file.tokens((number, 0), half) <= 1 << 53);
            }
        }
        for (number, fisher) in file.description().fishers.iter().flat_map(|all| &all.tensors).enumerate() {
            let _ = file.add_fisher(number, &mut vec![0.0; fisher.values()]);
        }
        true
    })
}

/// Recorded logits: every row, decoded.
pub fn logits(bytes: &[u8]) -> bool {
    with_file("logits.bin", bytes, |path| {
        let Ok(file) = LogitsFile::open(path) else { return false };
        let (mut buffer, mut decoded) = (Vec::new(), Vec::new());
        for (chunk, row) in
            (0..file.chunks()).flat_map(|chunk| (0..file.rows_per_chunk()).map(move |row| (chunk, row)))
        {
            let Ok(row) = file.row(chunk, row, &mut buffer) else { continue };
            row.decode_into(&mut decoded);
            assert_eq!(decoded.len(), file.vocabulary());
        }
        true
    })
}

/// A teacher's file: every chunk.
pub fn targets(bytes: &[u8]) -> bool {
    with_file("targets.gguf", bytes, |path| {
        let Ok(file) = TargetsFile::open(path) else { return false };
        (0..file.description().len().min(4)).for_each(|chunk| drop(file.chunk(chunk)));
        true
    })
}

/// A SentencePiece model.
pub fn sentencepiece(bytes: &[u8]) -> bool {
    with_file("tokenizer.model", bytes, |path| {
        let Ok(model) = SentencePiece::open(path) else { return false };
        assert!(model.pieces.iter().all(|piece| !piece.text.is_empty() && piece.score.is_finite()));
        true
    })
}
