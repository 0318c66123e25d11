//! Tests of folders made by code, and helpers for them.

mod added;
mod byte_level;
mod ends;
mod errors;
mod pre_tokenizers;
mod sentencepiece;
mod special;
mod templates;
mod unigram;
mod warnings;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use kquant_formats::gguf::{Array, Metadata, Value};
use serde_json::json;

use super::{Loaded, Request, VocabError, load};

/// A temporary folder with tokenizer files.
struct Folder {
    path: PathBuf,
    architecture: &'static str,
    config: serde_json::Value,
    pre: Option<&'static str>,
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Folder {
    fn empty(architecture: &'static str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("kquant-vocab-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self { path, architecture, config: json!({}), pre: None }
    }

    /// Creates a folder with this `tokenizer.json`.
    fn with_tokenizer(architecture: &'static str, tokenizer: &serde_json::Value) -> Self {
        Self::empty(architecture).json("tokenizer.json", tokenizer)
    }

    fn json(self, name: &str, value: &serde_json::Value) -> Self {
        self.bytes(name, value.to_string().as_bytes())
    }

    fn bytes(self, name: &str, bytes: &[u8]) -> Self {
        let path = self.path.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }

    fn copy(self, from: &Path, name: &str) -> Self {
        let bytes = fs::read(from.join(name)).unwrap();
        self.bytes(name, &bytes)
    }

    fn config(mut self, config: serde_json::Value) -> Self {
        self.config = config;
        self
    }

    fn pre(mut self, pre: &'static str) -> Self {
        self.pre = Some(pre);
        self
    }

    fn load(&self) -> Result<Metadata, VocabError> {
        Ok(self.loaded()?.keys)
    }

    fn loaded(&self) -> Result<Loaded, VocabError> {
        let Self { path, architecture, config, pre } = self;
        load(&Request { folder: path, architecture, vocab_size: None, config, pre: *pre })
    }

    /// Returns the error's text, without the folder's path.
    fn error(&self) -> String {
        let error = self.load().expect_err("must be refused").to_string();
        error.replace(self.path.to_str().unwrap(), "DIR")
    }
}

/// Loads a folder of tests/data with its own `config.json`.
fn load_data(folder: &str, architecture: &str) -> Metadata {
    let path = data(folder);
    let config = serde_json::from_slice(&fs::read(path.join("config.json")).unwrap()).unwrap();
    let request = Request { folder: &path, architecture, vocab_size: None, config: &config, pre: None };
    load(&request).unwrap().keys
}

fn data(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(folder)
}

/// Returns byte-level BPE of five tokens.
fn small() -> serde_json::Value {
    json!({
        "added_tokens": [
            { "id": 0, "content": "<s>", "special": true },
            { "id": 1, "content": "</s>", "special": true },
        ],
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false },
        "decoder": { "type": "ByteLevel" },
        "model": {
            "type": "BPE",
            "vocab": { "<s>": 0, "</s>": 1, "a": 2, "b": 3, "ab": 4 },
            "merges": ["a b"],
        },
    })
}

/// Returns the names of the keys, in order.
fn keys(metadata: &Metadata) -> Vec<&str> {
    metadata.iter().map(|(key, _)| key.strip_prefix("tokenizer.").unwrap_or(key)).collect()
}

fn strings(metadata: &Metadata, key: &str) -> Vec<String> {
    match metadata.get(key) {
        Some(Value::Array(Array::String(list))) => list.clone(),
        other => panic!("{key} is {other:?}"),
    }
}

fn tokens(metadata: &Metadata) -> Vec<String> {
    strings(metadata, "tokenizer.ggml.tokens")
}

fn types(metadata: &Metadata) -> Vec<i32> {
    match metadata.get("tokenizer.ggml.token_type") {
        Some(Value::Array(Array::I32(list))) => list.clone(),
        other => panic!("token_type is {other:?}"),
    }
}

fn scores(metadata: &Metadata) -> Vec<f32> {
    match metadata.get("tokenizer.ggml.scores") {
        Some(Value::Array(Array::F32(list))) => list.clone(),
        other => panic!("scores are {other:?}"),
    }
}
