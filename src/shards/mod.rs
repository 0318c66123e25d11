//! The tensors of a GGUF in other files: split over several, or merged into one. No byte of a tensor changes.
//!
//! Files are those of llama.cpp's `llama-gguf-split`, byte for byte, wherever that program writes files that can be read; it
//! does not where `general.alignment` is more than 32.

mod cut;
mod write;

use std::ops::Range;

use kquant_formats::FormatError;
use kquant_formats::gguf::split::{self, COUNT, NO, TENSORS};
use kquant_formats::gguf::{Gguf, Layout, Metadata, TensorSpec, Value, layout};

pub use cut::{Cut, ShardLimit};
pub(crate) use write::copy;
pub use write::{ShardsError, write};

/// A file that is to be written, and which of the model's tensors it holds.
#[derive(Debug, Clone)]
pub struct ShardPlan {
    /// Header of the file and the places of its tensors.
    pub layout: Layout,
    /// Indices of its tensors among those of the model.
    pub tensors: Range<usize>,
}

/// Plans the files that `gguf`, which may be split already, is divided into.
///
/// The first file holds all keys; every file has the three keys of a split model, behind its other keys.
///
/// # Errors
/// Fails when there would be more files or tensors than the keys can count.
pub fn split(gguf: &Gguf, cut: &Cut) -> Result<Vec<ShardPlan>, ShardsError> {
    let ranges = cut.ranges(gguf.tensors(), gguf.alignment());
    let count = u16::try_from(ranges.len()).map_err(|_| ShardsError::TooMany(ranges.len()))?;
    let total = i32::try_from(gguf.tensors().len()).map_err(|_| ShardsError::TooMany(ranges.len()))?;
    let plan = |(no, tensors): (u16, Range<usize>)| {
        let first = gguf.metadata();
        let mut keys = if no == 0 { first.clone() } else { split::follower_keys(first) };
        // The order in which llama-gguf-split leaves them.
        let ties = [(NO, Value::U16(no)), (TENSORS, Value::I32(total)), (COUNT, Value::U16(count))];
        ties.into_iter().for_each(|(key, value)| set_last(&mut keys, key, value));
        Ok(lay_out(gguf, &keys, tensors)?)
    };
    (0..count).zip(ranges).map(plan).collect()
}

/// Plans the one file that the files of `gguf`, a split model, are merged into.
///
/// Like llama-gguf-split it keeps the keys of the first file, of which `split.count` becomes 0.
///
/// # Errors
/// Fails when `gguf` is no part of a split model.
pub fn merge(gguf: &Gguf) -> Result<ShardPlan, ShardsError> {
    let mut keys = gguf.metadata().clone();
    if keys.get(COUNT).and_then(Value::as_u64).is_none_or(|count| count == 0) {
        let path = gguf.files().next().map(|file| file.path().to_owned()).unwrap_or_default();
        return Err(ShardsError::NotSplit(path));
    }
    set_last(&mut keys, COUNT, Value::U16(0));
    Ok(lay_out(gguf, &keys, 0..gguf.tensors().len())?)
}

/// Plans the one file that the files of `gguf` are joined into, as if it had never been split: without the keys of a split model.
///
/// # Errors
/// Fails when the header cannot be made.
pub(crate) fn joined(gguf: &Gguf) -> Result<ShardPlan, FormatError> {
    let mut keys = gguf.metadata().clone();
    for key in [NO, COUNT, TENSORS] {
        keys.remove(key);
    }
    lay_out(gguf, &keys, 0..gguf.tensors().len())
}

/// Sets `key` and makes it the last one.
fn set_last(keys: &mut Metadata, key: &str, value: Value) {
    keys.remove(key);
    keys.set(key, value);
}

fn lay_out(gguf: &Gguf, keys: &Metadata, tensors: Range<usize>) -> Result<ShardPlan, FormatError> {
    let own = gguf.tensors().get(tensors.clone()).unwrap_or_default();
    let specs: Vec<TensorSpec> = own
        .iter()
        .map(|t| TensorSpec {
            name: t.name.clone(),
            shape: t.shape.clone(),
            type_id: t.type_id,
            bytes: t.bytes,
        })
        .collect();
    Ok(ShardPlan { layout: layout(keys, &specs)?, tensors })
}
