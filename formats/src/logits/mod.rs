//! llama-perplexity's logits files: the text's tokens and, for every scored position, the log-probabilities of all tokens of
//! the vocabulary, in 16 bits each.
//!
//! The file is little-endian and has no padding:
//!
//! | bytes | content |
//! |---|---|
//! | 8 | the magic `_logits_` |
//! | 3 x 4 | i32 numbers: tokens per chunk (context), size of the vocabulary, number of chunks |
//! | 4 x chunks x context | i32 tokens of the text; the first of a chunk is not yet replaced by BOS |
//! | row x scored x chunks | rows of the positions `context / 2 .. context - 1`, each predicting the next token |
//!
//! A row is an f32 `scale`, an f32 `min` and a u16 code per token, with another code, 0, if the vocabulary is odd. Code `c`
//! stands for the log-probability `scale * c + min`, in nats. The codes cover the best token's log-probability and 16 nats
//! below it; everything lower has code 0.

mod read;
mod write;

pub use read::{LogProbs, LogitsFile};
pub use write::{LogitsWriter, encode_row};

const MAGIC: &[u8; 8] = b"_logits_";
/// Size of the header in bytes: the magic and three numbers.
const HEADER_BYTES: u64 = 20;
/// Size of `scale` and `min` in bytes.
const SCALES_BYTES: u64 = 8;
/// Shortest context in tokens in which a position is scored.
const MIN_CONTEXT: u64 = 3;

/// Distance in nats from the best token's log-probability to that of code 0.
const RANGE: f32 = 16.0;
/// Code of the best token.
const MAX_CODE: f32 = 65535.0;

/// The three numbers that determine a file's size; each fits an i32.
#[derive(Debug, Clone, Copy)]
struct Layout {
    context: u64,
    vocabulary: u64,
    chunks: u64,
}

impl Layout {
    /// Returns the number of tokens of the text.
    fn tokens(self) -> u64 {
        self.chunks * self.context
    }

    /// Returns the number of scored positions per chunk.
    fn rows_per_chunk(self) -> u64 {
        (self.context - self.context / 2).saturating_sub(1)
    }

    /// Returns the size of a row in bytes.
    fn row_bytes(self) -> u64 {
        SCALES_BYTES + 2 * self.vocabulary.next_multiple_of(2)
    }

    /// Returns the offset of the first row in bytes; `None` on overflow.
    fn rows_offset(self) -> Option<u64> {
        self.tokens().checked_mul(4)?.checked_add(HEADER_BYTES)
    }

    /// Returns the size of the file in bytes; `None` on overflow.
    fn total_bytes(self) -> Option<u64> {
        let rows = self.rows_per_chunk().checked_mul(self.chunks)?;
        rows.checked_mul(self.row_bytes())?.checked_add(self.rows_offset()?)
    }
}
