//! The error of a text that cannot be cut into chunks.

/// The reason why a text cannot be cut into chunks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// The context is so short that its second half has no position to score.
    #[error("a context of {0} tokens leaves no token to score; use at least 3 (--context)")]
    Context(usize),
    /// The text does not fill two contexts.
    #[error(
        "the text has {tokens} tokens, but a context of {context} needs at least {needed}; use a longer text or a shorter \
         context (--context)"
    )]
    TooShort {
        /// Number of tokens of the text, BOS included.
        tokens: usize,
        /// Number of tokens per chunk.
        context: usize,
        /// Number of tokens that the text needs.
        needed: usize,
    },
    /// The caller asked for no chunks at all.
    #[error("0 chunks leave nothing to score; use at least 1 (--chunks)")]
    NoChunks,
    /// Recorded tokens are not a whole number of chunks.
    #[error("{tokens} recorded tokens are no whole chunks of {context}; compute the logits file again")]
    Ragged {
        /// Number of tokens recorded.
        tokens: usize,
        /// Number of tokens per chunk.
        context: usize,
    },
}
