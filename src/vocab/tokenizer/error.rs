//! What can be wrong with tokenizing.

use std::path::{Path, PathBuf};

use super::super::VocabError;

/// Why a tokenizer cannot be built, or a text not be tokenized.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The folder's files.
    #[error(transparent)]
    Vocab(#[from] VocabError),
    /// A key is missing or says something impossible.
    #[error("{key}: {what}; convert the model anew")]
    Key {
        /// The metadata key.
        key: &'static str,
        /// What is wrong with its value.
        what: String,
    },
    /// A kind of tokenizer that kquant does not have.
    #[error(
        "tokenizer.ggml.model is {model:?}; kquant tokenizes for \"llama\" (SentencePiece BPE), \"t5\" (SentencePiece \
         Unigram) and \"gpt2\" (byte-level BPE); use the original model's folder"
    )]
    UnknownModel {
        /// The name in the file.
        model: String,
    },
    /// A pre-tokenizer whose expressions kquant does not have.
    #[error(
        "tokenizer.ggml.pre is {pre:?}, a pre-tokenizer that kquant does not have; use the original model's folder"
    )]
    UnknownPre {
        /// The name in the file.
        pre: String,
    },
    /// Hugging Face's library refuses the file or the text.
    #[error("{}: {what}", path.display())]
    Library {
        /// `tokenizer.json`.
        path: PathBuf,
        /// What the library said.
        what: String,
    },
    /// An expression gave up on a text.
    #[error("pre-tokenizer expression {expression}: {what}, at byte {offset} of the text")]
    Expression {
        /// The expression.
        expression: String,
        /// What the engine said.
        what: String,
        /// Offset of the part of the text it was applied to, in bytes.
        offset: usize,
    },
    /// A byte that the vocabulary has no token for.
    #[error("the vocabulary has no token for byte {byte:#04x} of the text, not even <{byte:#04X}>")]
    NoToken {
        /// The byte.
        byte: u8,
    },
}

impl TokenizerError {
    /// A key that is missing or wrong.
    pub(super) fn key(key: &'static str, what: impl Into<String>) -> Self {
        Self::Key { key, what: what.into() }
    }

    /// What the library said of `path`.
    pub(super) fn library(path: &Path, what: impl ToString) -> Self {
        Self::Library { path: path.to_owned(), what: what.to_string() }
    }
}
