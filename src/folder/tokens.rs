//! Tokens of the new model by their ids in the source.

use kquant_formats::gguf::{Array, Metadata, Value};

use super::FolderError;

/// The tokens that are kept.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    /// Ids in the source, ascending.
    ids: Vec<u32>,
    /// Number of tokens of the source.
    before: usize,
}

impl Kept {
    /// Finds the tokens of `pruned` among those of `base`, which are in the same order.
    ///
    /// # Errors
    /// Fails when a token is not among them.
    pub(super) fn find(base: &Metadata, pruned: &Metadata) -> Result<Self, FolderError> {
        let [before, after] = [base, pruned].map(texts);
        let mut ids = Vec::with_capacity(after.len());
        let mut all = (0..).zip(before);
        for (new, text) in after.iter().enumerate() {
            let (id, _) = all.find(|(_, other)| *other == text).ok_or(FolderError::Token(new))?;
            ids.push(id);
        }
        Ok(Self { ids, before: before.len() })
    }

    /// Returns true if no token is lost.
    pub(super) fn is_all(&self) -> bool {
        self.ids.len() == self.before
    }

    /// Returns the new id of token `id`; `None` if it is lost or was no token.
    pub(super) fn new_id(&self, id: u64) -> Option<u64> {
        let id = u32::try_from(id).ok()?;
        self.ids.binary_search(&id).ok().map(|new| new as u64)
    }

    /// Returns true if the token `id` is lost. An id that no token had is lost, too.
    pub(super) fn is_lost(&self, id: u64) -> bool {
        self.new_id(id).is_none()
    }
}

/// Returns the texts of all tokens.
fn texts(metadata: &Metadata) -> &[String] {
    match metadata.get("tokenizer.ggml.tokens") {
        Some(Value::Array(Array::String(texts))) => texts,
        _ => &[],
    }
}
