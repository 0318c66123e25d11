//! A trained SentencePiece model, and models that rely on the proto's defaults.
use crate::common::{Scratch, data};
use kquant_formats::sentencepiece::{ModelType, Piece, PieceKind, SentencePiece, trimmed};

#[test]
fn a_trained_model_is_read() {
    let model = SentencePiece::open(&data("tokenizer.model")).unwrap();
    assert_eq!(model.pieces.len(), 2048);
    let piece = |id: usize| {
        let Piece { text, score, kind } = &model.pieces[id];
        (text.as_str(), score.to_bits(), *kind)
    };
    assert_eq!(piece(0), ("<unk>", 0, PieceKind::Unknown));
    assert_eq!(piece(1), ("<s>", 0, PieceKind::Control));
    assert_eq!(piece(2), ("</s>", 0, PieceKind::Control));
    assert_eq!(piece(3), ("<0x00>", 0, PieceKind::Byte));
    assert_eq!(piece(258), ("<0xFF>", 0, PieceKind::Byte));
    // The first merge has rank 0, negated.
    assert_eq!(piece(259), ("\u{2581}t", (-0.0f32).to_bits(), PieceKind::Normal));
    assert_eq!(piece(260), ("\u{2581}a", (-1.0f32).to_bits(), PieceKind::Normal));
    assert_eq!(piece(2047), ("\u{43d}", (-1788.0f32).to_bits(), PieceKind::Normal));

    assert_eq!(model.model, ModelType::Bpe);
    assert!(model.byte_fallback && !model.whitespace_suffix);
    let ids = (model.unknown_id, model.bos_id, model.eos_id, model.pad_id);
    assert_eq!(ids, (Some(0), Some(1), Some(2), None));
    assert!(model.add_dummy_prefix && !model.remove_extra_whitespaces && model.escape_whitespaces);
    assert!(model.precompiled_charsmap.is_empty());
}

#[test]
fn absent_fields_have_the_proto_s_defaults() {
    let scratch = Scratch::new();
    let path = scratch.file("m.model", b"\x0a\x03\x0a\x01a\x0a\x03\x0a\x01b\x0a\x03\x0a\x01c");
    let model = SentencePiece::open(&path).unwrap();
    let expected = |text: &str| Piece { text: text.into(), score: 0.0, kind: PieceKind::Normal };
    assert_eq!(
        model,
        SentencePiece {
            pieces: ["a", "b", "c"].map(expected).into(),
            model: ModelType::Unigram,
            byte_fallback: false,
            whitespace_suffix: false,
            unknown_id: Some(0),
            bos_id: Some(1),
            eos_id: Some(2),
            pad_id: None,
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
            precompiled_charsmap: vec![],
        }
    );
}

#[test]
fn present_fields_and_unknown_ones_are_read() {
    let scratch = Scratch::new();
    let pieces = b"\x0a\x05\x0a\x01a\x18\x04\x0a\x05\x0a\x01b\x18\x05";
    // The trainer has Unigram in field 3, the suffix in 24, the ids 1, none, 0, 1 in 40 to 43, and an unknown field of 64
    // bits.
    let ids = b"\xc0\x02\x01\xc8\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\xd0\x02\x00\xd8\x02\x01";
    let trainer = [&b"\x18\x01\xc0\x01\x01"[..], ids, b"\xb9\x06ABCDEFGH"].concat();
    let trainer = [&[0x12, trainer.len() as u8], &trainer[..]].concat();
    let normalizer = b"\x1a\x0b\x12\x03map\x18\x00\x20\x00\x28\x00";
    let path = scratch.file("m.model", &[&pieces[..], &trainer, normalizer, b"\xfd\x01zzzz"].concat());
    let model = SentencePiece::open(&path).unwrap();
    assert_eq!(model.pieces[0].kind, PieceKind::UserDefined);
    assert_eq!(model.pieces[1].kind, PieceKind::Unused);
    assert!(model.whitespace_suffix);
    let ids = (model.unknown_id, model.bos_id, model.eos_id, model.pad_id);
    assert_eq!(ids, (Some(1), None, Some(0), Some(1)));
    assert_eq!(model.precompiled_charsmap, b"map");
    assert!(!model.add_dummy_prefix && !model.remove_extra_whitespaces && !model.escape_whitespaces);
}

#[test]
fn a_model_with_fewer_pieces_keeps_all_else() {
    let path = data("tokenizer.model");
    let whole = SentencePiece::open(&path).unwrap();
    let keeps = |id: u64| id < 300 && id != 2 || id.is_multiple_of(5);
    let bytes = trimmed(&path, keeps).unwrap();
    let scratch = Scratch::new();
    let left = SentencePiece::open(&scratch.file("m.model", &bytes)).unwrap();
    let pieces =
        (0..).zip(&whole.pieces).filter(|(id, _)| keeps(*id)).map(|(_, piece)| piece.clone()).collect();
    assert_eq!(left, SentencePiece { pieces, eos_id: None, ..whole.clone() });
    // Nothing lost, nothing changed, but for the order of the trainer's fields.
    let same = scratch.file("same.model", &trimmed(&path, |_| true).unwrap());
    assert_eq!(SentencePiece::open(&same).unwrap(), whole);

    // Ids that a file does not say, and texts that a reader would find cut otherwise.
    let bare =
        scratch.file("bare.model", b"\x0a\x03\x0a\x01a\x0a\x03\x0a\x01b\x0a\x03\x0a\x01c\x22\x02\x0a\x00");
    let bytes = trimmed(&bare, |id| id != 0).unwrap();
    assert!(bytes.starts_with(b"\x0a\x03\x0a\x01b\x0a\x03\x0a\x01c\x12"), "{bytes:?}");
    let left = SentencePiece::open(&scratch.file("left.model", &bytes)).unwrap();
    assert_eq!((left.unknown_id, left.bos_id, left.eos_id, left.pad_id), (None, Some(0), Some(1), None));
}
