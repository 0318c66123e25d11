//! Tests of folders of models.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value as Json, json};

use super::{data, from_keys};
use crate::vocab::{Request, Tokenizer, TokenizerError, load};

/// A temporary folder, by its path.
pub(super) struct Folder(pub(super) PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    pub(super) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kquant-tokenizer-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn json(self, name: &str, value: &Json) -> Self {
        fs::write(self.0.join(name), value.to_string()).unwrap();
        self
    }

    fn open(&self, rows: Option<u64>) -> Result<Tokenizer, TokenizerError> {
        let config = json!({});
        let request =
            Request { folder: &self.0, architecture: "llama", vocab_size: rows, config: &config, pre: None };
        Tokenizer::from_metadata(&load(&request)?.keys)
    }
}

/// Returns the byte-level tokenizer of tests/data, to be changed.
fn byte_level() -> Json {
    serde_json::from_slice(&fs::read(data("archs/gpt2/tokenizer.json")).unwrap()).unwrap()
}

#[test]
fn tokenizer_model_alone_is_enough() {
    let folder = Folder::new("model-alone");
    fs::copy(data("tiny-llama/tokenizer.model"), folder.0.join("tokenizer.model")).unwrap();
    let (one, other) = (folder.open(None).unwrap(), from_keys("tiny-llama", "llama"));
    let text = " Alone,  with\tbytes: é😀";
    assert_eq!(one.encode(text, false).unwrap(), other.encode(text, false).unwrap());
}

#[test]
fn truncation_and_padding_are_not_for_us() {
    let mut tokenizer = byte_level();
    tokenizer["truncation"] =
        json!({ "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0 });
    tokenizer["padding"] = json!({ "strategy": { "Fixed": 9 }, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>" });
    let cut = Folder::new("truncation").json("tokenizer.json", &tokenizer).open(None).unwrap();
    for text in ["a", "a long text of many tokens"] {
        assert_eq!(cut.decode(&cut.encode(text, false).unwrap()), text);
    }
}

#[test]
fn control_tokens_not_marked_special_are_text_too() {
    let mut tokenizer = byte_level();
    let added = tokenizer["added_tokens"].as_array_mut().unwrap();
    let token = |id, content: &str| {
        json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": false })
    };
    added.extend([token(320, "<|user|>"), token(321, "<user>")]);
    let tokenizer = Folder::new("not-special").json("tokenizer.json", &tokenizer).open(None).unwrap();
    assert!(tokenizer.encode("<|user|>", false).unwrap().len() > 1);
    assert_eq!(tokenizer.encode("<|user|>", true).unwrap(), [320]);
    assert_eq!(tokenizer.encode("<user>", false).unwrap(), [321]);
}

#[test]
fn tokens_of_the_configuration_are_added() {
    let token = json!({ "content": "<extra>", "special": true });
    let config = json!({ "added_tokens_decoder": { "320": token } });
    let folder = Folder::new("configured")
        .json("tokenizer.json", &byte_level())
        .json("tokenizer_config.json", &config);
    assert_eq!(folder.open(None).unwrap().encode("<extra>", true).unwrap(), [320]);
}

#[test]
fn dropout_drops_nothing() {
    let text = "The whale swam over the water and the sea";
    let wanted = from_keys("archs/gpt2", "gpt2").encode(text, false).unwrap();
    for dropout in [0.5, 1.0] {
        let mut tokenizer = byte_level();
        tokenizer["model"]["dropout"] = json!(dropout);
        let folder = Folder::new("dropout").json("tokenizer.json", &tokenizer);
        let tokenizer = folder.open(None).unwrap();
        for special in [false, true] {
            assert!((0..8).all(|_| tokenizer.encode(text, special).unwrap() == wanted));
        }
    }
}

#[test]
fn a_pre_tokenizer_that_the_library_fails_at_is_refused() {
    let mut tokenizer = byte_level();
    let byte_level = tokenizer["pre_tokenizer"].clone();
    let fixed = json!({ "type": "FixedLength", "length": 0 });
    tokenizer["pre_tokenizer"] = json!({ "type": "Sequence", "pretokenizers": [fixed, byte_level] });
    let folder = Folder::new("pre-tokenizer").json("tokenizer.json", &tokenizer);
    let error = folder.open(None).expect_err("must be refused").to_string();
    assert!(error.contains("tokenizer.json: pre_tokenizer "), "{error}");
}

#[test]
fn ends_that_a_list_names_end_a_text() {
    let mut tokenizer = byte_level();
    let added = tokenizer["added_tokens"].as_array_mut().unwrap();
    added.push(
        json!({ "id": 320, "content": "<|eot_id|>", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true }),
    );
    let folder = Folder::new("ends").json("tokenizer.json", &tokenizer);
    let folder = folder.json("generation_config.json", &json!({ "eos_token_id": [2, 320] }));
    let tokenizer = folder.open(None).unwrap();
    assert_eq!((tokenizer.eos(), tokenizer.eot()), (Some(2), Some(320)));
}
