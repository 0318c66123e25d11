//! Typed access to the keys `tokenizer.ggml.*`.

use kquant_formats::gguf::{Array, Metadata, Value};

use super::error::TokenizerError;

pub(super) const MODEL: &str = "tokenizer.ggml.model";
pub(super) const PRE: &str = "tokenizer.ggml.pre";
pub(super) const TOKENS: &str = "tokenizer.ggml.tokens";
pub(super) const TYPES: &str = "tokenizer.ggml.token_type";
pub(super) const SCORES: &str = "tokenizer.ggml.scores";
pub(super) const MERGES: &str = "tokenizer.ggml.merges";

/// A kind of tokenizer that kquant has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Model {
    /// SentencePiece BPE with byte fallback, named `llama`.
    Spm,
    /// Byte-level BPE, named `gpt2`.
    Bpe,
    /// SentencePiece Unigram, named `t5`.
    Ugm,
    /// WordPiece, named `bert`.
    Wpm,
}

impl Model {
    pub(super) fn read(metadata: &Metadata) -> Result<Self, TokenizerError> {
        match metadata.get(MODEL).and_then(Value::as_str) {
            Some("llama") => Ok(Self::Spm),
            Some("gpt2") => Ok(Self::Bpe),
            Some("t5") => Ok(Self::Ugm),
            Some("bert") => Ok(Self::Wpm),
            Some(model) => Err(TokenizerError::UnknownModel { model: model.to_owned() }),
            None => Err(TokenizerError::key(MODEL, "is missing or no text")),
        }
    }
}

/// Returns the name of the pre-tokenizer; `default` if there is none, as in llama.cpp.
pub(super) fn pre(metadata: &Metadata) -> &str {
    metadata.get(PRE).and_then(Value::as_str).filter(|name| !name.is_empty()).unwrap_or("default")
}

/// Returns the list of texts under `key`.
pub(super) fn texts<'a>(metadata: &'a Metadata, key: &'static str) -> Result<&'a [String], TokenizerError> {
    match metadata.get(key) {
        Some(Value::Array(Array::String(texts))) => Ok(texts),
        _ => Err(TokenizerError::key(key, "is missing or no list of texts")),
    }
}

/// Returns `token_type`, with a number for each of `count` tokens, if it is there.
pub(super) fn types(metadata: &Metadata, count: usize) -> Result<Option<&[i32]>, TokenizerError> {
    match metadata.get(TYPES) {
        None => Ok(None),
        Some(Value::Array(Array::I32(types))) if types.len() >= count => Ok(Some(types)),
        Some(_) => Err(TokenizerError::key(TYPES, format!("is no list of {count} 32-bit integers"))),
    }
}

/// Returns `scores`, with one for each of `count` tokens; all are 0 if the key is absent.
pub(super) fn scores(metadata: &Metadata, count: usize) -> Result<Vec<f32>, TokenizerError> {
    let scores: Vec<f32> = match metadata.get(SCORES) {
        None => vec![0.0; count],
        Some(Value::Array(Array::F32(scores))) => scores.clone(),
        Some(Value::Array(Array::I32(scores))) => scores.iter().map(|&score| score as f32).collect(),
        Some(_) => return Err(TokenizerError::key(SCORES, "is no list of numbers")),
    };
    if scores.len() < count {
        return Err(TokenizerError::key(SCORES, format!("has {} values for {count} tokens", scores.len())));
    }
    match scores.iter().position(|score| score.is_nan()) {
        Some(id) => Err(TokenizerError::key(SCORES, format!("token {id} has a score that is no number"))),
        None => Ok(scores),
    }
}

/// Returns the flag under `key`, if it is there.
pub(super) fn flag(metadata: &Metadata, key: &str) -> Option<bool> {
    match metadata.get(key) {
        Some(Value::Bool(value)) => Some(*value),
        _ => None,
    }
}

/// Returns the token's id under `key`, if it is there and below `count`.
pub(super) fn id(metadata: &Metadata, key: &str, count: usize) -> Option<u32> {
    let id = metadata.get(key)?.as_u64()?;
    u32::try_from(id).ok().filter(|&id| (id as usize) < count)
}
