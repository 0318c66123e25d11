//! llama-perplexity's logits files: the text's tokens and, for every scored position, the log-probability of every token
//! of the vocabulary in 16 bits.
//!
//! Little-endian, without padding:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `_logits_` |
//! | 3 x 4 | i32: tokens per chunk (context), size of the vocabulary, number of chunks |
//! | 4 x chunks x context | i32 tokens of the text; the first of a chunk is not yet replaced by BOS |
//! | row x scored x chunks | rows of the positions `context / 2 .. context - 1`, each predicting the next token |
//!
//! A row is an f32 `scale`, an f32 `min`, a u16 per token and another one, 0, if the vocabulary is odd. The log-probability
//! of code `c` is `scale * c + min`; the codes reach from the best token's down to 16 below it, and 0 stands for all beyond.

mod read;
mod write;

pub use read::{LogProbs, LogitsFile};
pub use write::{LogitsWriter, encode_row};

const MAGIC: &[u8; 8] = b"_logits_";
/// Magic and three numbers.
const HEADER_BYTES: u64 = 20;
/// `scale` and `min`.
const SCALES_BYTES: u64 = 8;
/// The shortest context in which a position is scored.
const MIN_CONTEXT: u64 = 3;

/// Codes reach this far below the best token's log-probability.
const RANGE: f32 = 16.0;
/// The best token's code.
const MAX_CODE: f32 = 65535.0;

/// The three numbers that fix a file's size; each fits an i32.
#[derive(Debug, Clone, Copy)]
struct Layout {
    context: u64,
    vocabulary: u64,
    chunks: u64,
}

impl Layout {
    fn tokens(self) -> u64 {
        self.chunks * self.context
    }

    fn rows_per_chunk(self) -> u64 {
        (self.context - self.context / 2).saturating_sub(1)
    }

    fn row_bytes(self) -> u64 {
        SCALES_BYTES + 2 * self.vocabulary.next_multiple_of(2)
    }

    fn rows_offset(self) -> Option<u64> {
        self.tokens().checked_mul(4)?.checked_add(HEADER_BYTES)
    }

    fn total_bytes(self) -> Option<u64> {
        let rows = self.rows_per_chunk().checked_mul(self.chunks)?;
        rows.checked_mul(self.row_bytes())?.checked_add(self.rows_offset()?)
    }
}
