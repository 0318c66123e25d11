//! Tokens that are added to a trained vocabulary.

use std::collections::HashMap;

use serde_json::Value;

use super::error::VocabError;
use super::files::{Files, Json};
use super::tokens::{Kind, token_id};

/// Name of the file of the fast tokenizer.
pub(super) const TOKENIZER: &str = "tokenizer.json";
/// Name of the file of roles and added tokens.
pub(super) const CONFIG: &str = "tokenizer_config.json";
/// Name of the file in which old tokenizers keep added tokens.
pub(super) const PLAIN: &str = "added_tokens.json";

/// An added token.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Added {
    pub(super) id: u64,
    pub(super) content: String,
    /// True if decoding may skip it.
    pub(super) special: bool,
    /// True if it is searched for in normalised text.
    pub(super) normalized: bool,
    /// Name of the file that adds it.
    pub(super) source: &'static str,
}

impl Added {
    /// Returns the token's kind: control or user-defined.
    pub(super) fn kind(&self) -> Kind {
        // For tokens of the plain map, the converter does not go by looks.
        let by_looks = self.source != PLAIN && looks_special(&self.content);
        if self.special || by_looks { Kind::Control } else { Kind::UserDefined }
    }

    fn parse(id: u64, entry: &Value, file: &Json, source: &'static str) -> Result<Self, VocabError> {
        let Some(content) = entry.get("content").and_then(Value::as_str) else {
            return Err(VocabError::content(&file.path, format!("added token {id} has no text \"content\"")));
        };
        let flag = |key| entry.get(key).and_then(Value::as_bool);
        let special = flag("special").unwrap_or(false);
        // The default is Hugging Face's: special tokens are matched as they are written.
        let normalized = flag("normalized").unwrap_or(!special);
        Ok(Self { id, content: content.to_owned(), special, normalized, source })
    }
}

/// Returns true if `text` looks like a control token: some models do not mark theirs as special (command-r,
/// deepseek-coder, gemma), and the converter goes by looks.
pub(super) fn looks_special(text: &str) -> bool {
    let between = |first, last| text.starts_with(first) && text.ends_with(last);
    matches!(text, "<pad>" | "<mask>" | "<2mass>" | "[@BOS@]")
        || between("<|", "|>")
        || between("<｜", "｜>")
        || between("<unused", ">")
}

/// Added tokens of several files, each text and each id once.
#[derive(Default)]
struct Collected {
    tokens: Vec<Added>,
    /// Positions in `tokens` by text.
    by_text: HashMap<String, usize>,
    /// Positions in `tokens` by id.
    by_id: HashMap<u64, usize>,
}

impl Collected {
    /// Returns the token, if any, that shares the text or the id of `token`.
    fn rival(&self, token: &Added) -> Option<&Added> {
        let at = self.by_text.get(&token.content).or_else(|| self.by_id.get(&token.id))?;
        self.tokens.get(*at)
    }

    /// Adds a token unless it is present: the first file's settings of a token hold. The text of a token with another id,
    /// or its id with another text, is a contradiction.
    fn add(&mut self, token: Added, files: &Files) -> Result<(), VocabError> {
        let Some(rival) = self.rival(&token) else {
            self.by_text.insert(token.content.clone(), self.tokens.len());
            self.by_id.insert(token.id, self.tokens.len());
            self.tokens.push(token);
            return Ok(());
        };
        if rival.id == token.id && rival.content == token.content {
            return Ok(());
        }
        let in_which = |token: &Added| format!("in {}", files.folder.join(token.source).display());
        let (first, second) = match rival.source == token.source {
            true => (String::new(), String::new()),
            false => (format!(" {}", in_which(rival)), format!(" {}", in_which(&token))),
        };
        let what = if rival.content == token.content {
            format!(
                "added token {:?} has two ids, {}{first} and {}{second}; llama.cpp allows one",
                token.content, rival.id, token.id
            )
        } else {
            format!(
                "id {} belongs to the added token {:?}{first} and to {:?}{second}",
                token.id, rival.content, token.content
            )
        };
        Err(VocabError::content(&files.folder.join(token.source), what))
    }
}

/// Returns every token that Hugging Face takes out of the text before BPE: those of `tokenizer.json`, those that
/// `tokenizer_config.json` or `added_tokens.json` add, and vocabulary entries that have a role such as `bos_token`.
pub(super) fn collect(
    file: &Json,
    vocab: &HashMap<String, u64>,
    files: &Files,
) -> Result<Vec<Added>, VocabError> {
    let mut added = Collected::default();
    for token in from_tokenizer(file)?.into_iter().chain(from_config(files)?) {
        added.add(token, files)?;
    }
    add_plain(&mut added, files)?;
    for content in with_role(files) {
        if let Some(&id) = vocab.get(content)
            && !added.by_text.contains_key(content)
        {
            let content = content.to_owned();
            added.add(Added { id, content, special: true, normalized: false, source: CONFIG }, files)?;
        }
    }
    Ok(added.tokens)
}

/// Returns the tokens added to a `tokenizer.model`. As in the converter, their settings come from
/// `tokenizer_config.json`, then from `tokenizer.json`, then from `added_tokens.json`.
pub(super) fn beside_model(files: &Files) -> Result<Vec<Added>, VocabError> {
    let mut added = Collected::default();
    for token in from_config(files)? {
        added.add(token, files)?;
    }
    for token in files.tokenizer.as_ref().map(from_tokenizer).transpose()?.into_iter().flatten() {
        added.add(token, files)?;
    }
    add_plain(&mut added, files)?;
    Ok(added.tokens)
}

/// Adds the tokens of `added_tokens.json`. Hugging Face ignores that file if the configuration lists added tokens, so
/// tokens that contradict the list are left out.
fn add_plain(added: &mut Collected, files: &Files) -> Result<(), VocabError> {
    let replaced = files.config("added_tokens_decoder").is_some();
    for token in from_plain(files)? {
        if !replaced || added.rival(&token).is_none() {
            added.add(token, files)?;
        }
    }
    Ok(())
}

/// Returns the tokens in `added_tokens` of `tokenizer.json`.
fn from_tokenizer(file: &Json) -> Result<Vec<Added>, VocabError> {
    let entries = file.value.get("added_tokens").and_then(Value::as_array).into_iter().flatten();
    let with_id = |entry: &Value| {
        let Some(id) = entry.get("id") else {
            return Err(VocabError::content(&file.path, format!("added token without an id: {entry}")));
        };
        let id = token_id(id).map_err(|what| {
            VocabError::content(&file.path, format!("added token {}: {what}", content_of(entry)))
        })?;
        Added::parse(id, entry, file, TOKENIZER)
    };
    entries.map(with_id).collect()
}

/// Returns the text of an entry, for an error.
fn content_of(entry: &Value) -> &Value {
    entry.get("content").unwrap_or(entry)
}

/// Returns the tokens in `added_tokens_decoder` of `tokenizer_config.json`.
fn from_config(files: &Files) -> Result<Vec<Added>, VocabError> {
    let Some(file) = &files.tokenizer_config else { return Ok(Vec::new()) };
    let entries = files.config("added_tokens_decoder").and_then(Value::as_object).into_iter().flatten();
    let with_id = |(key, entry): (&String, &Value)| {
        let number = key.parse::<u64>().ok().filter(|_| key.bytes().all(|digit| digit.is_ascii_digit()));
        let id = number.map_or_else(|| Value::from(key.as_str()), Value::from);
        let id = token_id(&id)
            .map_err(|what| VocabError::content(&file.path, format!("added_tokens_decoder: {what}")))?;
        Added::parse(id, entry, file, CONFIG)
    };
    entries.map(with_id).collect()
}

/// Returns the tokens of `added_tokens.json`, a plain map of text to id that slow tokenizers write.
fn from_plain(files: &Files) -> Result<Vec<Added>, VocabError> {
    let Some(file) = &files.added_tokens else { return Ok(Vec::new()) };
    let with_id = |(text, id): (&String, &Value)| {
        let id = token_id(id).map_err(|what| VocabError::content(&file.path, format!("{text:?}: {what}")))?;
        Ok(Added { id, content: text.clone(), special: false, normalized: true, source: PLAIN })
    };
    file.value.as_object().into_iter().flatten().map(with_id).collect()
}

/// Returns every added token that a file of the folder lists, with repetitions, in the order of the files. Those of
/// malformed files are left out, because reading them for the vocabulary has failed before.
pub(super) fn all(files: &Files) -> Vec<Added> {
    let tokenizer = files.tokenizer.as_ref().map(from_tokenizer);
    [tokenizer.unwrap_or(Ok(Vec::new())), from_config(files), from_plain(files)]
        .into_iter()
        .flat_map(Result::unwrap_or_default)
        .collect()
}

/// Returns the texts that `tokenizer_config.json` gives a role, such as `bos_token`.
fn with_role(files: &Files) -> Vec<&str> {
    const ROLES: [&str; 7] =
        ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
    let single = ROLES.iter().filter_map(|role| files.config(role));
    let several = files.config("additional_special_tokens").and_then(Value::as_array).into_iter().flatten();
    single.chain(several).filter_map(text_of).collect()
}

/// Returns the text of a token, which is written as a string or as an object with `content`.
pub(super) fn text_of(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}
