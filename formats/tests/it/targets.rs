//! Teacher's files: round trips, and damaged files that are refused.
use std::fs;
use std::path::Path;

use kquant_formats::FormatError;
use kquant_formats::targets::{Description, Rows, TargetsFile, TargetsWriter};
use proptest::prelude::*;

use crate::common::Scratch;
use crate::common::seeds::targets::{TOKENS, description, rows, write};

#[test]
fn what_is_written_is_read() {
    let scratch = Scratch::new();
    let path = scratch.path().join("t.gguf");
    write(&path);
    let file = TargetsFile::open(&path).unwrap();
    let mut expected = description();
    expected.vocabulary.remove("tokenizer.ggml.model");
    assert_eq!((file.description(), file.tokens()), (&expected, &TOKENS[..]));
    assert_eq!((file.chunk(0).unwrap(), file.chunk(1).unwrap()), (rows(0), rows(1)));
    assert!(file.chunk(2).is_err());
    assert_eq!((expected.len(), expected.tokens()), (2, 4));
}

#[test]
fn contradictions_are_refused() {
    let scratch = Scratch::new();
    let path = scratch.path().join("t.gguf");
    let wrong = |change: &dyn Fn(&mut Description), tokens: &[u32]| {
        let mut of = description();
        change(&mut of);
        assert!(TargetsWriter::create(&path, &of, tokens, false).is_err(), "{of:?}");
    };
    wrong(&|of| of.top = 5, &TOKENS);
    wrong(&|of| of.top = 0, &TOKENS);
    wrong(&|of| of.logits = 3, &TOKENS);
    wrong(&|of| of.of = 2, &TOKENS);
    wrong(&|of| of.chunks = 1..1, &[]);
    wrong(&|_| (), &TOKENS[1..]);
    wrong(&|_| (), &[0, 1, 2, 3, 2, 4]);

    let mut writer = TargetsWriter::create(&path, &description(), &TOKENS, false).unwrap();
    assert!(writer.append(&Rows { rest: vec![0.0; 2], ..rows(0) }).is_err(), "no whole chunk");
    writer.append(&rows(0)).unwrap();
    assert!(writer.finish().unwrap_err().to_string().contains("1 of 2 chunks"));
    assert!(!path.exists());
}

/// Writes a file, puts `to` in the place of the last bytes that are `from`, and returns why the file is refused then.
fn damaged(path: &Path, from: &[u8], to: &[u8]) -> FormatError {
    write(path);
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.windows(from.len()).rposition(|window| window == from).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to);
    fs::write(path, bytes).unwrap();
    match TargetsFile::open(path).and_then(|file| file.chunk(0).and_then(|_| file.chunk(1))) {
        Ok(_) => panic!("{from:?} as {to:?} is accepted"),
        Err(error) => error,
    }
}

#[test]
fn impossible_predictions_are_refused() {
    let scratch = Scratch::new();
    let path = scratch.path().join("t.gguf");
    let ids: Vec<u8> = rows(1).ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    let bits: Vec<u8> = rows(1).log_probabilities.iter().flat_map(|bits| bits.to_le_bytes()).collect();
    let rest: Vec<u8> = rows(1).rest.iter().flat_map(|p| p.to_le_bytes()).collect();
    let tokens: Vec<u8> = TOKENS.iter().flat_map(|id| id.to_le_bytes()).collect();
    for (from, to, why) in [
        (&ids, 4u32.to_le_bytes().to_vec(), "out of order"),
        (&ids, 2u32.to_le_bytes().to_vec(), "out of order"),
        (&bits, 0x3c00u16.to_le_bytes().to_vec(), "above 0"),
        (&bits, 0x7e00u16.to_le_bytes().to_vec(), "no number"),
        (&rest, (-0.5f32).to_le_bytes().to_vec(), "-0.5"),
        (&rest, f32::NAN.to_le_bytes().to_vec(), "NaN"),
        (&tokens, 9u32.to_le_bytes().to_vec(), "token 9"),
    ] {
        let error = damaged(&path, from, &to).to_string();
        assert!(error.contains(why) && error.contains("at byte"), "{error}");
    }
    let error =
        damaged(&path, b"kquant.targets.version\x04\0\0\0\x01", b"kquant.targets.version\x04\0\0\0\x02");
    assert!(error.to_string().contains("version 2"), "{error}");
    let error = damaged(&path, b"general.type", b"general.kind");
    assert!(error.to_string().contains("no teacher's file"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn damaged_files_never_panic(at in 0usize..4000, byte: u8, cut in 0usize..4000) {
        let scratch = Scratch::new();
        let path = scratch.path().join("t.gguf");
        write(&path);
        let mut bytes = fs::read(&path).unwrap();
        let (at, cut) = (at % bytes.len(), bytes.len() - cut % 8 * usize::from(cut % 3 == 0));
        bytes[at] = byte;
        bytes.truncate(cut);
        fs::write(&path, bytes).unwrap();
        if let Ok(file) = TargetsFile::open(&path) {
            let chunks = file.description().len().min(4);
            (0..chunks).for_each(|chunk| drop(file.chunk(chunk)));
        }
    }
}
