//! Errors of rows of logits.

/// The reason why a row of logits cannot be scored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The two models have vocabularies of different sizes.
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
    /// The text has a token that is outside the model's vocabulary.
    #[error(
        "token {token} of the text is outside the model's vocabulary of {vocabulary}; use the model's own tokenizer"
    )]
    Token {
        /// The token that is to be predicted.
        token: u32,
        /// Logits per row.
        vocabulary: usize,
    },
    /// A row of a logits file does not hold probabilities.
    #[error(
        "the recorded probabilities of all tokens add up to {total}, not to 1 (the likeliest token is {top}); the file is \
         damaged: fetch it again"
    )]
    Total {
        /// Sum of the probabilities, as text.
        total: String,
        /// Index of the likeliest token.
        top: usize,
    },
    /// The logits hold NaN or an infinity.
    #[error("the logits of {0} hold NaN or an infinity; look for non-finite numbers in its tensors")]
    NotFinite(Side),
}

/// One of the two models of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The model that is scored.
    Model,
    /// The model that it is compared with.
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
