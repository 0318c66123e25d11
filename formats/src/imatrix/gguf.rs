//! The GGUF format: for each tensor, `NAME.in_sum2` (`[columns, matrices]`) and `NAME.counts` (`[1, matrices]`), both F32.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Entry, Imatrix, check_numbers};
use crate::cursor::Number;
use crate::error::{DAMAGED, FormatError, Result};
use crate::gguf::header::Header;
use crate::gguf::tensors::{TensorInfo, TypeLayout, resolve};
use crate::gguf::{Array, Metadata, Value};

const DATASETS: &str = "imatrix.datasets";
const CHUNK_COUNT: &str = "imatrix.chunk_count";
const CHUNK_SIZE: &str = "imatrix.chunk_size";

/// The two tensors of an entry: sums of squares and counts.
type Pair<'a> = (Option<&'a TensorInfo>, Option<&'a TensorInfo>);

pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Imatrix> {
    let mut header = Header::parse(path, bytes)?;
    let metadata = std::mem::take(&mut header.metadata);
    // Asked first: a model given by mistake is called that, not a file of unknown types.
    let chunk_count = number(path, &metadata, CHUNK_COUNT)?;
    let chunk_size = number(path, &metadata, CHUNK_SIZE)?;
    let Some(Value::Array(Array::String(datasets))) = metadata.get(DATASETS) else {
        return Err(no_imatrix(path, DATASETS, "array of strings"));
    };
    let (tensors, _) = resolve(path, bytes.len() as u64, header, f32_only, 0)?;

    let mut pairs: BTreeMap<&str, Pair> = BTreeMap::new();
    for tensor in &tensors {
        if let Some(name) = tensor.name.strip_suffix(".in_sum2") {
            pairs.entry(name).or_default().0 = Some(tensor);
        } else if let Some(name) = tensor.name.strip_suffix(".counts") {
            pairs.entry(name).or_default().1 = Some(tensor);
        }
    }
    if pairs.is_empty() {
        return Err(FormatError::malformed(
            path,
            None,
            "has no entries",
            "compute the importance matrix again",
        ));
    }
    let mut entries = BTreeMap::new();
    for (name, pair) in pairs {
        entries.insert(name.to_owned(), read_entry(path, bytes, name, pair)?);
    }
    let (chunk_count, chunk_size) = (Some(chunk_count), Some(chunk_size));
    Ok(Imatrix { entries, datasets: datasets.clone(), chunk_count, chunk_size })
}

fn f32_only(id: u32) -> Option<TypeLayout> {
    (id == 0).then_some(TypeLayout { name: "F32", elements: 1, bytes: 4 })
}

fn number(path: &Path, metadata: &Metadata, key: &'static str) -> Result<u32> {
    match metadata.get(key) {
        Some(Value::U32(v)) => Ok(*v),
        _ => Err(no_imatrix(path, key, "u32")),
    }
}

fn no_imatrix(path: &Path, key: &str, kind: &str) -> FormatError {
    let what = format!("is no importance matrix: the key {key} ({kind}) is missing");
    FormatError::malformed(path, None, what, "give a file that llama-imatrix wrote")
}

fn read_entry(path: &Path, bytes: &[u8], name: &str, pair: Pair) -> Result<Entry> {
    let fault = |what: String| FormatError::malformed(path, None, format!("entry {name:?}: {what}"), DAMAGED);
    let (Some(sums_at), Some(counts_at)) = pair else {
        return Err(fault("it has only one of .in_sum2 and .counts".into()));
    };
    let sums = values(bytes, sums_at);
    let counts: Vec<f32> = values(bytes, counts_at);
    let (matrices, total) = (counts.len(), sums.len());
    if matrices == 0 || !total.is_multiple_of(matrices) {
        return Err(fault(format!("{total} sums cannot be shared by {matrices} matrices")));
    }
    check_numbers(path, sums_at.offset, name, "sum", &sums)?;
    check_numbers(path, counts_at.offset, name, "count", &counts)?;
    // llama-quantize rounds counts to whole numbers, halves away from zero.
    let counts = counts.into_iter().map(f32::round).collect();
    Ok(Entry { columns: total / matrices, matrices, sums, counts })
}

fn values(bytes: &[u8], tensor: &TensorInfo) -> Vec<f32> {
    let range = || {
        let start = usize::try_from(tensor.offset).ok()?;
        bytes.get(start..start.checked_add(usize::try_from(tensor.bytes).ok()?)?)
    };
    Number::all(range().unwrap_or_default())
}
