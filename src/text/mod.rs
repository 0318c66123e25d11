//! The division of a tokenized text, the same for everything that runs a model over it.
//!
//! | module | what |
//! |---|---|
//! | `chunks` | chunks of one context each, as llama-perplexity cuts a text |
//! | `blocks` | chunks grouped by what is summed in one go: bounds that depend on the text alone |
//! | `part` | one of several parts of a text, for runs whose results are added up |
//! | `held_out` | the blocks of a text that are not calibrated on but judged by |
//! | `mix` | two texts as one, each in its proportion among the blocks that are held out and among the others |
//! | `origin` | what identifies a text in metadata, statistics and manifests |

mod blocks;
mod chunks;
mod error;
mod held_out;
mod mix;
mod origin;
mod part;

pub(crate) use blocks::{BLOCK_ROWS, for_blocks};
pub use blocks::{block_tokens, chunks_per_block};
pub use chunks::{Chunks, spread};
pub use error::ChunkError;
pub(crate) use held_out::{HELD_OUT_EVERY, is_held_out};
pub use mix::mixed;
pub use origin::{FileText, OwnText, TextOrigin};
pub use part::{Part, PartError};
