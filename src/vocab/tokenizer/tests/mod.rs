//! Tests of the way from text to ids, against Hugging Face's library and llama.cpp's recorded ids.

mod folders;
mod golden;
mod keys;
mod library;
mod properties;
mod published;
mod unigram;
mod wordpiece;

use std::fs;
use std::path::{Path, PathBuf};

use kquant_formats::gguf::{Array, Metadata, Value};

use self::library::Library;
use super::{Tokenizer, TokenizerError};
use crate::vocab::{Request, load};

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(path)
}

fn json(path: &str) -> serde_json::Value {
    serde_json::from_slice(&fs::read(data(path)).unwrap()).unwrap()
}

/// Calls `with` with a request for a folder of tests/data.
fn request<T>(folder: &str, architecture: &str, with: impl FnOnce(&Request) -> T) -> T {
    let (path, config) = (data(folder), json(&format!("{folder}/config.json")));
    with(&Request { folder: &path, architecture, vocab_size: None, config: &config, pre: None })
}

/// Returns Hugging Face's tokenizer of a folder.
fn library(folder: &str) -> Library {
    Library::open(&data(folder).join("tokenizer.json"))
}

/// Returns the GGUF keys of a folder.
fn keys_of(folder: &str, architecture: &str) -> Metadata {
    request(folder, architecture, load).unwrap().keys
}

/// Returns the tokenizer that a folder's keys give.
fn from_keys(folder: &str, architecture: &str) -> Tokenizer {
    Tokenizer::from_metadata(&keys_of(folder, architecture)).unwrap()
}

fn texts(texts: &[&str]) -> Value {
    Value::Array(Array::String(texts.iter().map(|&text| text.to_owned()).collect()))
}

/// Returns the keys of a small SentencePiece vocabulary: `tokens` with scores and types after the 256 bytes and three
/// specials.
fn spm(tokens: &[(&str, f32, i32)]) -> Metadata {
    let mut list: Vec<(String, f32, i32)> =
        [("<unk>", 2), ("<s>", 3), ("</s>", 3)].map(|(text, kind)| (text.to_owned(), 0.0, kind)).into();
    list.extend((0..256).map(|byte| (format!("<0x{byte:02X}>"), 0.0, 6)));
    list.extend(tokens.iter().map(|&(text, score, kind)| (text.to_owned(), score, kind)));
    let mut keys = Metadata::new();
    keys.set("tokenizer.ggml.model", Value::from("llama"));
    let texts = list.iter().map(|token| token.0.clone()).collect();
    keys.set("tokenizer.ggml.tokens", Value::Array(Array::String(texts)));
    keys.set("tokenizer.ggml.scores", Value::Array(Array::F32(list.iter().map(|token| token.1).collect())));
    keys.set(
        "tokenizer.ggml.token_type",
        Value::Array(Array::I32(list.iter().map(|token| token.2).collect())),
    );
    keys
}

/// First id after the bytes of [`spm`].
const FIRST: u32 = 259;

/// Returns the keys of a small byte-level vocabulary.
fn bpe(tokens: &[&str], merges: &[&str]) -> Metadata {
    let mut keys = Metadata::new();
    keys.set("tokenizer.ggml.model", Value::from("gpt2"));
    keys.set("tokenizer.ggml.pre", Value::from("gpt-2"));
    keys.set("tokenizer.ggml.tokens", texts(tokens));
    keys.set("tokenizer.ggml.merges", texts(merges));
    keys
}

/// Returns the ids of `text` by the tokenizer of `keys`.
fn encode(keys: &Metadata, text: &str) -> Vec<u32> {
    Tokenizer::from_metadata(keys).unwrap().encode(text, false).unwrap()
}

/// Returns the error that `keys` give.
fn error(keys: &Metadata) -> TokenizerError {
    Tokenizer::from_metadata(keys).expect_err("must be refused")
}
