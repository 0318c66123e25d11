//! SHA-256 of a GGUF's files, their metadata, their tensor data and each tensor.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use kquant_formats::FormatError;
use kquant_formats::gguf::Gguf;
use kquant_formats::source::Source;
use kquant_kernels::block;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{FileHash, Hex};
use crate::checkpoint::type_layout;
use crate::context::{After, Progress, Silent, Unit};

/// Hash of one tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorDigest {
    /// GGUF name of the tensor.
    pub name: String,
    /// Name of the tensor's type, such as `Q4_K`; `?` if the type is unknown.
    #[serde(rename = "type")]
    pub kind: String,
    /// Size of the data in bytes, without padding.
    pub bytes: u64,
    /// SHA-256 of the data without padding, in lower-case hexadecimal.
    pub sha256: String,
}

/// Hashes of one GGUF file; all are SHA-256 in lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// Path of the file.
    pub path: PathBuf,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Hash of the whole file.
    pub sha256: String,
    /// Hash of everything before the tensor data: keys, names, shapes and types.
    pub metadata_sha256: String,
    /// Hash of the data of all tensors, one after the other without padding, which is gguf-hash's hash of a model.
    pub data_sha256: String,
    /// Hashes of the tensors, in file order.
    pub tensors: Vec<TensorDigest>,
}

/// Hashes every file of the GGUF at `path`, which may be split.
///
/// # Errors
/// Fails when a file cannot be read or is malformed, or when shards are missing or do not belong together.
pub fn digest(path: &Path) -> Result<Vec<Digest>, FormatError> {
    digest_with(path, &Silent)
}

/// As [`digest`], and tells `progress` of the bytes that are hashed.
///
/// # Errors
/// As [`digest`].
pub fn digest_with(path: &Path, progress: &dyn Progress) -> Result<Vec<Digest>, FormatError> {
    let gguf = Gguf::open(path, type_layout)?;
    progress.begin(gguf.files().map(Source::bytes).sum(), Unit::Bytes);
    let mut before = 0;
    let of_file = |(shard, file): (usize, &Source)| {
        let progress = After { before, whole: progress };
        before += file.bytes();
        digest_file(&gguf, shard, file, &progress)
    };
    gguf.files().enumerate().map(of_file).collect()
}

/// Hashes the file by reading it once, from its first byte to its last, which works because tensors follow each other.
fn digest_file(
    gguf: &Gguf,
    shard: usize,
    file: &Source,
    progress: &dyn Progress,
) -> Result<Digest, FormatError> {
    let mut hash = FileHash::new(&gguf.header_bytes(shard)?);
    for tensor in gguf.tensors().iter().filter(|t| t.shard == shard) {
        append_padding(&mut hash, file, tensor.offset)?;
        gguf.extent(tensor)?.pieces(|piece| {
            hash.append(piece);
            progress.advance(hash.hashed(), &tensor.name);
        })?;
        hash.end_tensor(&tensor.name, block::by_id(tensor.type_id).map_or("?", |b| b.name));
    }
    append_padding(&mut hash, file, file.bytes())?;
    Ok(hash.finish(file.path().to_owned()))
}

/// Adds the bytes of the file that are not hashed yet, up to byte `end`. They are read, because padding is known to be zeros
/// only in files that kquant wrote.
fn append_padding(hash: &mut FileHash, file: &Source, end: u64) -> Result<(), FormatError> {
    file.whole().part(hash.hashed()..end)?.pieces(|piece| hash.append_padding(piece))
}

/// Returns the SHA-256 of `bytes` in lower-case hexadecimal.
pub fn bytes_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).hex()
}

/// Returns the SHA-256 of a file of any kind, in lower-case hexadecimal, and its size in bytes. The file is read once.
///
/// # Errors
/// Fails when the file cannot be opened or read.
pub fn file_sha256(path: &Path) -> std::io::Result<(String, u64)> {
    file_sha256_with(path, &Silent)
}

/// As [`file_sha256`], and tells `progress` of the bytes that are hashed.
///
/// # Errors
/// As [`file_sha256`].
pub fn file_sha256_with(path: &Path, progress: &dyn Progress) -> std::io::Result<(String, u64)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok((hash.finalize().hex(), bytes));
        }
        hash.update(&buffer[..n]);
        bytes += n as u64;
        progress.advance(bytes, &name);
    }
}
