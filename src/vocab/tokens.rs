//! The list of tokens, with text, score and type of every id.

use std::collections::HashMap;
use std::path::Path;

use kquant_formats::gguf::{Array, Metadata, Value};

use super::added::Added;
use super::error::VocabError;

/// The kind of a token; the numbers are GGUF's (`tokenizer.ggml.token_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The token is ordinary text.
    Normal = 1,
    /// The token stands for characters that have no token.
    Unknown = 2,
    /// The token steers the model and is never made from text.
    Control = 3,
    /// The token was added by the user and is found in the text before anything is merged.
    UserDefined = 4,
    /// The token is an embedding row without a text.
    Unused = 5,
    /// The token is one raw byte, spelled `<0x0A>`.
    Byte = 6,
}

impl Kind {
    /// Returns the kind with GGUF's number `code`; a number that GGUF does not name counts as unused.
    pub(super) fn from_code(code: i32) -> Self {
        let kinds = [Self::Normal, Self::Unknown, Self::Control, Self::UserDefined, Self::Byte];
        kinds.into_iter().find(|kind| *kind as i32 == code).unwrap_or(Self::Unused)
    }

    /// Returns an added token's text as llama.cpp searches for it: user-defined tokens are found before spaces become
    /// `▁`.
    pub(super) fn respell(self, text: String) -> String {
        if self == Self::UserDefined { text.replace('▁', " ") } else { text }
    }
}

/// A token without its id.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) score: f32,
    pub(super) kind: Kind,
}

/// Parses a token's id in JSON.
///
/// # Errors
/// Fails with a description if it is not a whole number, negative, or beyond every vocabulary.
pub(super) fn token_id(id: &serde_json::Value) -> Result<u64, String> {
    match id.as_u64() {
        Some(id) if id < LIMIT => Ok(id),
        _ => Err(format!("{id} is no token id, which is a whole number from 0 to {}", LIMIT - 1)),
    }
}

/// The tokens of all ids.
#[derive(Debug)]
pub(super) struct Tokens(Vec<Token>);

/// Largest number of tokens of a vocabulary, a few times that of the largest today, so that a wrong `vocab_size` does not
/// fill the memory.
const LIMIT: u64 = 1 << 22;

impl Tokens {
    /// Creates `count` unused rows named `[PAD0]`, `[PAD1]`, ..., as the converter does for ids without a token.
    pub(super) fn unused(count: u64, score: f32, path: &Path) -> Result<Self, VocabError> {
        if count > LIMIT {
            return Err(VocabError::content(
                path,
                format!("{count} tokens or embedding rows, where {LIMIT} are the most that kquant takes"),
            ));
        }
        let pad = |id| Token { text: format!("[PAD{id}]"), score, kind: Kind::Unused };
        Ok(Self((0..count).map(pad).collect()))
    }

    /// Puts `token` at `id`, which must be below the length.
    pub(super) fn put(&mut self, id: u64, token: Token) {
        if let Some(slot) = usize::try_from(id).ok().and_then(|id| self.0.get_mut(id)) {
            *slot = token;
        }
    }

    /// Returns the token at `id`, if there is one.
    pub(super) fn at(&self, id: u64) -> Option<&Token> {
        self.0.get(usize::try_from(id).ok()?).filter(|token| token.kind != Kind::Unused)
    }

    /// Fails when an added token contradicts the vocabulary of `path`: it may repeat an entry, text and id, but not half
    /// of it.
    pub(super) fn check_free(
        &self,
        token: &Added,
        vocab: &HashMap<String, u64>,
        path: &Path,
    ) -> Result<(), VocabError> {
        let Added { id, content, source, .. } = token;
        // The path of the error is that of the vocabulary's file; the text names the other file.
        let of = if path.ends_with(source) { String::new() } else { format!(" of {source}") };
        if let Some(other) = vocab.get(content).filter(|other| *other != id) {
            let what =
                format!("token {content:?} has id {other} in the vocabulary, but {id} as an added token{of}");
            return Err(VocabError::content(path, what));
        }
        match self.at(*id).filter(|slot| slot.text != *content) {
            Some(slot) => {
                let what =
                    format!("id {id} belongs to {:?} and to the added token {content:?}{of}", slot.text);
                Err(VocabError::content(path, what))
            }
            None => Ok(()),
        }
    }

    /// Fails when two ids have the same text: llama.cpp looks tokens up by text and aborts on such a file.
    pub(super) fn check_unique(&self, path: &Path) -> Result<(), VocabError> {
        let mut seen = HashMap::with_capacity(self.0.len());
        for (id, token) in self.0.iter().enumerate() {
            if let Some(first) = seen.insert(token.text.as_str(), id) {
                let what =
                    format!("token {:?} has two ids, {first} and {id}; llama.cpp allows one", token.text);
                return Err(VocabError::content(path, what));
            }
        }
        Ok(())
    }

    /// Fails unless all 256 byte tokens are there: without them llama.cpp's SPM tokenizer throws at the first
    /// character that is not in the vocabulary.
    pub(super) fn check_bytes(&self, path: &Path) -> Result<(), VocabError> {
        let bytes = self.0.iter().filter(|token| token.kind == Kind::Byte).count();
        if bytes == 256 {
            return Ok(());
        }
        Err(VocabError::unsupported(
            path,
            format!("a SentencePiece vocabulary with {bytes} of the 256 byte tokens (<0x00> to <0xFF>)"),
            "SentencePiece BPE with byte fallback is",
        ))
    }

    /// Sets `tokens`, `scores` (if wanted) and `token_type`.
    pub(super) fn write(self, scores: bool, out: &mut Metadata) {
        let kinds = self.0.iter().map(|token| token.kind as i32).collect();
        let values = scores.then(|| self.0.iter().map(|token| token.score).collect());
        let texts = self.0.into_iter().map(|token| token.text).collect();
        out.set("tokenizer.ggml.tokens", Value::Array(Array::String(texts)));
        if let Some(values) = values {
            out.set("tokenizer.ggml.scores", Value::Array(Array::F32(values)));
        }
        out.set("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds)));
    }
}

/// Returns the byte that `text` spells, `<0x00>` to `<0xFF>`.
pub(super) fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let spelled = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if spelled { u8::from_str_radix(digits, 16).ok() } else { None }
}
