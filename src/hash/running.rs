//! Hashes of one GGUF file, of its tensor data and of each tensor, computed while its bytes pass by once.

use std::path::PathBuf;

use kquant_kernels::sha256::{self, Sha256};

use super::{Digest, Hex, TensorDigest};

/// Running hashes of one GGUF file, which receive its bytes in order, from the first to the last.
pub(crate) struct FileHash {
    whole: Sha256,
    /// Number of bytes that `whole` has received.
    hashed: u64,
    metadata_sha256: String,
    data: Sha256,
    /// Running hash of the tensor that is not complete yet, and the number of its bytes received.
    tensor: (Sha256, u64),
    tensors: Vec<TensorDigest>,
}

impl FileHash {
    /// Starts the hashes of a file that begins with `header`, which is everything before the tensor data.
    pub(crate) fn new(header: &[u8]) -> Self {
        let mut whole = Sha256::default();
        whole.update(header);
        Self {
            metadata_sha256: whole.clone().finish().hex(),
            whole,
            hashed: header.len() as u64,
            data: Sha256::default(),
            tensor: (Sha256::default(), 0),
            tensors: Vec::new(),
        }
    }

    /// Returns the number of bytes of the file received so far.
    pub(crate) fn hashed(&self) -> u64 {
        self.hashed
    }

    /// Adds bytes of the file that belong to no tensor.
    pub(crate) fn append_padding(&mut self, bytes: &[u8]) {
        self.whole.update(bytes);
        self.hashed += bytes.len() as u64;
    }

    /// Adds zeros up to byte `offset` of the file; adds nothing if that byte has been passed.
    pub(crate) fn pad(&mut self, offset: u64) {
        const ZEROS: [u8; 4096] = [0; 4096];
        while self.hashed < offset {
            let n = (offset - self.hashed).min(ZEROS.len() as u64);
            self.append_padding(&ZEROS[..n as usize]);
        }
    }

    /// Adds bytes to the tensor that is not complete yet, and returns the number of its bytes received so far.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> u64 {
        update([&mut self.whole, &mut self.data, &mut self.tensor.0], bytes);
        self.hashed += bytes.len() as u64;
        self.tensor.1 += bytes.len() as u64;
        self.tensor.1
    }

    /// Completes the tensor, which has the name `name` and the type `kind`; the next bytes belong to the next one.
    pub(crate) fn end_tensor(&mut self, name: &str, kind: &str) {
        let (hash, bytes) = std::mem::take(&mut self.tensor);
        let (name, kind) = (name.to_owned(), kind.to_owned());
        self.tensors.push(TensorDigest { name, kind, bytes, sha256: hash.finish().hex() });
    }

    /// Returns the digest of the file at `path`, all bytes of which have been received.
    pub(crate) fn finish(self, path: PathBuf) -> Digest {
        Digest {
            path,
            bytes: self.hashed,
            sha256: self.whole.finish().hex(),
            metadata_sha256: self.metadata_sha256,
            data_sha256: self.data.finish().hex(),
            tensors: self.tensors,
        }
    }
}

/// Adds `bytes` to each of three hashes: on this thread if the processor computes three in about the time of one, otherwise
/// on one thread per hash.
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
