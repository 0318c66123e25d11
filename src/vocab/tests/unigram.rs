//! Tests of Unigram vocabularies, from `tokenizer.model` and from `tokenizer.json` alone.

use kquant_formats::gguf::{Array, Value};
use serde_json::{Value as Json, json};

use super::{Folder, data, keys, scores, tokens, types};

/// Returns a folder of tests/data with `tokenizer.model`, or without.
fn folder(name: &str, model: bool) -> Folder {
    let from = data(&format!("tokenizers/{name}"));
    let folder = Folder::empty("llama").copy(&from, "tokenizer.json").copy(&from, "tokenizer_config.json");
    if model { folder.copy(&from, "tokenizer.model") } else { folder }
}

#[test]
fn both_files_make_the_same_keys() {
    for name in ["unigram", "unigram-bytes"] {
        let (one, other) = (folder(name, true).load().unwrap(), folder(name, false).load().unwrap());
        assert_eq!(one, other, "{name}");
    }
}

#[test]
fn the_keys_of_a_unigram_vocabulary() {
    let out = folder("unigram", true).load().unwrap();
    let wanted = [
        "ggml.model",
        "ggml.pre",
        "ggml.tokens",
        "ggml.scores",
        "ggml.token_type",
        "ggml.add_space_prefix",
        "ggml.remove_extra_whitespaces",
        "ggml.precompiled_charsmap",
        "ggml.unknown_token_id",
        "ggml.bos_token_id",
        "ggml.eos_token_id",
        "ggml.add_bos_token",
        "ggml.add_eos_token",
        "ggml.eot_token_id",
    ];
    assert_eq!(keys(&out), wanted);
    assert_eq!(out.get("tokenizer.ggml.model"), Some(&Value::from("t5")));
    assert_eq!(out.get("tokenizer.ggml.remove_extra_whitespaces"), Some(&Value::Bool(true)));
    assert_eq!(out.get("tokenizer.ggml.unknown_token_id"), Some(&Value::U32(0)));
    assert_eq!(out.get("tokenizer.ggml.add_eos_token"), Some(&Value::Bool(false)));
    assert!(
        matches!(out.get("tokenizer.ggml.precompiled_charsmap"), Some(Value::Array(Array::U8(bytes))) if bytes.len() == 2459)
    );
    assert_eq!(tokens(&out)[..6], ["<unk>", "<s>", "</s>", "<pad>", "<sep>", "<|im_end|>"]);
    // The library's file does not say which control tokens are the user's.
    assert_eq!(types(&out)[..5], [2, 3, 3, 3, 4]);
    assert_eq!(scores(&out)[..5], [0.0; 5]);
    assert!(scores(&out)[6..].iter().all(|score| *score < 0.0));
    let bytes = folder("unigram-bytes", true).load().unwrap();
    assert_eq!(types(&bytes).iter().filter(|kind| **kind == 6).count(), 256);
    assert_eq!(bytes.get("tokenizer.ggml.precompiled_charsmap"), None);
    assert_eq!(bytes.get("tokenizer.ggml.remove_extra_whitespaces"), Some(&Value::Bool(false)));
}

/// Returns a small vocabulary.
fn small() -> Json {
    json!({
        "added_tokens": [{ "id": 0, "content": "<unk>", "special": true }],
        "normalizer": null,
        "pre_tokenizer": { "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true },
        "model": { "type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["▁a", -1.5], ["b", -2.0]] },
    })
}

#[test]
fn a_text_is_ended_only_where_the_files_or_the_tokenizers_class_say_so() {
    let added = |folder: Folder| {
        let out = folder.load().unwrap();
        [super::super::special::ADD_BOS, super::super::special::ADD_EOS].map(|key| out.get(key).cloned())
    };
    let flags = |bos, eos| [Some(Value::Bool(bos)), Some(Value::Bool(eos))];
    assert_eq!(added(Folder::with_tokenizer("llama", &small())), flags(false, false));
    let model = || Folder::empty("llama").copy(&data("tokenizers/unigram"), "tokenizer.model");
    assert_eq!(added(model()), flags(false, false));
    for (class, wanted) in [("LlamaTokenizer", flags(true, false)), ("T5Tokenizer", flags(false, true))] {
        let config = json!({ "tokenizer_class": class });
        assert_eq!(added(model().json("tokenizer_config.json", &config)), wanted);
    }
}

#[test]
fn what_is_refused_and_how_it_is_said() {
    type Change = fn(&mut Json);
    let cases: [(Change, &str); 7] = [
        (|t| t["model"]["vocab"] = json!({}), "model.vocab is no list of texts and scores"),
        (|t| t["model"]["vocab"][1] = json!(["a"]), "model.vocab[1] is no text with a score: [\"a\"]"),
        (
            |t| t["model"]["unk_id"] = json!(null),
            "a Unigram vocabulary without an unknown token is not supported; ",
        ),
        (
            |t| t["normalizer"] = json!({ "type": "NFKC" }),
            "normalizer {\"type\":\"NFKC\"} of a Unigram vocabulary is not",
        ),
        (
            |t| t["normalizer"] = json!({ "type": "Strip" }),
            "normalizer {\"type\":\"Strip\"} of a Unigram vocabulary is not",
        ),
        (
            |t| t["normalizer"] = json!({ "type": "Precompiled", "precompiled_charsmap": "?" }),
            "normalizer: precompiled_charsmap is no text in base64",
        ),
        (
            |t| t["normalizer"] = json!({ "type": "Precompiled", "precompiled_charsmap": "AAAA" }),
            "precompiled_charsmap is cut short",
        ),
    ];
    for (change, wanted) in cases {
        let mut tokenizer = small();
        change(&mut tokenizer);
        let error = Folder::with_tokenizer("llama", &tokenizer).error();
        assert!(error.starts_with(&format!("DIR/tokenizer.json: {wanted}")), "{error}");
    }
}
