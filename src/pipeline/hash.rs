//! Hashes of the output, computed while it is written.

use std::path::PathBuf;

use crate::hash::{Digest, FileHash};
use crate::plan::Plan;

/// Running hashes of all files, which receive the tensors' bytes in the order of the output.
pub(super) struct Hashes<'a> {
    plan: &'a Plan,
    files: Vec<FileHash>,
    /// Number of tensors that are complete.
    complete: usize,
}

impl<'a> Hashes<'a> {
    /// Starts the hashes of files that contain their headers and no tensors yet.
    pub(super) fn new(plan: &'a Plan) -> Self {
        let files = plan.files.iter().map(|file| FileHash::new(&file.header)).collect();
        Self { plan, files, complete: 0 }
    }

    /// Adds `bytes` to the first tensor that is not complete.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        let planned = &self.plan.tensors[self.complete];
        let file = &mut self.files[planned.file];
        // The file contains zeros before the tensor already, as it was made at its full size.
        file.pad(planned.offset);
        if file.append(bytes) == planned.bytes {
            file.end_tensor(&planned.mapped.name, planned.block.name);
            self.complete += 1;
        }
    }

    /// Returns the digests of the finished files at `paths`.
    pub(super) fn finish(self, paths: &[PathBuf]) -> Vec<Digest> {
        let files = self.plan.files.iter().zip(paths).zip(self.files);
        let digest = |((planned, path), mut hash): ((&crate::plan::PlannedFile, &PathBuf), FileHash)| {
            hash.pad(planned.bytes);
            hash.finish(path.clone())
        };
        files.map(digest).collect()
    }
}
