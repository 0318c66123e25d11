//! SentencePiece models that must be refused, with the place and the reason.
use std::fs;

use crate::common::{Raw, Scratch, check_error, check_memory, data};
use kquant_formats::sentencepiece::SentencePiece;
use proptest::prelude::*;

/// Returns field `number` with the content `bytes`, up to 127 of them.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
}

fn text(text: &str) -> Vec<u8> {
    field(1, text.as_bytes())
}

fn score(score: f32) -> Vec<u8> {
    [&[2 << 3 | 5], &score.to_le_bytes()[..]].concat()
}

fn kind(kind: u8) -> Vec<u8> {
    vec![3 << 3, kind]
}

fn piece(parts: &[Vec<u8>]) -> Vec<u8> {
    field(1, &parts.concat())
}

/// Returns three pieces, as many as the default ids need.
fn pieces() -> Vec<u8> {
    [piece(&[text("<unk>"), kind(2)]), piece(&[text("<s>"), kind(3)]), piece(&[text("a"), score(-1.5)])]
        .concat()
}

/// Returns three pieces, followed by `rest`.
fn with(rest: &[u8]) -> Vec<u8> {
    [&pieces(), rest].concat()
}

type Case = (&'static str, Vec<u8>, &'static str);

fn cases() -> Vec<Case> {
    let ten_bytes = [0xff; 9].iter().chain(&[0x7f]).copied().collect::<Vec<u8>>();
    let negative = |field: [u8; 2]| [&field[..], &[0xff; 9], &[1]].concat();
    vec![
        ("empty file", vec![], "has no pieces"),
        ("other fields only", field(4, b"test"), "has no pieces"),
        ("JSON", b"{\"model\": {}}".to_vec(), "at byte 0: field 15 is of the unknown wire type 3"),
        (
            "a GGUF",
            Raw::default().bytes(b"GGUF\x03\0\0\0").zeros(64).0,
            "at byte 0: field 8 is of the unknown wire type 7",
        ),
        ("zeros", vec![0; 64], "at byte 0: a field has number 0"),
        ("length past the end", with(&[1 << 3 | 2, 100, 1, 2]), "field 1 needs 100 bytes but 2 are left"),
        (
            "length of 2^63",
            with(&[&[1 << 3 | 2][..], &[0x80; 9], &[1]].concat()),
            "needs 9223372036854775808 bytes",
        ),
        (
            "number over 64 bits",
            with(&[&[9 << 3][..], &ten_bytes].concat()),
            "a number has more than 64 bits",
        ),
        (
            "number of 11 bytes",
            with(&[&[9 << 3][..], &[0x80; 11]].concat()),
            "a number has more than 64 bits",
        ),
        ("number cut", with(&[9 << 3, 0x80]), "a number needs 1 bytes but 0 are left"),
        ("tag cut", with(&[0x80]), "a number needs 1 bytes but 0 are left"),
        ("fixed 64 cut", with(&[9 << 3 | 1, 1, 2, 3]), "field 9 needs 8 bytes but 3 are left"),
        ("fixed 32 cut", with(&[9 << 3 | 5, 1]), "field 9 needs 4 bytes but 1 are left"),
        ("group", with(&[9 << 3 | 3]), "field 9 is of the unknown wire type 3"),
        ("wire type 6", with(&[9 << 3 | 6]), "field 9 is of the unknown wire type 6"),
        ("piece is a number", with(&[1 << 3, 7]), "field 1 is not a message"),
        ("piece cut inside", with(&field(1, &[1 << 3 | 2, 9, b'x'])), "field 1 needs 9 bytes but 1 are left"),
        ("piece without text", with(&piece(&[score(0.0)])), "at byte 30: a piece has no text"),
        ("piece of empty text", with(&piece(&[text("")])), "at byte 30: a piece has no text"),
        ("piece is no UTF-8", with(&piece(&[field(1, b"a\xff")])), "at byte 35: field 1 is no UTF-8"),
        ("piece twice", with(&piece(&[text("a")])), "the piece \"a\" appears twice"),
        ("score is NaN", with(&piece(&[text("b"), score(f32::NAN)])), "piece \"b\" has the score NaN"),
        (
            "score is infinite",
            with(&piece(&[text("b"), score(f32::NEG_INFINITY)])),
            "piece \"b\" has the score -inf",
        ),
        ("score is a number", with(&piece(&[text("b"), vec![2 << 3, 1]])), "field 2 is not a float"),
        ("kind 0", with(&piece(&[text("b"), kind(0)])), "a piece is of the unknown type 0"),
        ("kind 7", with(&piece(&[text("b"), kind(7)])), "at byte 35: a piece is of the unknown type 7"),
        ("kind is text", with(&piece(&[text("b"), field(3, b"x")])), "field 3 is not a whole number"),
        ("model type 5", with(&field(2, &[3 << 3, 5])), "the model is of the unknown type 5"),
        ("trainer is a number", with(&[2 << 3, 1]), "field 2 is not a message"),
        ("normalizer is a float", with(&[&[3 << 3 | 5][..], &[0; 4]].concat()), "field 3 is not a message"),
        ("flag is text", with(&field(3, &field(4, b"x"))), "field 4 is not a whole number"),
        ("charsmap is a number", with(&field(3, &[2 << 3, 1])), "field 2 is not a message"),
        ("id past the vocabulary", with(&field(2, &[0xc0, 2, 3])), "token id 3 is outside of the 3 pieces"),
        ("default id past it", piece(&[text("a")]), "token id 1 is outside of the 1 pieces"),
        ("huge id", with(&field(2, &[0xd0, 2, 0xff, 0xff, 0xff, 0xff, 7])), "token id 2147483647 is outside"),
        ("id cut", with(&field(2, &negative([0xc0, 2])[..8])), "a number needs 1 bytes but 0 are left"),
    ]
}

#[test]
fn malformed_files_are_refused() {
    let scratch = Scratch::new();
    for (case, bytes, fragment) in cases() {
        let path = scratch.file("tokenizer.model", &bytes);
        check_error(case, SentencePiece::open(&path), &path, fragment);
    }
    check_memory();
}

#[test]
fn the_base_of_the_cases_is_valid() {
    let scratch = Scratch::new();
    let model = SentencePiece::open(&scratch.file("tokenizer.model", &pieces())).unwrap();
    assert_eq!(model.pieces[2].score, -1.5);
    assert_eq!(
        (model.unknown_id, model.bos_id, model.eos_id, model.pad_id),
        (Some(0), Some(1), Some(2), None)
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_truncation_or_corrupted_byte_panics(at in any::<prop::sample::Index>(), byte: u8) {
        let whole = fs::read(data("tokenizer.model")).unwrap();
        let at = at.index(whole.len());
        let scratch = Scratch::new();
        // A model that is cut between two pieces has a shorter vocabulary and is valid.
        let _ = SentencePiece::open(&scratch.file("tokenizer.model", &whole[..at]));
        let mut bytes = whole;
        bytes[at] = byte;
        if let Ok(model) = SentencePiece::open(&scratch.file("tokenizer.model", &bytes)) {
            prop_assert!(model.pieces.iter().all(|p| !p.text.is_empty() && p.score.is_finite()));
        }
    }
}
