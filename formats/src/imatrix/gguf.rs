//! The GGUF format of importance matrices: each tensor has `NAME.in_sum2` (`[columns, matrices]`) and `NAME.counts`
//! (`[1, matrices]`), both F32. Other tensors, such as those of [`crate::hessian`], are ignored.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Entry, Imatrix, check_numbers, to_bytes};
use crate::cursor::Number;
use crate::error::{DAMAGED, FormatError, Result};
use crate::gguf::header::Header;
use crate::gguf::tensors::{TensorInfo, resolve};
use crate::gguf::{Array, Metadata, TensorSpec, Value, layout};
use crate::hessian::{F32, float_types};
use crate::partial::PartialFile;
use crate::source::Source;

pub(crate) const SUMS: &str = ".in_sum2";
pub(crate) const COUNTS: &str = ".counts";
const DATASETS: &str = "imatrix.datasets";
const CHUNK_COUNT: &str = "imatrix.chunk_count";
const CHUNK_SIZE: &str = "imatrix.chunk_size";

/// The two tensors of an entry, sums of squares and counts; either may be missing.
type Pair<'a> = (Option<&'a TensorInfo>, Option<&'a TensorInfo>);

pub(super) fn read(file: &Source) -> Result<Imatrix> {
    let path = file.path();
    let mut header = Header::read(file)?;
    let metadata = std::mem::take(&mut header.metadata);
    // These keys are read before the tensors, so that a model given by mistake is named as such and not as a file of unknown
    // types.
    let chunk_count = number(path, &metadata, CHUNK_COUNT)?;
    let chunk_size = number(path, &metadata, CHUNK_SIZE)?;
    let Some(Value::Array(Array::String(datasets))) = metadata.get(DATASETS) else {
        return Err(no_imatrix(path, DATASETS, "array of strings"));
    };
    let (tensors, _) = resolve(path, file.bytes(), header, float_types, 0)?;

    let mut pairs: BTreeMap<&str, Pair> = BTreeMap::new();
    for tensor in &tensors {
        if let Some(name) = tensor.name.strip_suffix(SUMS) {
            pairs.entry(name).or_default().0 = Some(tensor);
        } else if let Some(name) = tensor.name.strip_suffix(COUNTS) {
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
        entries.insert(name.to_owned(), read_entry(file, name, pair)?);
    }
    let (chunk_count, chunk_size) = (Some(chunk_count), Some(chunk_size));
    Ok(Imatrix { entries, datasets: datasets.clone(), chunk_count, chunk_size })
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

fn read_entry(file: &Source, name: &str, pair: Pair) -> Result<Entry> {
    let path = file.path();
    let fault = |what: String| FormatError::malformed(path, None, format!("entry {name:?}: {what}"), DAMAGED);
    let (Some(sums_at), Some(counts_at)) = pair else {
        return Err(fault("it has only one of .in_sum2 and .counts".into()));
    };
    if [sums_at.type_id, counts_at.type_id] != [F32; 2] {
        return Err(fault("its sums and counts are not F32".into()));
    }
    let sums: Vec<f32> = Number::all(&sums_at.extent(file)?.read()?);
    let counts: Vec<f32> = Number::all(&counts_at.extent(file)?.read()?);
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

pub(super) fn write(matrix: &Imatrix, path: &Path, force: bool) -> Result<()> {
    let tensors: Vec<(TensorSpec, &[f32])> = matrix
        .entries
        .iter()
        .flat_map(|(name, entry)| {
            let tensor = |suffix, columns, values| (spec(name, suffix, columns, entry.matrices), values);
            [tensor(SUMS, entry.columns, &*entry.sums), tensor(COUNTS, 1, &*entry.counts)]
        })
        .collect();
    let specs: Vec<TensorSpec> = tensors.iter().map(|(spec, _)| spec.clone()).collect();
    let layout = layout(&metadata_of(matrix)?, &specs)?;
    let file = PartialFile::create(path, layout.total, force)?;
    file.write_at(0, &layout.header)?;
    for ((_, values), &offset) in tensors.iter().zip(&layout.offsets) {
        file.write_at(offset, &to_bytes(values.iter().copied()))?;
    }
    file.finish()
}

fn metadata_of(matrix: &Imatrix) -> Result<Metadata> {
    let chunk_size = matrix.chunk_size.ok_or_else(|| FormatError::Invalid {
        what: "a GGUF importance matrix tells its tokens per chunk, which the legacy format does not".into(),
        hint: "say how many they were with --chunk-size, or write the legacy format",
    })?;
    Ok(metadata(&matrix.datasets, matrix.chunks(), chunk_size))
}

/// Returns the keys of an importance matrix.
pub(crate) fn metadata(datasets: &[String], chunk_count: u32, chunk_size: u32) -> Metadata {
    let mut metadata = Metadata::new();
    metadata.set("general.type", "imatrix".into());
    metadata.set(DATASETS, Value::Array(Array::String(datasets.to_vec())));
    metadata.set(CHUNK_COUNT, Value::U32(chunk_count));
    metadata.set(CHUNK_SIZE, Value::U32(chunk_size));
    metadata
}

fn spec(name: &str, suffix: &str, columns: usize, matrices: usize) -> TensorSpec {
    // ggml writes no trailing dimensions of 1.
    let mut shape = vec![columns as u64];
    shape.extend((matrices > 1).then_some(matrices as u64));
    TensorSpec {
        name: format!("{name}{suffix}"),
        shape,
        type_id: F32,
        bytes: 4 * (columns * matrices) as u64,
    }
}
