//! The layout of a new safetensors file, which is known before its first byte is written.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::Dtype;
use crate::error::{FormatError, Result};

/// Bytes that the start of the data is a multiple of, as the format's own library writes it.
const ALIGNMENT: usize = 8;

/// A tensor that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTensor {
    /// Name of the tensor, unique in the checkpoint.
    pub name: String,
    /// Type of the elements.
    pub dtype: Dtype,
    /// Dimensions, outermost first.
    pub shape: Vec<u64>,
}

impl NewTensor {
    /// Returns the size of the data in bytes; `None` when 64 bits cannot count it.
    pub fn bytes(&self) -> Option<u64> {
        self.shape.iter().try_fold(self.dtype.bytes(), |n, &d| n.checked_mul(d))
    }
}

/// The places of a new safetensors file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The file's first bytes, up to the first tensor's data.
    pub header: Vec<u8>,
    /// Offset of each tensor's data in bytes from the start of the file, in the order of the tensors given.
    pub offsets: Vec<u64>,
    /// Size of the file in bytes.
    pub total: u64,
}

/// Lays out a file with `tensors` one after the other, in the order given. Its metadata say `"format": "pt"`, without which
/// transformers refuses a file.
///
/// # Errors
/// Fails when a name is used twice or the sizes do not fit 64 bits.
pub fn places(tensors: &[NewTensor]) -> Result<Places> {
    let invalid = |what: String, hint| FormatError::Invalid { what, hint };
    let overflow =
        || invalid("the tensors do not fit 64 bits of file size".to_owned(), "give their true sizes");
    let mut entries = Map::new();
    entries.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut seen = HashSet::new();
    let (mut relative, mut end) = (Vec::with_capacity(tensors.len()), 0u64);
    for tensor in tensors {
        if !seen.insert(&tensor.name) {
            return Err(invalid(format!("two tensors are called {:?}", tensor.name), "rename one"));
        }
        let to = tensor.bytes().and_then(|bytes| end.checked_add(bytes)).ok_or_else(overflow)?;
        let entry = json!({ "dtype": tensor.dtype.name(), "shape": tensor.shape, "data_offsets": [end, to] });
        entries.insert(tensor.name.clone(), entry);
        relative.push(end);
        end = to;
    }
    let mut text = Value::Object(entries).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(ALIGNMENT), b' ');
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.append(&mut text);
    let start = header.len() as u64;
    let total = start.checked_add(end).ok_or_else(overflow)?;
    Ok(Places { header, offsets: relative.into_iter().map(|offset| start + offset).collect(), total })
}

/// Returns how many of `tensors` go into each file of a checkpoint whose files hold up to `most` bytes of data; a larger
/// tensor has a file of its own. There is at least one file.
pub fn shard_counts(tensors: &[NewTensor], most: u64) -> Vec<usize> {
    let (mut counts, mut held) = (vec![0], 0u64);
    for tensor in tensors {
        let bytes = tensor.bytes().unwrap_or(u64::MAX);
        match counts.last_mut() {
            Some(count) if *count == 0 || held.saturating_add(bytes) <= most => {
                *count += 1;
                held = held.saturating_add(bytes);
            }
            _ => {
                counts.push(1);
                held = bytes;
            }
        }
    }
    counts
}

/// Returns the name that transformers gives to file `number`, from 0, of `count` files of a checkpoint.
pub fn shard_name(number: usize, count: usize) -> String {
    match count {
        1 => "model.safetensors".to_owned(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", number + 1),
    }
}

/// Returns the text of `model.safetensors.index.json` for `tensors`, of which each file holds as many as `counts` says.
pub fn index(tensors: &[NewTensor], counts: &[usize]) -> String {
    let bytes: u64 = tensors.iter().filter_map(NewTensor::bytes).fold(0, u64::saturating_add);
    let files = counts.iter().enumerate().flat_map(|(number, &count)| std::iter::repeat_n(number, count));
    let map: Map<String, Value> = tensors
        .iter()
        .zip(files)
        .map(|(tensor, file)| (tensor.name.clone(), shard_name(file, counts.len()).into()))
        .collect();
    format!("{:#}\n", json!({ "metadata": { "total_size": bytes }, "weight_map": map }))
}
