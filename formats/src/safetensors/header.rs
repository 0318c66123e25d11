//! The header of one safetensors file: a length of 8 bytes, then JSON.
//!
//! The `safetensors` crate defines a tensor's entry. The entries are walked here, so that each error names its tensor and
//! repeated names are detected.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;

use ::safetensors::tensor::TensorInfo as Entry;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::{Dtype, TensorInfo};
use crate::cursor::Cursor;
use crate::error::{DAMAGED, FormatError, Result};
use crate::json::message;
use crate::names::has_control;

// The format's own library has the same limit.
const MAX_HEADER: u64 = 100_000_000;

/// The content of a header: tensors in file order, and the file's `__metadata__`.
pub(super) struct Header {
    pub(super) tensors: Vec<TensorInfo>,
    pub(super) metadata: BTreeMap<String, String>,
}

impl Header {
    /// Parses the header at the start of `bytes`, a prefix of `path`, which is file `shard` of its checkpoint and has `end`
    /// bytes.
    pub(super) fn parse(path: &Path, bytes: &[u8], end: u64, shard: usize) -> Result<Self> {
        let c = &mut Cursor::prefix(path, bytes, end);
        let at = c.clone();
        let length: u64 = c.number(&"the length of the header")?;
        if length > MAX_HEADER {
            let what = format!("the header is {length} bytes long; the most is {MAX_HEADER}");
            return Err(at.limit(what, "give a safetensors file"));
        }
        let start = c.offset();
        let text = c.text(length, &"the header")?;
        let json: Json = serde_json::from_str(text).map_err(|e| {
            let at = start + position(text, &e);
            FormatError::malformed(path, at, format!("the header is malformed: {}", message(&e)), DAMAGED)
        })?;
        let tensors = place(path, json.tensors, c.offset(), end, shard)?;
        Ok(Self { tensors, metadata: json.metadata })
    }
}

/// Returns the byte of `text` at which the parser stopped.
fn position(text: &str, error: &serde_json::Error) -> u64 {
    let lines: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    (lines + error.column().saturating_sub(1)) as u64
}

/// Checks that the entries cover the bytes from `start` to `end` exactly, each with the size that its shape implies.
fn place(
    path: &Path,
    mut entries: Vec<(String, Entry)>,
    start: u64,
    end: u64,
    shard: usize,
) -> Result<Vec<TensorInfo>> {
    entries.sort_by_key(|(_, entry)| entry.data_offsets);
    let mut expected = start;
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        let fault =
            |what| FormatError::malformed(path, expected, format!("tensor {name:?}: {what}"), DAMAGED);
        if has_control(&name) {
            let what = format!("the tensor name {name:?} holds a control character");
            return Err(FormatError::malformed(path, expected, what, "rename the tensor"));
        }
        let (from, to) = (entry.data_offsets.0 as u64, entry.data_offsets.1 as u64);
        let data = from.checked_add(start).zip(to.checked_add(start)).filter(|(from, to)| from <= to);
        let Some((from, to)) = data else {
            return Err(fault(format!("its data_offsets {from} and {to} are no range of bytes")));
        };
        if from != expected {
            let gap = if from > expected { "a hole before it" } else { "overlaps the tensor before it" };
            return Err(fault(format!("its data start at byte {from}, expected {expected}: {gap}")));
        }
        let Some(dtype) = Dtype::from_stored(entry.dtype) else {
            let what = format!("tensor {name:?} is of type {}, less than a byte per element", entry.dtype);
            return Err(FormatError::limit(path, from, what, "convert it to a type of whole bytes"));
        };
        let shape: Vec<u64> = entry.shape.iter().map(|&d| d as u64).collect();
        let bytes = shape.iter().try_fold(dtype.bytes(), |n, &d| n.checked_mul(d));
        if bytes != Some(to - from) {
            let needs = bytes.map_or("more than 64 bits can count".into(), |b| b.to_string());
            let what = format!("{} of shape {shape:?} needs {needs} bytes, not {}", dtype.name(), to - from);
            return Err(fault(what));
        }
        if to > end {
            return Err(fault(format!("its data are bytes {from} to {to} of a file of {end}")));
        }
        expected = to;
        tensors.push(TensorInfo { name, dtype, shape, shard, offset: from, bytes: to - from });
    }
    if expected != end {
        let what = format!("the last {} bytes belong to no tensor", end - expected);
        return Err(FormatError::malformed(path, expected, what, DAMAGED));
    }
    Ok(tensors)
}

/// The entries of a header in their order in the file.
struct Json {
    metadata: BTreeMap<String, String>,
    tensors: Vec<(String, Entry)>,
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Json, A::Error> {
        let mut json = Json { metadata: BTreeMap::new(), tensors: Vec::new() };
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format_args!("{name:?} appears twice")));
            }
            let within = |e: A::Error| A::Error::custom(format_args!("{name:?}: {e}"));
            if name == "__metadata__" {
                json.metadata = map.next_value::<Option<_>>().map_err(within)?.unwrap_or_default();
            } else {
                let entry = map.next_value().map_err(within)?;
                json.tensors.push((name, entry));
            }
        }
        Ok(json)
    }
}
