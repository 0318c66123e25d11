//! The end of the pipeline: units come in any order, are written and hashed in the order of the output.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;

use kquant_formats::gguf::split::shard_path;
use kquant_formats::partial::PartialFile;
use sha2::{Digest, Sha256};

use super::PipelineError;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::verify::{Digest as FileDigest, Hex, TensorDigest};

/// What a unit became.
pub(super) struct Done {
    /// Number of the unit.
    pub unit: usize,
    /// Its encoded rows, or why there are none.
    pub result: Result<Vec<u8>, PipelineError>,
}

/// Running hashes of one file.
struct FileHash {
    whole: Sha256,
    /// Bytes that `whole` has seen.
    hashed: u64,
    metadata_sha256: String,
    data: Sha256,
    tensors: Vec<TensorDigest>,
}

/// Writes and hashes in order. Files stay partial until [`Sink::finish`].
pub(super) struct Sink<'a> {
    plan: &'a Plan,
    paths: &'a [PathBuf],
    files: Vec<PartialFile>,
    hashes: Vec<FileHash>,
    /// Tensors that are complete.
    complete: usize,
    tensor: Sha256,
    /// Bytes of the current tensor written so far.
    written: u64,
}

impl<'a> Sink<'a> {
    /// Creates the partial files of `paths`, at their final sizes, with their headers.
    pub(super) fn create(plan: &'a Plan, paths: &'a [PathBuf], force: bool) -> Result<Self, PipelineError> {
        let mut sink = Self {
            plan,
            paths,
            files: Vec::new(),
            hashes: Vec::new(),
            complete: 0,
            tensor: Sha256::new(),
            written: 0,
        };
        for (file, path) in plan.files.iter().zip(paths) {
            let partial = PartialFile::create(path, file.bytes, force)?;
            partial.write_at(0, &file.header)?;
            let whole = Sha256::new_with_prefix(&file.header);
            sink.hashes.push(FileHash {
                metadata_sha256: whole.clone().finalize().hex(),
                whole,
                hashed: file.header.len() as u64,
                data: Sha256::new(),
                tensors: Vec::new(),
            });
            sink.files.push(partial);
        }
        Ok(sink)
    }

    /// Appends `bytes` to the tensor at hand, which is the first that is not complete.
    fn append(&mut self, bytes: &[u8]) -> Result<(), PipelineError> {
        let planned = &self.plan.tensors[self.complete];
        let file = &mut self.hashes[planned.file];
        if self.written == 0 {
            file.pad(planned.offset);
        }
        self.files[planned.file].write_at(planned.offset + self.written, bytes)?;
        file.whole.update(bytes);
        file.hashed += bytes.len() as u64;
        file.data.update(bytes);
        self.tensor.update(bytes);
        self.written += bytes.len() as u64;
        if self.written == planned.bytes {
            self.written = 0;
            self.complete += 1;
            file.tensors.push(TensorDigest {
                name: planned.mapped.name.clone(),
                kind: planned.block.name.to_owned(),
                bytes: planned.bytes,
                sha256: self.tensor.finalize_reset().hex(),
            });
        }
        Ok(())
    }

    /// Takes units until the last, writes each when its turn comes and calls `taken` with its number.
    ///
    /// The first unit in the order of the output that failed decides the error, whatever the threads did.
    pub(super) fn drain(
        &mut self,
        units: usize,
        done: &Receiver<Done>,
        mut taken: impl FnMut(usize),
        progress: &dyn Progress,
    ) -> Result<(), PipelineError> {
        let mut waiting = BTreeMap::new();
        let mut next = 0;
        let mut bytes = 0;
        while next < units {
            let Ok(arrived) = done.recv() else { return Err(PipelineError::Interrupted) };
            waiting.insert(arrived.unit, arrived.result);
            while let Some(result) = waiting.remove(&next) {
                let encoded = result?;
                let tensor = self.complete;
                self.append(&encoded)?;
                bytes += encoded.len() as u64;
                progress.advance(bytes, &self.plan.tensors[tensor].mapped.name);
                drop(encoded);
                taken(next);
                next += 1;
            }
        }
        Ok(())
    }

    /// Pads, syncs and renames every file; returns their hashes.
    pub(super) fn finish(self) -> Result<Vec<FileDigest>, PipelineError> {
        let mut digests = Vec::new();
        let files = self.plan.files.iter().zip(self.paths).zip(self.files).zip(self.hashes);
        for (((planned, path), partial), mut hash) in files {
            hash.pad(planned.bytes);
            partial.finish()?;
            digests.push(FileDigest {
                path: path.clone(),
                bytes: planned.bytes,
                sha256: hash.whole.finalize().hex(),
                metadata_sha256: hash.metadata_sha256,
                data_sha256: hash.data.finalize().hex(),
                tensors: hash.tensors,
            });
        }
        Ok(digests)
    }
}

impl FileHash {
    /// Hashes the zeros up to `offset`. The file has them already: it was made at its full size.
    fn pad(&mut self, offset: u64) {
        const ZEROS: [u8; 4096] = [0; 4096];
        while self.hashed < offset {
            let n = (offset - self.hashed).min(ZEROS.len() as u64);
            self.whole.update(&ZEROS[..n as usize]);
            self.hashed += n;
        }
    }
}

/// The names of the output files: `path` itself, or `PREFIX-0000i-of-0000n.gguf` for more than one.
pub fn output_paths(path: &Path, files: usize) -> Vec<PathBuf> {
    if files == 1 {
        return vec![path.to_owned()];
    }
    let prefix = path.with_extension("");
    (0..files).map(|i| shard_path(&prefix, i as u16, files as u16)).collect()
}
