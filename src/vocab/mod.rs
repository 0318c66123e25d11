//! Tokenizers: conversion of Hugging Face's files to GGUF keys, and tokenization by either.
//!
//! | file | what |
//! |---|---|
//! | `files` | reads the folder's JSON files |
//! | `model`, `added`, `tokens` | the BPE model, the tokens added to it, the list of both by id |
//! | `beside` | other files beside `tokenizer.model` |
//! | `spm`, `spaces` | SentencePiece BPE with byte fallback (`llama`), from `tokenizer.model` or `tokenizer.json` |
//! | `bpe` | byte-level BPE (`gpt2`) |
//! | `pre_tokenizer` | how byte-level BPE cuts a text into words, and llama.cpp's name for it |
//! | `unigram`, `charsmap` | SentencePiece Unigram (`t5`), from either file |
//! | `wordpiece` | WordPiece (`bert`) |
//! | `byte_letters` | how byte-level BPE writes bytes |
//! | `special`, `ends`, `named`, `post_processor`, `template` | ids of special tokens, which of them are added, chat templates |
//! | `scripts` | the writing system of a token |
//! | `warnings` | what the keys cannot say |
//! | `tokenizer` | text to token ids and back |
//!
//! Keys, types, values and order are those of llama.cpp's converter, except where these would make llama.cpp tokenize
//! differently from Hugging Face; such places have a comment.

mod added;
mod beside;
mod bpe;
mod byte_letters;
mod charsmap;
mod ends;
mod error;
mod files;
mod model;
mod named;
mod post_processor;
mod pre_tokenizer;
mod scripts;
mod spaces;
mod special;
mod spm;
mod template;
#[cfg(test)]
mod tests;
mod tokenizer;
mod tokens;
mod unigram;
mod warnings;
mod wordpiece;

use std::path::{Path, PathBuf};

use kquant_formats::gguf::{Metadata, Value};
use kquant_formats::sentencepiece::{ModelType, SentencePiece};
use serde_json::json;

pub use error::VocabError;
use files::{Files, Json};
use model::Bpe;
pub use scripts::script;
use special::{Listed, OwnIds, Special};
pub use tokenizer::{Tokenizer, TokenizerError};

/// The model whose tokenizer is read, with settings.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Path of the model's folder.
    pub folder: &'a Path,
    /// GGUF's name of the architecture, such as `llama` or `gpt2`.
    pub architecture: &'a str,
    /// Number of rows of the token embedding; without it, `vocab_size` of `config` is used.
    pub vocab_size: Option<u64>,
    /// Contents of `config.json`.
    pub config: &'a serde_json::Value,
    /// llama.cpp's name of the pre-tokenizer (`--pre NAME`), if its definition is not known.
    pub pre: Option<&'a str>,
}

/// A folder's tokenizer as GGUF keys.
#[derive(Debug)]
pub struct Loaded {
    /// All `tokenizer.*` keys, in the converter's order.
    pub keys: Metadata,
    /// Warnings on settings that keys cannot express, so that llama.cpp finds other tokens than the model knows.
    pub warnings: Vec<String>,
}

/// Reads a folder's tokenizer into all `tokenizer.*` keys, in the converter's order.
///
/// # Errors
/// Fails when there is no tokenizer, a file is malformed or contradicts another, the vocabulary is larger than the
/// embedding, or it is of a kind that kquant or llama.cpp does not have.
pub fn load(request: &Request) -> Result<Loaded, VocabError> {
    if let Some(name) = request.pre {
        pre_tokenizer::check_name(name)?;
    }
    let files = Files::read(request.folder)?;
    let mut out = Metadata::new();
    if request.architecture == "llama"
        && let Some(prefix) = files.config("add_prefix_space").and_then(|value| value.as_bool())
    {
        out.set(spm::ADD_SPACE_PREFIX, Value::Bool(prefix));
    }
    let rows = request.vocab_size.or_else(|| config_rows(request.config));
    let own = load_tokens(request, &files, rows, &mut out)?;
    let texts = special::texts(&out).to_vec();
    let listed = Listed::new(texts.iter().map(String::as_str), own);
    Special::read(&files, request.config, special::ROLES, &listed).write(&mut out);
    if out.get("tokenizer.ggml.model").and_then(Value::as_str) == Some("t5") {
        unigram::write_added(&files, &mut out);
        if request.architecture.contains("bert") {
            out.set(wordpiece::TOKEN_TYPE_COUNT, Value::U32(wordpiece::token_types(request.config)));
        }
    }
    if out.get("tokenizer.ggml.model").and_then(Value::as_str) == Some("bert") {
        wordpiece::write_unknown(&files, &texts, &mut out);
    }
    let mut left_out = None;
    match template::Templates::read(&files) {
        Ok(templates) => templates.write(&mut out),
        Err(error) => left_out = Some(format!("{error}; the chat template is left out")),
    }
    normalizer_flags(&files, &mut out);
    if request.architecture == "llama" {
        size_quirks(request, &files, rows, &listed, &mut out);
    }
    let text = |id: u64| usize::try_from(id).ok().and_then(|id| texts.get(id)).map(String::as_str);
    for (key, id) in ends::find(&files, request.config, &text, &out) {
        out.set(key, Value::U32(id));
    }
    named::write(&mut out);
    let warnings = left_out.into_iter().chain(warnings::of(&files, request.config, &out)).collect();
    Ok(Loaded { warnings, keys: out })
}

/// Returns `vocab_size` of `config.json`, or of its text part.
fn config_rows(config: &serde_json::Value) -> Option<u64> {
    let part = |config: &serde_json::Value| config.get("vocab_size")?.as_u64();
    part(config).or_else(|| part(config.get("text_config")?))
}

/// Sets the model, the tokens and their further keys; returns the ids that the file itself gives to roles.
fn load_tokens(
    request: &Request,
    files: &Files,
    rows: Option<u64>,
    out: &mut Metadata,
) -> Result<OwnIds, VocabError> {
    if let Some((path, model)) = sentencepiece(request, files)? {
        match model.model {
            ModelType::Bpe => spm::load_model(&path, &model, files, rows, out)?,
            ModelType::Unigram => unigram::load_model(&path, &model, files, rows, out)?,
            kind => {
                let what = format!("a SentencePiece model of type {kind:?}");
                return Err(VocabError::unsupported(&path, what, "BPE with byte fallback and Unigram are"));
            }
        }
        return Ok(OwnIds::of(&model));
    }
    load_json(request, files, rows, out)?;
    Ok(OwnIds::default())
}

/// Returns the folder's `tokenizer.model` and its path. It is preferred, because it has the scores; GPT-2's vocabularies
/// are always byte-level.
fn sentencepiece(request: &Request, files: &Files) -> Result<Option<(PathBuf, SentencePiece)>, VocabError> {
    let Some(path) = files.model().filter(|_| !is_byte_level_only(request)) else { return Ok(None) };
    let model = SentencePiece::open(&path)?;
    Ok(Some((path, model)))
}

/// Sets the model, the tokens and their further keys from `tokenizer.json`.
fn load_json(
    request: &Request,
    files: &Files,
    rows: Option<u64>,
    out: &mut Metadata,
) -> Result<(), VocabError> {
    let Some(file) = &files.tokenizer else {
        return Err(missing(files, is_byte_level_only(request)));
    };
    if wordpiece::is_wordpiece(file) {
        return wordpiece::load(file, files, request.config, rows, out);
    }
    if unigram::is_unigram(file) {
        return unigram::load_json(file, files, rows, out);
    }
    let bpe = Bpe::read(file)?;
    if is_sentencepiece(request, file, &bpe) {
        spm::load_json(file, &bpe, files, rows, out)
    } else {
        bpe::load(file, &bpe, files, rows, request.pre, out)
    }
}

/// Returns true if the architecture has no SentencePiece vocabularies.
fn is_byte_level_only(request: &Request) -> bool {
    request.architecture == "gpt2"
}

/// Returns true if a `tokenizer.json` holds SentencePiece BPE, not byte-level BPE.
fn is_sentencepiece(request: &Request, file: &Json, bpe: &Bpe) -> bool {
    !is_byte_level_only(request) && bpe.byte_fallback && !bpe::is_byte_level(file)
}

fn missing(files: &Files, byte_level_only: bool) -> VocabError {
    let tekken = files.folder.join("tekken.json");
    if tekken.is_file() {
        let instead = "save the tokenizer as tokenizer.json";
        return VocabError::unsupported(&tekken, "Mistral's own tokenizer format", instead);
    }
    let looked_for = if byte_level_only { "tokenizer.json" } else { "tokenizer.model, tokenizer.json" };
    VocabError::Missing { folder: files.folder.clone(), looked_for }
}

/// Sets the flags of llama.cpp's normalizer, if `tokenizer.json` asks for them.
fn normalizer_flags(files: &Files, out: &mut Metadata) {
    let Some(file) = &files.tokenizer else { return };
    let (mut lowercase, mut strip_accents) = (None, None);
    for step in spaces::steps(file, "normalizer", "normalizers") {
        match spaces::kind(step) {
            "Lowercase" => lowercase = Some(true),
            "StripAccents" => strip_accents = Some(true),
            _ => {
                if let Some(flags) = wordpiece::flags(step) {
                    [lowercase, strip_accents] = flags.map(Some);
                }
            }
        }
    }
    if let Some(value) = lowercase {
        out.set(wordpiece::LOWERCASE, Value::Bool(value));
    }
    if let Some(value) = strip_accents {
        out.set(wordpiece::STRIP_ACCENTS, Value::Bool(value));
    }
}

/// Sets keys of models that the converter recognises by the sizes of their vocabularies.
fn size_quirks(request: &Request, files: &Files, rows: Option<u64>, listed: &Listed, out: &mut Metadata) {
    match rows {
        // The size is CodeLlama's.
        Some(32016) => {
            let roles = ["prefix", "suffix", "middle", "eot"];
            let mut special = Special::read(files, request.config, &roles, listed);
            special.set_id("eot", Some(&json!(32010)), listed.count());
            special.write(out);
        }
        // The size is that of small Granite models.
        Some(49152) => out.set("tokenizer.ggml.add_bos_token", Value::Bool(false)),
        _ => {}
    }
}
