//! The bytes before the tensor data: magic, version, metadata and tensor records.

use std::collections::HashSet;
use std::path::Path;

use super::codes::{read_string, read_value};
use super::rules;
use super::value::Metadata;
use crate::cursor::Cursor;
use crate::error::{DAMAGED, FormatError, Result};
use crate::names::has_control;
use crate::source::Source;

pub(crate) const MAGIC: [u8; 4] = *b"GGUF";
pub(super) const VERSION: u32 = 3;

// A key has at least a length, one byte of name, a type and a value of one byte. A tensor has at least a length, one byte of
// name, a dimension count, one dimension, a type and an offset.
const MIN_KEY_BYTES: u64 = 8 + 1 + 4 + 1;
const MIN_TENSOR_BYTES: u64 = 8 + 1 + 4 + 8 + 4 + 8;

const BIG_ENDIAN: (&str, &str) = ("is a big-endian GGUF", "convert the model for a little-endian machine");

/// Everything before the tensor data, with types and sizes not yet checked.
pub(crate) struct Header {
    pub(crate) version: u32,
    pub(crate) metadata: Metadata,
    /// Alignment of the tensor data in bytes.
    pub(crate) alignment: u64,
    pub(crate) tensors: Vec<Record>,
    /// Bytes up to the end of the last tensor record.
    pub(crate) end: u64,
}

/// A tensor record as it stands in the file.
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) shape: Vec<u64>,
    pub(crate) elements: u64,
    pub(crate) type_id: u32,
    /// Offset of the data in bytes from the start of the tensor data.
    pub(crate) offset: u64,
    /// Offset of this record in bytes from the start of the file.
    pub(crate) at: u64,
}

impl Header {
    /// Reads the header at the start of `file`.
    pub(crate) fn read(file: &Source) -> Result<Self> {
        file.parse(|bytes| Self::parse_prefix(file.path(), bytes, file.bytes()))
    }

    /// Parses the header at the start of `bytes`, a prefix of `path`, which has `end` bytes.
    fn parse_prefix(path: &Path, bytes: &[u8], end: u64) -> Result<Self> {
        let c = &mut Cursor::prefix(path, bytes, end);
        let version = read_version(c)?;
        let tensors = read_count(c, "tensor", MIN_TENSOR_BYTES)?;
        let keys = read_count(c, "key", MIN_KEY_BYTES)?;
        let metadata = read_metadata(c, keys)?;
        let alignment = rules::alignment(&metadata).map_err(|what| {
            FormatError::malformed(path, None, what, "correct the key, or convert the model again")
        })?;
        let tensors = read_records(c, tensors)?;
        Ok(Self { version, metadata, alignment, tensors, end: c.offset() })
    }
}

fn read_version(c: &mut Cursor) -> Result<u32> {
    let at = c.clone();
    let magic = c.take(4, &"the magic number")?;
    if magic == *b"FUGG" {
        return Err(at.malformed(BIG_ENDIAN.0, BIG_ENDIAN.1));
    }
    if magic != MAGIC {
        let what = format!("starts with \"{}\", not \"GGUF\"", magic.escape_ascii());
        return Err(at.malformed(what, "give a GGUF file"));
    }
    let at = c.clone();
    let version: u32 = c.number(&"the version")?;
    match version {
        2..=VERSION => Ok(version),
        swapped if (2..=VERSION).contains(&swapped.swap_bytes()) => {
            Err(at.malformed(BIG_ENDIAN.0, BIG_ENDIAN.1))
        }
        1 => Err(at.malformed("is GGUF version 1, which nobody reads any more", "convert the model again")),
        _ => Err(at.malformed(
            format!("is GGUF version {version}; versions 2 and {VERSION} are known"),
            "update kquant, or fetch the file again if it should be older",
        )),
    }
}

fn read_count(c: &mut Cursor, what: &str, least_bytes: u64) -> Result<u64> {
    let at = c.clone();
    let count: u64 = c.number(&format_args!("the {what} count"))?;
    if count > c.remaining() / least_bytes {
        let what = format!("claims {count} {what}s, more than the {} bytes left can hold", c.remaining());
        return Err(at.malformed(what, DAMAGED));
    }
    Ok(count)
}

fn read_metadata(c: &mut Cursor, count: u64) -> Result<Metadata> {
    let mut metadata = Metadata::new();
    for i in 0..count {
        let at = c.clone();
        let key = read_string(c, &format_args!("the name of key {i}"))?;
        if key.is_empty() {
            return Err(at.malformed(format!("the name of key {i} is empty"), DAMAGED));
        }
        if has_control(key) {
            let what = format!("the name of key {i}, {key:?}, holds a control character");
            return Err(at.malformed(what, "rename the key"));
        }
        if metadata.get(key).is_some() {
            return Err(at.malformed(format!("the key {key:?} appears twice"), "remove one of the two"));
        }
        metadata.set(key, read_value(c, &format_args!("the key {key:?}"))?);
    }
    Ok(metadata)
}

fn read_records(c: &mut Cursor, count: u64) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut seen = HashSet::new();
    for i in 0..count {
        let at = c.clone();
        let name = read_string(c, &format_args!("the name of tensor {i}"))?;
        rules::check_name(name).map_err(|what| at.malformed(what, "rename the tensor"))?;
        if !seen.insert(name) {
            return Err(at.malformed(format!("the tensor {name:?} appears twice"), "remove one of the two"));
        }
        records.push(read_record(c, at, name)?);
    }
    Ok(records)
}

fn read_record(c: &mut Cursor, at: Cursor, name: &str) -> Result<Record> {
    let label = |part: &str| format!("the {part} of tensor {name:?}");
    let fault = |what: String| at.malformed(format!("tensor {name:?}: {what}"), DAMAGED);
    let dimensions: u32 = c.number(&label("dimension count"))?;
    if dimensions > u32::from(u8::MAX) {
        return Err(fault(format!("it has {dimensions} dimensions")));
    }
    let shape: Vec<u64> = c.numbers(dimensions.into(), &label("shape"))?;
    let elements = rules::elements(&shape).map_err(fault)?;
    let type_id = c.number(&label("type"))?;
    let offset = c.number(&label("offset"))?;
    Ok(Record { name: name.to_owned(), shape, elements, type_id, offset, at: at.offset() })
}
