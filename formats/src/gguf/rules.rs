//! Rules of GGUF for reading and writing alike; they follow from what ggml's reader accepts.
//!
//! Each function returns the broken rule in words; the caller adds the file and the offset.

use super::value::{Metadata, Value};
use crate::names::has_control;

/// Key of the alignment of tensor data in bytes.
pub(super) const ALIGNMENT: &str = "general.alignment";
/// Alignment of tensor data in bytes where that key is absent.
pub(super) const DEFAULT_ALIGNMENT: u64 = 32;
/// Largest alignment in bytes that is accepted, since every tensor of the output is padded to it.
const MAX_ALIGNMENT: u64 = 1 << 24;
/// Longest tensor name in bytes: ggml stores names in 64 bytes, the terminator included.
const MAX_NAME: usize = 63;
const MAX_DIMENSIONS: usize = 4;

/// Returns the alignment that `metadata` asks for, in bytes.
pub(super) fn alignment(metadata: &Metadata) -> Result<u64, String> {
    match metadata.get(ALIGNMENT) {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(Value::U32(v)) if v.is_power_of_two() && u64::from(*v) <= MAX_ALIGNMENT => Ok((*v).into()),
        Some(Value::U32(v)) => {
            Err(format!("{ALIGNMENT} is {v}; it must be a power of two up to {MAX_ALIGNMENT}"))
        }
        Some(other) => Err(format!("{ALIGNMENT} is of type {}; it must be u32", other.type_name())),
    }
}

/// Returns `offset` rounded up to a multiple of `alignment`, a power of two; `None` on overflow.
pub(super) fn pad(offset: u64, alignment: u64) -> Option<u64> {
    offset.checked_next_multiple_of(alignment)
}

/// Checks that a tensor can be called `name`.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("a tensor has an empty name".into());
    }
    if name.len() > MAX_NAME {
        return Err(format!("the tensor name {name:?} has {} bytes; the most is {MAX_NAME}", name.len()));
    }
    if has_control(name) {
        return Err(format!("the tensor name {name:?} holds a control character"));
    }
    Ok(())
}

/// Returns the number of elements of a tensor of `shape`.
pub(super) fn elements(shape: &[u64]) -> Result<u64, String> {
    if shape.is_empty() || shape.len() > MAX_DIMENSIONS {
        return Err(format!("it has {} dimensions; a tensor has 1 to {MAX_DIMENSIONS}", shape.len()));
    }
    if shape.contains(&0) {
        return Err(format!("its shape {shape:?} has an empty dimension"));
    }
    // ggml counts elements in i64.
    shape
        .iter()
        .try_fold(1u64, |n, &d| n.checked_mul(d))
        .filter(|&n| i64::try_from(n).is_ok())
        .ok_or_else(|| format!("its shape {shape:?} has more elements than 63 bits can count"))
}
