//! Tokens added on top of a trained vocabulary.

use std::collections::HashMap;

use serde_json::Value;

use super::error::VocabError;
use super::files::{Files, Json};
use super::tokens::Kind;

/// One added token.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Added {
    pub(super) id: u64,
    pub(super) content: String,
    /// Whether decoding may skip it.
    pub(super) special: bool,
    /// Whether it is looked for in normalised text.
    pub(super) normalized: bool,
}

impl Added {
    /// Control or user-defined.
    pub(super) fn kind(&self) -> Kind {
        if self.special || looks_special(&self.content) { Kind::Control } else { Kind::UserDefined }
    }

    fn parse(id: u64, entry: &Value, file: &Json) -> Result<Self, VocabError> {
        let Some(content) = entry.get("content").and_then(Value::as_str) else {
            return Err(VocabError::content(&file.path, format!("added token {id} has no text \"content\"")));
        };
        let flag = |key| entry.get(key).and_then(Value::as_bool);
        let special = flag("special").unwrap_or(false);
        // Hugging Face's default: special tokens are matched as they are written.
        let normalized = flag("normalized").unwrap_or(!special);
        Ok(Self { id, content: content.to_owned(), special, normalized })
    }
}

/// Models exist whose control tokens are not marked special (command-r, deepseek-coder, gemma); the converter goes
/// by their looks.
pub(super) fn looks_special(text: &str) -> bool {
    let between = |first, last| text.starts_with(first) && text.ends_with(last);
    matches!(text, "<pad>" | "<mask>" | "<2mass>" | "[@BOS@]")
        || between("<|", "|>")
        || between("<｜", "｜>")
        || between("<unused", ">")
}

/// Every token that Hugging Face takes out of the text before BPE: those of `tokenizer.json`, those that
/// `tokenizer_config.json` adds, and vocabulary entries that have a role such as `bos_token`.
pub(super) fn collect(
    file: &Json,
    vocab: &HashMap<String, u64>,
    files: &Files,
) -> Result<Vec<Added>, VocabError> {
    let mut added = from_tokenizer(file)?;
    for token in from_config(files)? {
        if added.iter().all(|known| known.content != token.content) {
            added.push(token);
        }
    }
    for content in with_role(files) {
        if let Some(&id) = vocab.get(content)
            && added.iter().all(|known| known.content != content)
        {
            added.push(Added { id, content: content.to_owned(), special: true, normalized: false });
        }
    }
    Ok(added)
}

/// `added_tokens` of `tokenizer.json`.
fn from_tokenizer(file: &Json) -> Result<Vec<Added>, VocabError> {
    let entries = file.value.get("added_tokens").and_then(Value::as_array).into_iter().flatten();
    let with_id = |entry: &Value| {
        let Some(id) = entry.get("id").and_then(Value::as_u64) else {
            return Err(VocabError::content(&file.path, format!("added token without an id: {entry}")));
        };
        Added::parse(id, entry, file)
    };
    entries.map(with_id).collect()
}

/// `added_tokens_decoder` of `tokenizer_config.json`.
pub(super) fn from_config(files: &Files) -> Result<Vec<Added>, VocabError> {
    let Some(file) = &files.tokenizer_config else { return Ok(Vec::new()) };
    let entries = files.config("added_tokens_decoder").and_then(Value::as_object).into_iter().flatten();
    let with_id = |(key, entry): (&String, &Value)| {
        let Ok(id) = key.parse() else {
            return Err(VocabError::content(
                &file.path,
                format!("added_tokens_decoder: {key:?} is no token id"),
            ));
        };
        Added::parse(id, entry, file)
    };
    entries.map(with_id).collect()
}

/// `added_tokens.json`: a plain map of text to id, as slow tokenizers leave it.
pub(super) fn from_plain(files: &Files) -> Result<Vec<(String, u64)>, VocabError> {
    let Some(file) = &files.added_tokens else { return Ok(Vec::new()) };
    let with_id = |(text, id): (&String, &Value)| match id.as_u64() {
        Some(id) => Ok((text.clone(), id)),
        None => Err(VocabError::content(&file.path, format!("{text:?}: {id} is no token id"))),
    };
    file.value.as_object().into_iter().flatten().map(with_id).collect()
}

/// The texts that `tokenizer_config.json` gives a role: `bos_token` and its kin.
fn with_role(files: &Files) -> Vec<&str> {
    const ROLES: [&str; 7] =
        ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
    let single = ROLES.iter().filter_map(|role| files.config(role));
    let several = files.config("additional_special_tokens").and_then(Value::as_array).into_iter().flatten();
    single.chain(several).filter_map(text_of).collect()
}

/// The text of a token that is written as a string or as an object with `content`.
pub(super) fn text_of(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}
