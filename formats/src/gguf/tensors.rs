//! Resolution of tensor records to places in the file: types are looked up, sizes computed and offsets checked.

use std::path::Path;

use super::header::{Header, Record};
use super::rules::pad;
use crate::error::{DAMAGED, FormatError, Result};
use crate::source::{Extent, Source};

/// The way in which a tensor type stores a row: blocks of `elements` weights in `bytes` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeLayout {
    /// ggml's name, such as `Q4_K`.
    pub name: &'static str,
    /// Weights per block.
    pub elements: u64,
    /// Bytes per block.
    pub bytes: u64,
}

/// Looks up a type by ggml's id and returns `None` for ids that the caller does not know.
pub type TypeTable = fn(u32) -> Option<TypeLayout>;

/// One tensor of a GGUF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name of the tensor, unique in the whole (split) file.
    pub name: String,
    /// Dimensions in `ne` order, columns first: 1 to 4 of them, none zero.
    pub shape: Vec<u64>,
    /// ggml's type id.
    pub type_id: u32,
    /// Offset of the data in bytes from the start of the shard.
    pub offset: u64,
    /// Size in bytes, without padding.
    pub bytes: u64,
    /// Index of the shard that holds the tensor.
    pub shard: usize,
}

impl TensorInfo {
    /// Returns the place of the tensor's bytes in `file`, its shard.
    pub(crate) fn extent<'a>(&self, file: &'a Source) -> Result<Extent<'a>> {
        Extent::new(file, self.offset, self.bytes).ok_or_else(|| FormatError::Invalid {
            what: format!("tensor {:?} does not fit the file", self.name),
            hint: "ask for one of the file's own",
        })
    }
}

// Ids that ggml has given up, with their names; files of 2023 and 2024 use them.
const REMOVED: [(u32, &str); 8] = [
    (4, "Q4_2"),
    (5, "Q4_3"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
];

/// Resolves the records of `header`, which belongs to shard `shard`, and returns the byte at which tensor data start.
pub(crate) fn resolve(
    path: &Path,
    file_bytes: u64,
    header: Header,
    types: TypeTable,
    shard: usize,
) -> Result<(Vec<TensorInfo>, u64)> {
    let overflow = || FormatError::malformed(path, None, "the tensor sizes overflow 64 bits", DAMAGED);
    let start = pad(header.end, header.alignment).ok_or_else(overflow)?;
    let mut expected = 0u64;
    let mut tensors = Vec::with_capacity(header.tensors.len());
    for record in header.tensors {
        let fault = |what: String, hint| {
            FormatError::malformed(path, record.at, format!("tensor {:?}: {what}", record.name), hint)
        };
        let bytes = size(&record, types).map_err(|(what, hint)| fault(what, hint))?;
        if record.offset != expected {
            let what = format!(
                "its data offset is {}, expected {expected}: tensors follow each other",
                record.offset
            );
            return Err(fault(what, DAMAGED));
        }
        let offset = start.checked_add(expected).ok_or_else(overflow)?;
        let end = offset.checked_add(bytes).ok_or_else(overflow)?;
        if end > file_bytes {
            let what = format!("its data are bytes {offset} to {end} of a file of {file_bytes}");
            return Err(fault(what, DAMAGED));
        }
        expected = pad(expected + bytes, header.alignment).ok_or_else(overflow)?;
        let Record { name, shape, type_id, .. } = record;
        tensors.push(TensorInfo { name, shape, type_id, offset, bytes, shard });
    }
    Ok((tensors, start))
}

fn size(record: &Record, types: TypeTable) -> std::result::Result<u64, (String, &'static str)> {
    let id = record.type_id;
    let Some(layout) = types(id) else {
        return Err(match REMOVED.iter().find(|(removed, _)| *removed == id) {
            Some((_, name)) => {
                (format!("its type {id} ({name}) was removed from the format"), "convert the model again")
            }
            None => {
                (format!("its type {id} is unknown"), "update kquant, or convert the model to a known type")
            }
        });
    };
    let columns = record.shape.first().copied().unwrap_or_default();
    if layout.elements == 0 || !columns.is_multiple_of(layout.elements) {
        let TypeLayout { name, elements, .. } = layout;
        return Err((
            format!("its rows of {columns} are no whole number of {name} blocks of {elements}"),
            DAMAGED,
        ));
    }
    (record.elements / layout.elements)
        .checked_mul(layout.bytes)
        .ok_or_else(|| (format!("its shape {:?} overflows 64 bits of size", record.shape), DAMAGED))
}
