//! Tests of warnings on settings that keys cannot express.

use serde_json::{Value as Json, json};

use super::{Folder, data, small};

/// Returns the warnings about the small byte-level tokenizer after `change`.
fn warnings(change: impl FnOnce(&mut Json)) -> Vec<String> {
    let mut tokenizer = small();
    change(&mut tokenizer);
    Folder::with_tokenizer("gpt2", &tokenizer).loaded().unwrap().warnings
}

#[test]
fn nothing_is_said_of_what_llama_cpp_can_do() {
    assert!(warnings(|_| {}).is_empty());
    assert!(warnings(|t| t["normalizer"] = json!({ "type": "NFC" })).is_empty());
    let empty = json!({ "type": "Sequence", "normalizers": [] });
    assert!(warnings(|t| t["normalizer"] = empty).is_empty());
}

#[test]
fn normalizers_of_byte_level_bpe_are_left_out() {
    let said = warnings(|t| t["normalizer"] = json!({ "type": "NFKC" }));
    let wanted =
        "llama.cpp's byte-level BPE has no normalizer; the tokenizer's is left out: {\"type\":\"NFKC\"}";
    assert_eq!(said, [wanted]);
}

#[test]
fn flags_of_added_tokens() {
    let said = warnings(|t| t["added_tokens"][1]["lstrip"] = json!(true));
    assert!(
        said.len() == 1 && said[0].starts_with("1 added tokens swallow") && said[0].ends_with(": \"</s>\""),
        "{said:?}"
    );
    let many = warnings(|t| {
        let token = |id| json!({ "id": id, "content": format!("<{id}>"), "rstrip": true });
        t["added_tokens"] = (5..12).map(token).collect();
    });
    assert!(many[0].ends_with("\"<9>\" and 2 more"), "{many:?}");
}

#[test]
fn bytes_of_a_unigram_vocabulary() {
    let folder = Folder::empty("llama").copy(&data("tokenizers/unigram-bytes"), "tokenizer.model");
    let said = folder.loaded().unwrap().warnings;
    assert!(said.len() == 1 && said[0].contains("Unigram tokenizer makes unknown tokens"), "{said:?}");
    let folder = Folder::empty("llama").copy(&data("tokenizers/unigram"), "tokenizer.model");
    assert!(folder.loaded().unwrap().warnings.is_empty());
}

#[test]
fn settings_that_make_tokens_random_are_left_out() {
    let said = warnings(|t| t["model"]["dropout"] = json!(0.5));
    let left_out = "which makes token ids random for training; it is left out";
    assert_eq!(said, [format!("model.dropout of tokenizer.json is 0.5, {left_out}")]);
    for none in [json!(null), json!(0), json!(0.0)] {
        assert!(warnings(|t| t["model"]["dropout"] = none.clone()).is_empty());
    }
    let config = json!({ "sp_model_kwargs": { "enable_sampling": true, "alpha": 0.1 } });
    let folder = Folder::empty("llama").copy(&data("tiny-llama"), "tokenizer.model");
    let said = folder.json("tokenizer_config.json", &config).loaded().unwrap().warnings;
    assert_eq!(said, [format!("sp_model_kwargs of tokenizer_config.json has enable_sampling, {left_out}")]);
}
