//! The division of a tokenized text, the same for everything that runs a model over it.
//!
//! | module | what |
//! |---|---|
//! | `chunks` | chunks of one context each, as llama-perplexity cuts a text |
//! | `blocks` | chunks grouped by what is summed in one go: bounds that depend on the text alone |
//! | `part` | one of several parts of a text, for runs whose results are added up |

mod blocks;
mod chunks;
mod error;
mod part;

pub(crate) use blocks::{BLOCK_ROWS, for_blocks};
pub use blocks::{block_tokens, chunks_per_block};
pub use chunks::Chunks;
pub use error::ChunkError;
pub use part::{Part, PartError};
