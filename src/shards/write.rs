//! Copies tensors into new files, a piece at a time.

use std::path::{Path, PathBuf};

use kquant_formats::FormatError;
use kquant_formats::gguf::{Gguf, TensorInfo};
use kquant_formats::partial::{PartialFile, check_room};
use kquant_kernels::block;

use super::ShardPlan;
use crate::context::{Context, Unit};
use crate::hash::{Digest, FileHash};

/// Bytes that are in memory at once.
const PIECE: u64 = 4 << 20;

/// The reason why a model was not split or merged. No file is left behind.
#[derive(Debug, thiserror::Error)]
pub enum ShardsError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FormatError),
    /// The keys of a split GGUF are too small for so many files.
    #[error("{0} files are more than the 65535 that a split GGUF can have; allow larger ones")]
    TooMany(usize),
    /// The model that is to be merged is one file.
    #[error("{}: stands alone, there is nothing to merge; give a file of a split model", .0.display())]
    NotSplit(PathBuf),
    /// The run was stopped from outside.
    #[error("interrupted; nothing was written")]
    Interrupted,
}

/// Writes the files of `plan`, made of `gguf`, to `paths`, and returns their hashes. All appear under their names together,
/// when they are complete. Existing files are replaced only if `force` is set.
///
/// The memory of `run` does not matter: 4 MiB suffice.
///
/// # Errors
/// Fails when an output exists or cannot be written, an input cannot be read, or the run is stopped.
pub fn write(
    gguf: &Gguf,
    plan: &[ShardPlan],
    paths: &[PathBuf],
    force: bool,
    run: &Context,
) -> Result<Vec<Digest>, ShardsError> {
    let (files, digests) = copy(gguf, plan, paths, force, run)?;
    PartialFile::finish_all(files)?;
    Ok(digests)
}

/// Writes as [`write`] does, but leaves it to the caller to give the files their names.
pub(crate) fn copy(
    gguf: &Gguf,
    plan: &[ShardPlan],
    paths: &[PathBuf],
    force: bool,
    run: &Context,
) -> Result<(Vec<PartialFile>, Vec<Digest>), ShardsError> {
    // Together, since none of them takes its room before it is written.
    if let Some(first) = paths.first() {
        check_room(first, plan.iter().map(|shard| shard.layout.total).sum())?;
    }
    let mut files = Vec::new();
    for (shard, path) in plan.iter().zip(paths) {
        files.push(PartialFile::create(path, shard.layout.total, force)?);
    }
    run.progress.begin(gguf.tensors().iter().map(|t| t.bytes).sum(), Unit::Bytes);
    let mut copy = Copy { gguf, run, done: 0, buffer: Vec::new() };
    let mut digests = Vec::new();
    for ((shard, path), file) in plan.iter().zip(paths).zip(&files) {
        digests.push(copy.shard(shard, path, file)?);
    }
    Ok((files, digests))
}

/// The state of a run.
struct Copy<'a> {
    gguf: &'a Gguf,
    run: &'a Context<'a>,
    /// Bytes of tensors that were copied so far.
    done: u64,
    buffer: Vec<u8>,
}

impl Copy<'_> {
    fn shard(&mut self, plan: &ShardPlan, path: &Path, file: &PartialFile) -> Result<Digest, ShardsError> {
        let layout = &plan.layout;
        file.write_at(0, &layout.header)?;
        let mut hash = FileHash::new(&layout.header);
        let tensors = self.gguf.tensors().get(plan.tensors.clone()).unwrap_or_default();
        for (tensor, &offset) in tensors.iter().zip(&layout.offsets) {
            hash.pad(offset);
            self.tensor(tensor, file, offset, &mut hash)?;
            hash.end_tensor(&tensor.name, block::by_id(tensor.type_id).map_or("?", |b| b.name));
        }
        hash.pad(layout.total);
        Ok(hash.finish(path.to_owned()))
    }

    /// Copies `tensor` to byte `offset` of `file`.
    fn tensor(
        &mut self,
        tensor: &TensorInfo,
        file: &PartialFile,
        offset: u64,
        hash: &mut FileHash,
    ) -> Result<(), ShardsError> {
        let place = self.gguf.extent(tensor)?;
        let mut at = 0;
        while at < place.bytes() {
            if self.run.is_cancelled() {
                return Err(ShardsError::Interrupted);
            }
            let end = at.saturating_add(PIECE).min(place.bytes());
            let piece = place.window(at..end, &mut self.buffer)?;
            file.write_at(offset + at, piece)?;
            file.begin_writing_out(offset + at..offset + end);
            hash.append(piece);
            self.done += end - at;
            self.run.progress.advance(self.done, &tensor.name);
            at = end;
        }
        Ok(())
    }
}
