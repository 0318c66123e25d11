//! Why a text is of no use.

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
