//! The end of the pipeline, where units arrive in any order and are written in the order of the output.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use kquant_formats::gguf::split::{prefix, shard_path};
use kquant_formats::partial::PartialFile;

use super::PipelineError;
use super::budget::Lease;
use super::work::Spare;
use crate::context::Progress;
use crate::plan::Plan;

/// Encoded rows on their way to the file and the hashes. The last owner that drops them gives back the buffer and its bytes
/// of the budget.
pub(super) struct Encoded<'a> {
    pub bytes: Vec<u8>,
    pub spare: &'a Spare<Vec<u8>>,
    /// Bytes of the budget that the rows hold.
    pub _lease: Lease<'a>,
}

impl Drop for Encoded<'_> {
    fn drop(&mut self) {
        self.spare.put(std::mem::take(&mut self.bytes));
    }
}

/// The result of encoding a unit.
pub(super) struct Done<'a> {
    /// Number of the unit.
    pub unit: usize,
    /// Encoded rows of the unit, or the reason why there are none.
    pub result: Result<Encoded<'a>, PipelineError>,
}

/// The writer of units in order, whose files stay partial.
pub(super) struct Sink<'a> {
    plan: &'a Plan,
    files: Vec<PartialFile>,
    /// Number of tensors that are complete.
    complete: usize,
    /// Bytes of the first incomplete tensor that are written so far.
    written: u64,
    /// Offset in the file from which on the system was not yet told to write to the disk, in bytes.
    pending: u64,
}

/// Number of bytes that the system is told to write to the disk at once.
const WRITE_OUT: u64 = 16 << 20;

impl<'a> Sink<'a> {
    /// Creates the partial files of `paths` at their final sizes and writes their headers.
    pub(super) fn create(plan: &'a Plan, paths: &[PathBuf], force: bool) -> Result<Self, PipelineError> {
        let mut files = Vec::new();
        for (file, path) in plan.files.iter().zip(paths) {
            let partial = PartialFile::create(path, file.bytes, force)?;
            partial.write_at(0, &file.header)?;
            files.push(partial);
        }
        Ok(Self { plan, files, complete: 0, written: 0, pending: 0 })
    }

    /// Appends `bytes` to the first tensor that is not complete.
    fn append(&mut self, bytes: &[u8]) -> Result<(), PipelineError> {
        let planned = &self.plan.tensors[self.complete];
        let file = &self.files[planned.file];
        file.write_at(planned.offset + self.written, bytes)?;
        self.written += bytes.len() as u64;
        let end = planned.offset + self.written;
        // Offsets begin anew in the next file of a split model.
        self.pending = self.pending.min(end);
        if end - self.pending >= WRITE_OUT {
            file.begin_writing_out(self.pending..end);
            self.pending = end;
        }
        if self.written == planned.bytes {
            self.written = 0;
            self.complete += 1;
        }
        Ok(())
    }

    /// Receives units until the last one, passes each on to `hashes`, and writes them in order.
    ///
    /// The first unit in the order of the output that failed determines the error, whatever the threads did.
    pub(super) fn drain<'b>(
        &mut self,
        units: usize,
        done: &Receiver<Done<'b>>,
        hashes: &Sender<Arc<Encoded<'b>>>,
        progress: &dyn Progress,
    ) -> Result<(), PipelineError> {
        let mut waiting = BTreeMap::new();
        let mut next = 0;
        let mut bytes = 0;
        while next < units {
            let Ok(arrived) = done.recv() else { return Err(PipelineError::Interrupted) };
            waiting.insert(arrived.unit, arrived.result);
            while let Some(result) = waiting.remove(&next) {
                let encoded = Arc::new(result?);
                // The hashing thread ends after this one.
                let _ = hashes.send(Arc::clone(&encoded));
                let tensor = self.complete;
                self.append(&encoded.bytes)?;
                bytes += encoded.bytes.len() as u64;
                progress.advance(bytes, &self.plan.tensors[tensor].mapped.name);
                next += 1;
            }
        }
        Ok(())
    }

    /// Returns the files, complete except for their names.
    pub(super) fn files(self) -> Vec<PartialFile> {
        self.files
    }
}

/// Returns the names of the output files: `path` itself, or `PREFIX-0000i-of-0000n.gguf` for more than one, where the prefix
/// is `path` without `.gguf` and without a shard's number.
pub fn output_paths(path: &Path, files: usize) -> Vec<PathBuf> {
    if files == 1 {
        return vec![path.to_owned()];
    }
    let prefix = prefix(path);
    (0..files).map(|i| shard_path(&prefix, i as u16, files as u16)).collect()
}
