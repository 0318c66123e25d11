//! What can go wrong.

/// Why a text cannot be cut into chunks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// Half of the context gives no position to score.
    #[error("a context of {0} tokens leaves no token to score; use at least 3 (--context)")]
    Context(usize),
    /// The text does not fill two contexts.
    #[error(
        "the text has {tokens} tokens, but a context of {context} needs at least {needed}; use a longer text or a shorter \
         context (--context)"
    )]
    TooShort {
        /// Tokens that there are, BOS included.
        tokens: usize,
        /// Tokens per chunk.
        context: usize,
        /// Tokens that there must be.
        needed: usize,
    },
    /// The caller asked for no chunk at all.
    #[error("0 chunks leave nothing to score; use at least 1 (--chunks)")]
    NoChunks,
    /// Recorded tokens are not whole chunks.
    #[error("{tokens} recorded tokens are no whole chunks of {context}; compute the logits file again")]
    Ragged {
        /// Tokens that there are.
        tokens: usize,
        /// Tokens per chunk.
        context: usize,
    },
}

/// Why a row of logits cannot be scored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The two models do not have the same number of tokens.
    #[error(
        "the model has a vocabulary of {model} tokens and the base one of {base}: they cannot be compared; give a base with \
         the same tokenizer"
    )]
    Vocabulary {
        /// Logits per row of the model.
        model: usize,
        /// Logits per row of the base.
        base: usize,
    },
    /// The text has a token that the model does not know.
    #[error(
        "token {token} of the text is outside the model's vocabulary of {vocabulary}; use the model's own tokenizer"
    )]
    Token {
        /// The token to predict.
        token: u32,
        /// Logits per row.
        vocabulary: usize,
    },
    /// Nothing follows from these numbers.
    #[error("the logits of {0} hold NaN or an infinity; look for non-finite numbers in its tensors")]
    NotFinite(Side),
}

/// One of the two models of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The model that is scored.
    Model,
    /// The one that it is compared with.
    Base,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Model => "the model",
            Self::Base => "the base",
        })
    }
}
