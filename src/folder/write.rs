//! Writing of a new folder, which appears when it is complete and reads back as the same model.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use kquant_formats::gguf::{Array, Metadata, Value};
use kquant_formats::partial::{PartialFile, PartialFolder};
use kquant_formats::safetensors::{NewTensor, index, places, shard_counts, shard_name};
use kquant_kernels::block;
use kquant_kernels::isa::Isa;
use rayon::prelude::*;
use serde_json::Value as Json;

use super::plan::is_of_shapes;
use super::rebuild::{Part, rebuild};
use super::{FolderError, NewFolder, files};
use crate::checkpoint::{Checkpoint, Opened, Origin, open};
use crate::context::{Context, Unit};
use crate::convert::{Converted, convert};

/// Most bytes of weights in one file, as transformers writes them.
const SHARD: u64 = 5_000_000_000;

/// Most weights of a piece, which is put together and written at once.
const PIECE: u64 = 1 << 22;

/// Bytes that a piece needs for each weight: twice as f32, once as it is written.
const PER_WEIGHT: u64 = 12;

/// A file of weights that is being written.
struct Shard<'a> {
    source: &'a dyn Checkpoint,
    file: &'a PartialFile,
    run: &'a Context<'a>,
    /// Bytes written before, of all files.
    done: &'a AtomicU64,
}

/// Writes `folder`, the plan of `pruned` made of `opened`, to `out`, and returns the bytes of its files of weights. `pre` is the name of
/// the pre-tokenizer where it is not recognised.
///
/// The result depends neither on threads nor on memory.
///
/// # Errors
/// Fails when the source cannot be read, the system cannot write, the run is stopped, or the folder does not read back as
/// the model. Nothing is left behind then.
pub fn write(
    folder: &NewFolder,
    (opened, pruned): (&Opened, &Converted),
    pre: Option<&str>,
    out: &Path,
    run: &Context,
) -> Result<u64, FolderError> {
    let Origin::HuggingFace { folder: from } = &opened.origin else { return Err(FolderError::Gguf) };
    let partial = PartialFolder::create(out)?;
    for (name, content) in files::all(from, &folder.kept)? {
        partial.write(&name, &content)?;
    }
    partial.write("config.json", &files::text(&Json::Object(folder.config.clone()), true))?;
    run.progress.begin(folder.bytes(), Unit::Bytes);
    let counts = shard_counts(&folder.tensors, SHARD);
    let (mut first, mut bytes, done) = (0, 0, AtomicU64::new(0));
    for (number, &count) in counts.iter().enumerate() {
        let path = partial.path().join(shard_name(number, counts.len()));
        bytes += shard(folder, first..first + count, (&path, opened), (run, &done))?;
        first += count;
    }
    if counts.len() > 1 {
        partial.write("model.safetensors.index.json", index(&folder.tensors, &counts).as_bytes())?;
    }
    read_back(partial.path(), pruned, pre)?;
    partial.finish()?;
    Ok(bytes)
}

/// Writes the file `path` with the tensors of numbers `range`, and returns its bytes.
fn shard(
    folder: &NewFolder,
    range: Range<usize>,
    (path, opened): (&Path, &Opened),
    (run, done): (&Context, &AtomicU64),
) -> Result<u64, FolderError> {
    let tensors = &folder.tensors[range.clone()];
    let layout = places(tensors)?;
    let file = PartialFile::create(path, layout.total, false)?;
    file.write_at(0, &layout.header)?;
    let shard = Shard { source: opened.checkpoint.as_ref(), file: &file, run, done };
    for ((tensor, parts), &offset) in tensors.iter().zip(&folder.parts[range]).zip(&layout.offsets) {
        shard.tensor(tensor, parts, offset)?;
    }
    file.finish()?;
    Ok(layout.total)
}

impl Shard<'_> {
    /// Writes one tensor at byte `offset`, piece by piece.
    fn tensor(&self, tensor: &NewTensor, parts: &[Part], offset: u64) -> Result<(), FolderError> {
        let columns = tensor.shape.last().copied().unwrap_or(1).max(1);
        let rows = tensor.shape.iter().product::<u64>() / columns;
        let room = self.run.memory / PER_WEIGHT / rayon::current_num_threads().max(1) as u64;
        let together = (PIECE.min(room) / columns).max(1);
        let starts: Vec<u64> = (0..rows).step_by(together as usize).collect();
        starts.par_iter().try_for_each(|&start| {
            if self.run.is_cancelled() {
                return Err(FolderError::Cancelled);
            }
            let piece = start..rows.min(start + together);
            let bytes = encoded(self.source, tensor, parts, piece, columns)?;
            self.file.write_at(offset + start * columns * tensor.dtype.bytes(), &bytes)?;
            let before = self.done.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            self.run.progress.advance(before + bytes.len() as u64, &tensor.name);
            Ok(())
        })
    }
}

/// Returns the stored bytes of rows `rows` of `tensor`.
fn encoded(
    source: &dyn Checkpoint,
    tensor: &NewTensor,
    parts: &[Part],
    rows: Range<u64>,
    columns: u64,
) -> Result<Vec<u8>, FolderError> {
    let mut weights = vec![0.0; ((rows.end - rows.start) * columns) as usize];
    rebuild(source, parts, rows, &mut weights)?;
    let mut bytes = vec![0; weights.len() * tensor.dtype.bytes() as usize];
    let dtype = tensor.dtype.name();
    let encode = block::by_name(dtype).and_then(|block| block.encode);
    let encode = encode
        .ok_or_else(|| FolderError::Quantized { tensor: tensor.name.clone(), dtype: dtype.to_owned() })?;
    encode(Isa::current(), &weights, None, &mut bytes);
    Ok(bytes)
}

/// Checks that kquant reads `folder` as `pruned`: the same tensors, keys and tokens.
fn read_back(folder: &Path, pruned: &Converted, pre: Option<&str>) -> Result<(), FolderError> {
    let again = convert(&open(folder)?, pre, None)?;
    for tensor in &pruned.tensors {
        let found = again.tensors.iter().find(|t| t.name == tensor.name);
        if found.is_none_or(|found| found.shape != tensor.shape) {
            return Err(FolderError::Different(format!("tensor `{}`", tensor.name)));
        }
    }
    if again.tensors.len() != pruned.tensors.len() {
        return Err(FolderError::Different("it has other tensors".to_owned()));
    }
    // Authorship follows the folder's name, and `kquant.*` says what was done.
    let described =
        |key: &str| key.starts_with("general.") || key.starts_with("kquant.") || is_of_shapes(key);
    let is_same = |key: &str| match key {
        "tokenizer.ggml.tokens" => texts(&again.metadata) == texts(&pruned.metadata),
        // Scores that stand for ranks of merges are those of the merges that are left.
        "tokenizer.ggml.scores" if is_by_merges(pruned) => ranks(&again.metadata) == ranks(&pruned.metadata),
        key => again.metadata.get(key) == pruned.metadata.get(key),
    };
    let keys = again.metadata.iter().chain(pruned.metadata.iter()).map(|(key, _)| key);
    match keys.filter(|key| !described(key)).find(|key| !is_same(key)) {
        Some(key) => Err(FolderError::Different(format!("`{key}`"))),
        None => Ok(()),
    }
}

/// Returns the texts of all tokens but those that name rows without a text by their numbers.
fn texts(metadata: &Metadata) -> Vec<Option<&str>> {
    const UNUSED: i32 = 5;
    let kinds = match metadata.get("tokenizer.ggml.token_type") {
        Some(Value::Array(Array::I32(kinds))) => kinds.as_slice(),
        _ => &[],
    };
    let texts = match metadata.get("tokenizer.ggml.tokens") {
        Some(Value::Array(Array::String(texts))) => texts.as_slice(),
        _ => &[],
    };
    let kinds = kinds.iter().copied().chain(std::iter::repeat(0));
    texts.iter().zip(kinds).map(|(text, kind)| (kind != UNUSED).then_some(text.as_str())).collect()
}

/// Returns true for a vocabulary of SentencePiece's kind whose neighbours are joined, the best score first.
fn is_by_merges(model: &Converted) -> bool {
    model.metadata.get("tokenizer.ggml.model").and_then(Value::as_str) == Some("llama")
}

/// Returns the tokens by score, the highest first, with the number of different scores before each.
fn ranks(metadata: &Metadata) -> Vec<(usize, usize)> {
    let scores = match metadata.get("tokenizer.ggml.scores") {
        Some(Value::Array(Array::F32(scores))) => scores.as_slice(),
        _ => &[],
    };
    let mut ids: Vec<usize> = (0..scores.len()).collect();
    ids.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let (mut rank, mut last) = (0, None);
    let ranked = ids.into_iter().map(|id| {
        if last.replace(scores[id]).is_some_and(|last| last != scores[id]) {
            rank += 1;
        }
        (id, rank)
    });
    ranked.collect()
}
