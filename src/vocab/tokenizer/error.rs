//! Errors of tokenizing.

use super::super::VocabError;

/// The reason why a tokenizer cannot be built, or a text cannot be tokenized.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The files of the folder cannot be used.
    #[error(transparent)]
    Vocab(#[from] VocabError),
    /// A key is missing or has an impossible value.
    #[error("{key}: {what}; convert the model anew")]
    Key {
        /// The metadata key.
        key: &'static str,
        /// What is wrong with its value.
        what: String,
    },
    /// The tokenizer is of a kind that kquant does not have.
    #[error(
        "tokenizer.ggml.model is {model:?}; kquant tokenizes for \"llama\" (SentencePiece BPE), \"t5\" (SentencePiece \
         Unigram), \"bert\" (WordPiece) and \"gpt2\" (byte-level BPE); without a text, for example without --calibrate and --verify, it is quantized"
    )]
    UnknownModel {
        /// Value of `tokenizer.ggml.model`.
        model: String,
    },
    /// The pre-tokenizer is one whose expressions kquant does not have.
    #[error(
        "tokenizer.ggml.pre is {pre:?}, a pre-tokenizer that kquant does not have; name one that cuts texts alike with --pre"
    )]
    UnknownPre {
        /// Value of `tokenizer.ggml.pre`.
        pre: String,
    },
    /// The matching of an expression failed on a text.
    #[error("pre-tokenizer expression {expression}: {what}, at byte {offset} of the text")]
    Expression {
        /// The expression, as compiled.
        expression: String,
        /// Message of the engine.
        what: String,
        /// Offset of the part of the text that the expression was applied to, in bytes.
        offset: usize,
    },
    /// The vocabulary has no token for a byte.
    #[error("the vocabulary has no token for byte {byte:#04x} of the text, not even <{byte:#04X}>")]
    NoToken {
        /// The byte.
        byte: u8,
    },
}

impl TokenizerError {
    /// Returns the error of a key that is missing or wrong.
    pub(super) fn key(key: &'static str, what: impl Into<String>) -> Self {
        Self::Key { key, what: what.into() }
    }
}
