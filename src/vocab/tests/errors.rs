//! Tests of refusals and their messages.

use serde_json::{Value as Json, json};

use super::sentencepiece::{small_json, small_vocab};
use super::{Folder, small};

/// Changes the small byte-level tokenizer and returns the error.
fn broken(change: impl FnOnce(&mut Json)) -> String {
    let mut tokenizer = small();
    change(&mut tokenizer);
    Folder::with_tokenizer("gpt2", &tokenizer).error()
}

/// Changes the small SentencePiece `tokenizer.json` and returns the error.
fn broken_spm(change: impl FnOnce(&mut Json)) -> String {
    let mut tokenizer = small_json();
    change(&mut tokenizer);
    Folder::with_tokenizer("llama", &tokenizer).error()
}

/// Changes a Unigram `tokenizer.json` of two tokens and returns the error.
fn broken_unigram(change: impl FnOnce(&mut Json)) -> String {
    let mut tokenizer =
        json!({ "model": { "type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0]] } });
    change(&mut tokenizer);
    Folder::with_tokenizer("llama", &tokenizer).error()
}

#[test]
fn no_tokenizer_at_all() {
    let wanted = |files| {
        format!(
            "DIR: no tokenizer found: looked for {files}; copy the model's tokenizer files next to its weights"
        )
    };
    assert_eq!(Folder::empty("llama").error(), wanted("tokenizer.model, tokenizer.json"));
    assert_eq!(Folder::empty("gpt2").bytes("tokenizer.model", b"").error(), wanted("tokenizer.json"));
    let tekken = Folder::empty("llama").bytes("tekken.json", b"{}").error();
    let wanted = "DIR/tekken.json: Mistral's own tokenizer format is not supported; save the tokenizer as tokenizer.json";
    assert_eq!(tekken, wanted);
}

#[test]
fn malformed_json_names_file_and_line() {
    for name in ["tokenizer.json", "tokenizer_config.json", "added_tokens.json"] {
        let error = Folder::empty("llama").bytes(name, b"{\n  \"a\": 1,\n  oops\n}").error();
        let wanted =
            format!("DIR/{name}:3:3: key must be a string; the file may be cut short: fetch it again");
        assert_eq!(error, wanted);
        let error = Folder::empty("llama").bytes(name, b"[1]").error();
        assert_eq!(error, format!("DIR/{name}: holds no JSON object"));
    }
    let folder =
        Folder::with_tokenizer("gpt2", &small()).json("tokenizer_config.json", &json!({ "legacy": true }));
    let warnings = folder.bytes("chat_template.jinja", b"ab\xff").loaded().unwrap().warnings;
    assert!(
        warnings[0].ends_with("/chat_template.jinja: not UTF-8 at byte 2; the chat template is left out")
    );
}

#[test]
fn a_folder_in_a_files_place() {
    let error = Folder::empty("llama").bytes("tokenizer.json/x", b"").error();
    assert!(error.starts_with("DIR/tokenizer.json: "), "{error}");
}

#[test]
fn more_tokens_than_rows() {
    let said = "the model has 4 embedding rows (vocab_size in config.json); the tokenizer and the weights are not of the same model";
    let rows = json!({ "vocab_size": 4 });
    let error = Folder::with_tokenizer("gpt2", &small()).config(rows.clone()).error();
    assert_eq!(error, format!("DIR/tokenizer.json: 5 tokens, but {said}"));
    let error = Folder::with_tokenizer("llama", &small_json()).config(rows.clone()).error();
    assert_eq!(error, format!("DIR/tokenizer.json: 264 tokens, but {said}"));
    let error = Folder::empty("llama").bytes("tokenizer.model", &model(2, &["a", "b", "c", "d", "e"]));
    assert_eq!(error.config(rows).error(), format!("DIR/tokenizer.model: 5 tokens, but {said}"));
    let huge = broken(|t| t["added_tokens"][1] = json!({ "id": u64::MAX, "content": "x" }));
    assert_eq!(
        huge,
        "DIR/tokenizer.json: added token \"x\": 18446744073709551615 is no token id, which is a whole number from 0 to 4194303"
    );
}

#[test]
fn vocabularies_of_other_kinds() {
    let word_level = broken(|t| t["model"]["type"] = json!("WordLevel"));
    assert!(
        word_level
            .contains("a vocabulary of type \"WordLevel\" is not supported; Unigram and WordPiece are, and BPE: byte-level"),
        "{word_level}"
    );
    let suffix = broken(|t| t["model"]["end_of_word_suffix"] = json!("</w>"));
    assert!(suffix.contains("model.end_of_word_suffix is not supported"), "{suffix}");
    let model = Folder::empty("llama").bytes("tokenizer.model", &model(3, &["a"])).error();
    let wanted = "DIR/tokenizer.model: a SentencePiece model of type Word is not supported; \
                  BPE with byte fallback and Unigram are";
    assert_eq!(model, wanted);
}

#[test]
fn malformed_vocabularies() {
    type Change = fn(&mut Json);
    let cases: [(Change, &str); 12] = [
        (|t| t["model"] = json!(null), "a vocabulary of type \"unknown\" is not supported"),
        (|t| t["model"]["vocab"] = json!([]), "model.vocab is no map of text to id"),
        (|t| t["model"]["vocab"]["a"] = json!(-2), "model.vocab[\"a\"]: -2 is no token id"),
        (|t| t["model"]["vocab"]["a"] = json!(3), "model.vocab gives id 3 to both \"a\" and \"b\""),
        (|t| t["model"]["merges"] = json!({}), "model.merges is no list"),
        (
            |t| t["model"]["merges"] = json!([]),
            "model.merges is empty; llama.cpp cannot load such a vocabulary",
        ),
        (
            |t| t["model"]["merges"][0] = json!("a b c"),
            "model.merges[0] is no pair and no \"left right\": \"a b c\"",
        ),
        (
            |t| t["model"]["merges"][0] = json!(["a"]),
            "model.merges[0] is no pair and no \"left right\": [\"a\"]",
        ),
        (
            |t| t["model"]["merges"][0] = json!("b a"),
            "model.merges[0] needs \"ba\", which is not in model.vocab",
        ),
        (|t| t["added_tokens"][0]["id"] = json!("x"), "added token \"<s>\": \"x\" is no token id"),
        (|t| t["added_tokens"][0]["content"] = json!(7), "added token 0 has no text \"content\""),
        (
            |t| t["added_tokens"][0]["id"] = json!(9),
            "token \"<s>\" has id 0 in the vocabulary, but 9 as an added token",
        ),
    ];
    for (change, wanted) in cases {
        let error = broken(change);
        assert!(error.starts_with(&format!("DIR/tokenizer.json: {wanted}")), "{error}");
    }
}

#[test]
fn two_tokens_in_one_place_and_one_in_two() {
    let taken = broken(|t| t["added_tokens"][0]["content"] = json!("<other>"));
    assert_eq!(taken, "DIR/tokenizer.json: id 0 belongs to \"<s>\" and to the added token \"<other>\"");
    let twice = broken(|t| {
        t["added_tokens"] = json!([{ "id": 5, "content": "x" }, { "id": 6, "content": "x" }]);
    });
    assert_eq!(twice, "DIR/tokenizer.json: added token \"x\" has two ids, 5 and 6; llama.cpp allows one");
}

#[test]
fn malformed_added_tokens_in_other_files() {
    let folder = || Folder::empty("llama").bytes("tokenizer.model", &model(2, &["a"]));
    let is_none = "is no token id, which is a whole number from 0 to 4194303";
    for id in [json!("1"), json!(-1), json!(1.5), json!(u64::MAX), json!(1 << 22), json!(null)] {
        let error = folder().json("added_tokens.json", &json!({ "x": id })).error();
        assert_eq!(error, format!("DIR/added_tokens.json: \"x\": {id} {is_none}"));
    }
    for key in ["one", "-1", "+1", "1.0", "18446744073709551616", " 1", ""] {
        let config = json!({ "added_tokens_decoder": { key: { "content": "x" } } });
        let error = folder().json("tokenizer_config.json", &config).error();
        let wanted = format!("DIR/tokenizer_config.json: added_tokens_decoder: {key:?} {is_none}");
        assert_eq!(error, wanted);
    }
    let config = json!({ "added_tokens_decoder": { "18446744073709551615": { "content": "x" } } });
    let error = folder().json("tokenizer_config.json", &config).error();
    assert!(error.contains("added_tokens_decoder: 18446744073709551615 is no token id"), "{error}");
}

#[test]
fn ids_that_are_none_are_refused_wherever_they_stand() {
    for id in [json!(u64::MAX), json!(1 << 22), json!(-1), json!(1.0), json!("1"), json!(null), json!([1])] {
        let is_none = format!("{id} is no token id, which is a whole number from 0 to 4194303");
        let error = broken(|t| t["model"]["vocab"]["zzz"] = id.clone());
        assert_eq!(error, format!("DIR/tokenizer.json: model.vocab[\"zzz\"]: {is_none}"));
        let error = broken_spm(|t| t["model"]["vocab"]["zzz"] = id.clone());
        assert_eq!(error, format!("DIR/tokenizer.json: model.vocab[\"zzz\"]: {is_none}"));
        let error = broken(|t| t["added_tokens"][1]["id"] = id.clone());
        assert_eq!(error, format!("DIR/tokenizer.json: added token \"</s>\": {is_none}"));
        let error = broken_unigram(|t| t["added_tokens"] = json!([{ "id": id, "content": "zzz" }]));
        assert_eq!(error, format!("DIR/tokenizer.json: added token \"zzz\": {is_none}"));
        if !id.is_null() {
            let error = broken_unigram(|t| t["model"]["unk_id"] = id.clone());
            assert_eq!(error, format!("DIR/tokenizer.json: model.unk_id: {is_none}"));
        }
    }
    let error = broken_unigram(|t| t["model"]["unk_id"] = json!(2));
    assert_eq!(error, "DIR/tokenizer.json: model.unk_id: there is no token 2; model.vocab has 2");
}

#[test]
fn dropout_is_a_probability() {
    for dropout in [json!(1.5), json!(-0.1), json!("0.5"), json!(true)] {
        let error = broken(|t| t["model"]["dropout"] = dropout.clone());
        let wanted = format!("model.dropout is {dropout}, which is no probability from 0 to 1");
        assert_eq!(error, format!("DIR/tokenizer.json: {wanted}"));
    }
}

#[test]
fn more_chat_templates_than_any_model_has() {
    let templates = |count: usize| -> Json {
        let named = |at| json!({ "name": format!("t{at}"), "template": "x" });
        json!({ "chat_template": (0..count).map(named).collect::<Vec<_>>() })
    };
    let folder =
        |count| Folder::with_tokenizer("gpt2", &small()).json("tokenizer_config.json", &templates(count));
    assert!(folder(1000).loaded().unwrap().warnings.is_empty());
    let warnings = folder(1001).loaded().unwrap().warnings;
    let wanted = "tokenizer_config.json: 1001 chat templates, where 1000 are the most that kquant takes; the chat template is left out";
    assert!(warnings.len() == 1 && warnings[0].ends_with(wanted), "{warnings:?}");
}

#[test]
fn byte_fallback_without_all_bytes() {
    let model = Folder::empty("llama").bytes("tokenizer.model", &model(2, &["a", "b"])).error();
    let wanted = "a SentencePiece vocabulary with 0 of the 256 byte tokens (<0x00> to <0xFF>) is not supported; \
                  SentencePiece BPE with byte fallback is";
    assert_eq!(model, format!("DIR/tokenizer.model: {wanted}"));
    let json = broken_spm(|t| {
        let mut vocab = small_vocab();
        vocab.remove("<0x41>");
        t["model"]["vocab"] = json!(vocab);
    });
    assert_eq!(json, format!("DIR/tokenizer.json: {}", wanted.replace("with 0 of", "with 255 of")));
}

#[test]
fn spaces_that_spm_cannot_follow() {
    let nfkc = broken_spm(|t| t["normalizer"] = json!({ "type": "NFKC" }));
    let wanted = "DIR/tokenizer.json: normalizer {\"type\":\"NFKC\"} with byte fallback is not supported; \
                  llama.cpp's SPM tokenizer only turns spaces into ▁; put the model's tokenizer.model into the folder";
    assert_eq!(nfkc, wanted);
    let digits = broken_spm(|t| t["pre_tokenizer"] = json!({ "type": "Digits" }));
    assert!(
        digits.contains("pre_tokenizer {\"type\":\"Digits\"} with byte fallback is not supported"),
        "{digits}"
    );
    // Words are kept apart here, while SPM would join two spaces into an existing token.
    let metaspace = broken_spm(|t| {
        t["pre_tokenizer"] = json!({ "type": "Metaspace", "replacement": "▁" });
        t["model"]["vocab"]["▁▁"] = json!(264);
    });
    assert!(metaspace.contains("pre_tokenizer {\"type\":\"Metaspace\""), "{metaspace}");
}

#[test]
fn a_damaged_sentencepiece_model() {
    let error = Folder::empty("llama").bytes("tokenizer.model", b"\x0a\xff").error();
    assert!(error.starts_with("DIR/tokenizer.model"), "{error}");
}

/// Returns a `tokenizer.model` of this type (2 BPE, 3 Word) with these pieces.
fn model(kind: u8, pieces: &[&str]) -> Vec<u8> {
    let field = |number: u8, body: &[u8]| [&[number << 3 | 2, body.len() as u8], body].concat();
    let mut out: Vec<u8> = pieces.iter().flat_map(|text| field(1, &field(1, text.as_bytes()))).collect();
    // The field trainer_spec has model_type, and no ids of special pieces (-1).
    let minus_one = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let none = |key: &[u8]| [key, &minus_one].concat();
    let ids = [none(&[0xc0, 2]), none(&[0xc8, 2]), none(&[0xd0, 2]), none(&[0xd8, 2])].concat();
    out.extend(field(2, &[&[3 << 3, kind], ids.as_slice()].concat()));
    out
}
