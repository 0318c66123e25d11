//! Parts of a model that several machines encode, and the one file that is made of them.
//!
//! A part is a file of a split GGUF, `part-00003-of-00008.gguf`, that holds its share of the tensors. Beside it lies its record,
//! `part-00003-of-00008.json`: a [manifest](crate::hash::Manifest) that says of which run it is a part, and the hashes of its
//! tensors. The record gets its name after the file, so that a part with a record is complete. Parts of one run have the same
//! record but for the hashes, whichever machine made them.

mod assemble;
mod error;
mod record;

use std::path::{Path, PathBuf};

use kquant_formats::gguf::split::shard_path;

pub use assemble::assemble;
pub use error::PartsError;
pub use record::{PartState, state};

/// What the names of all parts begin with.
const PREFIX: &str = "part";

/// Returns the path of part `no`, from 0, of `count` in `folder`.
pub fn part_path(folder: &Path, no: u16, count: u16) -> PathBuf {
    shard_path(&folder.join(PREFIX), no, count)
}

/// Returns the path of the record beside the part at `part`.
pub fn record_path(part: &Path) -> PathBuf {
    part.with_extension("json")
}
