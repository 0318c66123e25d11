//! The layout of a new GGUF, which is known before its first byte is written.

use std::collections::HashSet;

use super::codes::{write_string, write_value};
use super::header::{MAGIC, VERSION};
use super::rules::{self, pad};
use super::value::Metadata;
use crate::cursor::Number;
use crate::error::{FormatError, Result};

/// A tensor that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name of the tensor, at most 63 bytes, unique in the file.
    pub name: String,
    /// Dimensions in `ne` order, columns first: 1 to 4 of them, none zero.
    pub shape: Vec<u64>,
    /// ggml's type id.
    pub type_id: u32,
    /// Size in bytes, without padding.
    pub bytes: u64,
}

/// The places of a new GGUF; bytes that neither the header nor a tensor covers are zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The file's first bytes, up to the first tensor's data.
    pub header: Vec<u8>,
    /// Offset of each tensor's data in bytes from the start of the file, in the order of the tensors given.
    pub offsets: Vec<u64>,
    /// Size of the file in bytes, with padding after the last tensor, which ggml expects.
    pub total: u64,
    /// Bytes that the start of each tensor's data is a multiple of.
    pub alignment: u64,
}

/// Lays out a GGUF of version 3 with `metadata` and `tensors`, both in the order given.
///
/// Data are aligned to `general.alignment` where `metadata` has that key, else to 32 bytes.
///
/// # Errors
/// Fails when a key is empty, a name is empty, too long or used twice, a shape cannot be stored, or the alignment is no
/// power of two.
pub fn layout(metadata: &Metadata, tensors: &[TensorSpec]) -> Result<Layout> {
    let alignment =
        rules::alignment(metadata).map_err(|what| invalid(what, "give it as u32, or leave it out for 32"))?;
    check_tensors(tensors)?;
    let mut header = Vec::new();
    header.extend_from_slice(&MAGIC);
    VERSION.append_to(&mut header);
    (tensors.len() as u64).append_to(&mut header);
    (metadata.len() as u64).append_to(&mut header);
    for (key, value) in metadata.iter() {
        if key.is_empty() {
            return Err(invalid("a metadata key is empty", "name it"));
        }
        write_string(&mut header, key);
        write_value(&mut header, value);
    }

    let overflow = || invalid("the tensors do not fit 64 bits of file size", "give their true sizes");
    let mut relative = Vec::with_capacity(tensors.len());
    let mut end = 0u64;
    for tensor in tensors {
        relative.push(end);
        write_record(&mut header, tensor, end);
        end = end.checked_add(tensor.bytes).and_then(|end| pad(end, alignment)).ok_or_else(overflow)?;
    }
    let start = pad(header.len() as u64, alignment).ok_or_else(overflow)?;
    header.resize(usize::try_from(start).map_err(|_| overflow())?, 0);
    let total = start.checked_add(end).ok_or_else(overflow)?;
    let offsets = relative.into_iter().map(|offset| start + offset).collect();
    Ok(Layout { header, offsets, total, alignment })
}

fn check_tensors(tensors: &[TensorSpec]) -> Result<()> {
    let mut seen = HashSet::new();
    for tensor in tensors {
        rules::check_name(&tensor.name).map_err(|what| invalid(what, "give it a shorter name"))?;
        if !seen.insert(tensor.name.as_str()) {
            return Err(invalid(format!("two tensors are called {:?}", tensor.name), "rename one"));
        }
        rules::elements(&tensor.shape).map_err(|what| {
            invalid(format!("tensor {:?}: {what}", tensor.name), "reshape it or leave it out")
        })?;
    }
    Ok(())
}

fn write_record(header: &mut Vec<u8>, tensor: &TensorSpec, offset: u64) {
    write_string(header, &tensor.name);
    // The shape has at most 4 dimensions, as was checked.
    (tensor.shape.len() as u32).append_to(header);
    tensor.shape.iter().for_each(|d| d.append_to(header));
    tensor.type_id.append_to(header);
    offset.append_to(header);
}

fn invalid(what: impl Into<String>, hint: &'static str) -> FormatError {
    FormatError::Invalid { what: what.into(), hint }
}
