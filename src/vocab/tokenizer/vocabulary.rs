//! The vocabulary: text, kind and bytes of each token.

use std::collections::HashMap;

use kquant_formats::gguf::Metadata;

use super::super::byte_letters;
use super::super::spm::ADD_SPACE_PREFIX;
use super::super::tokens::{Kind, byte_of};
use super::error::TokenizerError;
use super::keys::{self, Model};

/// The tokens of all ids.
#[derive(Debug)]
pub(super) struct Vocabulary {
    model: Model,
    prefixes_space: bool,
    texts: Vec<String>,
    kinds: Vec<Kind>,
    /// Bytes that decoding writes for each token.
    pieces: Vec<Box<[u8]>>,
}

impl Vocabulary {
    /// Reads `tokens`, `token_type` and the flag of a space before the text.
    pub(super) fn read(metadata: &Metadata, model: Model) -> Result<Self, TokenizerError> {
        let mut texts = keys::texts(metadata, keys::TOKENS)?.to_vec();
        if u32::try_from(texts.len()).is_err() {
            return Err(TokenizerError::key(keys::TOKENS, format!("has {} tokens", texts.len())));
        }
        for (id, text) in texts.iter_mut().enumerate() {
            // llama.cpp gives this name to a token without a text.
            if text.is_empty() {
                *text = format!("[EMPTY_{id}]");
            }
        }
        let kinds = match keys::types(metadata, texts.len())? {
            Some(types) => types.iter().take(texts.len()).map(|&code| Kind::from_code(code)).collect(),
            None => vec![Kind::Normal; texts.len()],
        };
        let prefixes_space =
            keys::flag(metadata, ADD_SPACE_PREFIX).unwrap_or(matches!(model, Model::Spm | Model::Wpm));
        let vocabulary = Self::new(model, prefixes_space && model != Model::Bpe, texts, kinds);
        vocabulary.check_unique()?;
        Ok(vocabulary)
    }

    /// Creates the vocabulary from equally many texts and kinds.
    pub(super) fn new(model: Model, prefixes_space: bool, texts: Vec<String>, kinds: Vec<Kind>) -> Self {
        let pieces = texts.iter().zip(&kinds).map(|(text, kind)| piece(model, text, *kind)).collect();
        Self { model, prefixes_space, texts, kinds, pieces }
    }

    /// Fails when two tokens have the same text and so cannot be distinguished; llama.cpp aborts on such a file.
    fn check_unique(&self) -> Result<(), TokenizerError> {
        let mut seen = HashMap::with_capacity(self.texts.len());
        for (id, text) in self.iter() {
            if let Some(first) = seen.insert(text, id) {
                let what = format!("{text:?} has two ids, {first} and {id}");
                return Err(TokenizerError::key(keys::TOKENS, what));
            }
        }
        Ok(())
    }

    /// Returns the number of ids.
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    /// Returns true if encoding puts a space before the text.
    pub(super) fn prefixes_space(&self) -> bool {
        self.prefixes_space
    }

    /// Returns ids and texts, in order of ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &str)> {
        (0..).zip(self.texts.iter().map(String::as_str))
    }

    /// Returns the ids by text.
    pub(super) fn by_text(&self) -> HashMap<String, u32> {
        self.iter().map(|(id, text)| (text.to_owned(), id)).collect()
    }

    /// Returns the text of a token; none has an id outside the vocabulary.
    pub(super) fn text(&self, id: u32) -> &str {
        self.texts.get(id as usize).map_or("", String::as_str)
    }

    /// Returns the kind of a token; ids outside the vocabulary count as unused.
    pub(super) fn kind(&self, id: u32) -> Kind {
        self.kinds.get(id as usize).copied().unwrap_or(Kind::Unused)
    }

    /// Changes the kind of a token.
    pub(super) fn set_kind(&mut self, id: u32, kind: Kind) {
        let at = id as usize;
        if let (Some(text), Some(slot), Some(bytes)) =
            (self.texts.get(at), self.kinds.get_mut(at), self.pieces.get_mut(at))
        {
            *slot = kind;
            *bytes = piece(self.model, text, kind);
        }
    }

    /// Returns the bytes that decoding writes for a token.
    pub(super) fn piece(&self, id: u32) -> &[u8] {
        self.pieces.get(id as usize).map_or(&[], AsRef::as_ref)
    }
}

/// Returns the bytes that decoding writes for a token, as llama.cpp's `llama_token_to_piece` does without special tokens.
fn piece(model: Model, text: &str, kind: Kind) -> Box<[u8]> {
    match kind {
        Kind::Control | Kind::Unknown | Kind::Unused => Box::default(),
        Kind::UserDefined => text.as_bytes().into(),
        Kind::Byte => byte_of(text).into_iter().collect(),
        Kind::Normal if model != Model::Bpe => text.replace('▁', " ").into_bytes().into(),
        // A letter that stands for no byte stands for itself.
        Kind::Normal => match text.chars().map(byte_letters::byte_of).collect::<Option<Vec<u8>>>() {
            Some(bytes) => bytes.into(),
            None => text.as_bytes().into(),
        },
    }
}
