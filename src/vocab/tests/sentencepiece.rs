//! Tests of SentencePiece BPE, from `tokenizer.model` and from `tokenizer.json` alone.

use std::collections::HashMap;

use kquant_formats::gguf::{Metadata, Value};
use serde_json::json;

use super::{Folder, data, keys, load_data, scores, tokens, types};

#[test]
fn a_folder_with_a_sentencepiece_model() {
    let out = load_data("tiny-llama", "llama");
    assert_eq!(
        keys(&out),
        [
            "ggml.model",
            "ggml.pre",
            "ggml.tokens",
            "ggml.scores",
            "ggml.token_type",
            "ggml.bos_token_id",
            "ggml.eos_token_id",
            "ggml.unknown_token_id",
            "ggml.add_bos_token",
            "ggml.add_sep_token",
            "ggml.add_eos_token",
        ]
    );
    assert_eq!(out.get("tokenizer.ggml.model"), Some(&Value::from("llama")));
    assert_eq!(out.get("tokenizer.ggml.pre"), Some(&Value::from("default")));
    assert_eq!(out.get("tokenizer.ggml.bos_token_id"), Some(&Value::U32(1)));
    assert_eq!(out.get("tokenizer.ggml.eos_token_id"), Some(&Value::U32(2)));
    assert_eq!(out.get("tokenizer.ggml.unknown_token_id"), Some(&Value::U32(0)));
    assert_eq!(out.get("tokenizer.ggml.add_bos_token"), Some(&Value::Bool(true)));
    assert_eq!(out.get("tokenizer.ggml.add_sep_token"), Some(&Value::Bool(false)));
    assert_eq!(out.get("tokenizer.ggml.add_eos_token"), Some(&Value::Bool(false)));
    assert_eq!(tokens(&out).len(), 2048);
    assert_eq!(tokens(&out)[..4], ["<unk>", "<s>", "</s>", "<0x00>"]);
    assert_eq!(types(&out)[..4], [2, 3, 3, 6]);
    assert_eq!((tokens(&out)[259].as_str(), scores(&out)[259], types(&out)[259]), ("▁t", 0.0, 1));
    assert_eq!(scores(&out)[260..263], [-1.0, -2.0, -3.0]);
}

/// Returns tiny-llama's folder without `tokenizer.model`.
fn json_only() -> Folder {
    let from = data("tiny-llama");
    Folder::empty("llama").copy(&from, "tokenizer.json").copy(&from, "tokenizer_config.json")
}

#[test]
fn the_same_vocabulary_from_tokenizer_json_alone() {
    let with_model = load_data("tiny-llama", "llama");
    let out = json_only().load().unwrap();
    assert_eq!(keys(&out), keys(&with_model));
    assert_eq!(tokens(&out), tokens(&with_model));
    assert_eq!(types(&out)[..4], [3, 3, 3, 6]);
    assert_eq!(types(&out)[1..], types(&with_model)[1..]);
    // The scores from the merges equal SentencePiece's own.
    assert_eq!(scores(&out)[3..], scores(&with_model)[3..]);
    assert_eq!(scores(&out)[..3], [-1000.0; 3]);
}

/// Tokenizes as llama.cpp's SPM tokenizer does, slowly: it joins the neighbours whose union has the highest score, the
/// leftmost first.
fn join_by_score(text: &str, tokens: &[String], scores: &[f32]) -> Vec<String> {
    let score: HashMap<&str, f32> = tokens.iter().map(String::as_str).zip(scores.iter().copied()).collect();
    join(text, |union, _| score.get(union).copied())
}

/// Tokenizes as Hugging Face's BPE does, slowly: it applies the merge of lowest rank, the leftmost first.
fn join_by_rank(text: &str, merges: &[serde_json::Value]) -> Vec<String> {
    let pair = |merge: &serde_json::Value| [0, 1].map(|half| merge[half].as_str().unwrap().to_owned());
    let rank: HashMap<[String; 2], usize> = merges.iter().map(pair).zip(0..).collect();
    join(text, |_, pair| rank.get(pair).map(|rank| -(*rank as f32)))
}

fn join(text: &str, value: impl Fn(&str, &[String; 2]) -> Option<f32>) -> Vec<String> {
    let mut pieces: Vec<String> = text.chars().map(String::from).collect();
    loop {
        let mut best: Option<(f32, usize)> = None;
        for at in 1..pieces.len() {
            let pair = [pieces[at - 1].clone(), pieces[at].clone()];
            if let Some(found) = value(&pair.concat(), &pair)
                && best.is_none_or(|(highest, _)| found > highest)
            {
                best = Some((found, at));
            }
        }
        let Some((_, at)) = best else { return pieces };
        let right = pieces.remove(at);
        pieces[at - 1].push_str(&right);
    }
}

const TEXT: &str = "▁The▁library▁reads▁a▁sequence▁of▁bytes;▁when▁the▁retrieval▁method▁fails,▁it▁returns▁differences\
▁between▁▁the▁original▁and▁what▁was▁written,▁which▁is▁never▁the▁other▁way▁round";

#[test]
fn scores_from_merges_make_llama_cpp_join_as_hugging_face_does() {
    let out = json_only().load().unwrap();
    let file: serde_json::Value =
        serde_json::from_slice(&std::fs::read(data("tiny-llama/tokenizer.json")).unwrap()).unwrap();
    let wanted = join_by_rank(TEXT, file["model"]["merges"].as_array().unwrap());
    assert_eq!(join_by_score(TEXT, &tokens(&out), &scores(&out)), wanted);
    assert_ne!(join_by_score(TEXT, &tokens(&out), &[-1000.0; 2048]), wanted);
}

/// Returns the three special tokens, the 256 bytes, and `▁ a b ▁a ▁ab`.
pub(super) fn small_vocab() -> serde_json::Map<String, serde_json::Value> {
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let first = ["<unk>", "<s>", "</s>"].map(String::from);
    let last = ["▁a", "▁ab", "▁", "a", "b"].map(String::from);
    first.into_iter().chain(bytes).chain(last).zip(0..).map(|(text, id)| (text, json!(id))).collect()
}

pub(super) fn small_json() -> serde_json::Value {
    json!({
        "added_tokens": [{ "id": 1, "content": "<s>", "special": true }],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                { "type": "Prepend", "prepend": "▁" },
                { "type": "Replace", "pattern": { "String": " " }, "content": "▁" },
            ],
        },
        "pre_tokenizer": null,
        "model": {
            "type": "BPE",
            "byte_fallback": true,
            "unk_token": "<unk>",
            "vocab": small_vocab(),
            "merges": ["▁ a", "▁a b"],
        },
    })
}

#[test]
fn kinds_and_scores_from_tokenizer_json() {
    let out =
        Folder::with_tokenizer("llama", &small_json()).config(json!({ "vocab_size": 266 })).load().unwrap();
    assert_eq!(types(&out)[..4], [2, 3, 1, 6]);
    assert_eq!(tokens(&out)[259..], ["▁a", "▁ab", "▁", "a", "b", "[PAD264]", "[PAD265]"]);
    // The token "</s>" has no merge and no role: it comes after the merges, before the characters.
    assert_eq!(
        (scores(&out)[2], &scores(&out)[259..]),
        (-2.0, &[0.0, -1.0, -3.0, -4.0, -5.0, -1e4, -1e4][..])
    );
    assert_eq!(types(&out)[262..], [1, 1, 5, 5]);
}

fn space_prefix(out: &Metadata) -> Option<bool> {
    match out.get("tokenizer.ggml.add_space_prefix") {
        Some(Value::Bool(value)) => Some(*value),
        None => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_space_prefix_follows_the_definition() {
    let metaspace =
        |scheme| json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false });
    let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
    let split = json!({ "type": "Split", "pattern": { "String": " " }, "behavior": "MergedWithPrevious" });
    for (normalizer, pre_tokenizer, wanted) in [
        (json!(null), metaspace("first"), None),
        (json!(null), metaspace("always"), None),
        (json!(null), metaspace("never"), Some(false)),
        (
            json!(null),
            json!({ "type": "Metaspace", "replacement": "▁", "add_prefix_space": false }),
            Some(false),
        ),
        (replace.clone(), json!(null), Some(false)),
        (replace, split, Some(false)),
    ] {
        let mut tokenizer = small_json();
        tokenizer["normalizer"] = normalizer;
        tokenizer["pre_tokenizer"] = pre_tokenizer;
        let out = Folder::with_tokenizer("llama", &tokenizer).load().unwrap();
        assert_eq!(space_prefix(&out), wanted, "{tokenizer}");
    }
}

#[test]
fn tokenizer_config_decides_the_space_prefix_of_llama() {
    for value in [true, false] {
        let config = json!({ "add_prefix_space": value });
        let out = Folder::with_tokenizer("llama", &small_json()).json("tokenizer_config.json", &config);
        let out = out.load().unwrap();
        assert_eq!(space_prefix(&out), Some(value));
        assert_eq!(keys(&out)[0], "ggml.add_space_prefix");
    }
}

/// Returns tiny-llama's folder, for changes.
fn with_model() -> Folder {
    Folder::empty("llama").copy(&data("tiny-llama"), "tokenizer.model")
}

#[test]
fn added_tokens_of_a_sentencepiece_model() {
    let config = json!({
        "added_tokens_decoder": {
            "0": { "content": "<unk>", "special": true },
            "2049": { "content": "▁▁x", "special": false },
            "2050": { "content": "<|end|>" },
            "9999": { "content": "<no row>", "special": true },
        },
    });
    let folder = with_model().json("tokenizer_config.json", &config);
    let folder = folder.json("added_tokens.json", &json!({ "<pad>": 2048, "<far>": 9998 }));
    let out = folder.config(json!({ "vocab_size": 2053 })).load().unwrap();
    assert_eq!(tokens(&out)[2048..], ["<pad>", "  x", "<|end|>", "[PAD2051]", "[PAD2052]"]);
    assert_eq!(types(&out)[2048..], [4, 4, 3, 5, 5]);
    assert_eq!(scores(&out)[2048..], [-1e3, -1e3, -1e3, -1e4, -1e4]);
    assert_eq!((types(&out)[0], scores(&out)[0]), (3, -1e3));
}

#[test]
fn code_llama_and_granite_are_known_by_their_sizes() {
    let out = with_model().config(json!({ "vocab_size": 32016 })).load().unwrap();
    assert_eq!(out.get("tokenizer.ggml.eot_token_id"), Some(&Value::U32(32010)));
    let out = with_model().config(json!({ "vocab_size": 49152 })).load().unwrap();
    assert_eq!(out.get("tokenizer.ggml.add_bos_token"), Some(&Value::Bool(false)));
    assert_eq!(out.get("tokenizer.ggml.eot_token_id"), None);
}
