//! Hashes of what is written, made beside the writing: of whole files, of their data and of each tensor.

use std::path::PathBuf;

use kquant_kernels::sha256::{self, Sha256};

use crate::plan::Plan;
use crate::verify::{Digest, Hex, TensorDigest};

/// Running hashes of one file.
struct FileHash {
    whole: Sha256,
    /// Bytes that `whole` has seen.
    hashed: u64,
    metadata_sha256: String,
    data: Sha256,
    tensors: Vec<TensorDigest>,
}

/// Running hashes of all files; told of the tensors' bytes in the order of the output.
pub(super) struct Hashes<'a> {
    plan: &'a Plan,
    files: Vec<FileHash>,
    /// Tensors that are complete.
    complete: usize,
    tensor: Sha256,
    /// Bytes of the current tensor seen so far.
    seen: u64,
}

impl<'a> Hashes<'a> {
    /// Of files that have their headers and no tensors yet.
    pub(super) fn new(plan: &'a Plan) -> Self {
        let file = |header: &Vec<u8>| {
            let mut whole = Sha256::default();
            whole.update(header);
            FileHash {
                metadata_sha256: whole.clone().finish().hex(),
                whole,
                hashed: header.len() as u64,
                data: Sha256::default(),
                tensors: Vec::new(),
            }
        };
        let files = plan.files.iter().map(|f| file(&f.header)).collect();
        Self { plan, files, complete: 0, tensor: Sha256::default(), seen: 0 }
    }

    /// Adds `bytes` of the tensor at hand, which is the first that is not complete.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        let planned = &self.plan.tensors[self.complete];
        let file = &mut self.files[planned.file];
        if self.seen == 0 {
            file.pad(planned.offset);
        }
        update([&mut file.whole, &mut file.data, &mut self.tensor], bytes);
        file.hashed += bytes.len() as u64;
        self.seen += bytes.len() as u64;
        if self.seen == planned.bytes {
            self.seen = 0;
            self.complete += 1;
            file.tensors.push(TensorDigest {
                name: planned.mapped.name.clone(),
                kind: planned.block.name.to_owned(),
                bytes: planned.bytes,
                sha256: std::mem::take(&mut self.tensor).finish().hex(),
            });
        }
    }

    /// The digests of the finished files at `paths`.
    pub(super) fn finish(self, paths: &[PathBuf]) -> Vec<Digest> {
        let files = self.plan.files.iter().zip(paths).zip(self.files);
        let digest = |((planned, path), mut hash): ((&crate::plan::PlannedFile, &PathBuf), FileHash)| {
            hash.pad(planned.bytes);
            Digest {
                path: path.clone(),
                bytes: planned.bytes,
                sha256: hash.whole.finish().hex(),
                metadata_sha256: hash.metadata_sha256,
                data_sha256: hash.data.finish().hex(),
                tensors: hash.tensors,
            }
        };
        files.map(digest).collect()
    }
}

/// Adds `bytes` to all hashes, on this thread where that is fastest, else on one for each.
fn update(hashes: [&mut Sha256; 3], bytes: &[u8]) {
    if sha256::interleaves() {
        return sha256::update_all(hashes, bytes);
    }
    std::thread::scope(|scope| {
        let [here, others @ ..] = hashes;
        for hash in others {
            scope.spawn(|| hash.update(bytes));
        }
        here.update(bytes);
    });
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
