//! SHA-256 of a GGUF's parts.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use kquant_formats::FormatError;
use kquant_formats::gguf::Gguf;
use kquant_formats::source::{Io, Source};
use kquant_kernels::block;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{FileHash, Hex};
use crate::checkpoint::type_layout;

/// Hash of one tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorDigest {
    /// GGUF name.
    pub name: String,
    /// Type name.
    #[serde(rename = "type")]
    pub kind: String,
    /// Bytes of data, without padding.
    pub bytes: u64,
    /// SHA-256 of these bytes, lower-case hexadecimal.
    pub sha256: String,
}

/// Hashes of one GGUF file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Of the whole file.
    pub sha256: String,
    /// Of everything before the tensor data: keys, names, shapes, types.
    pub metadata_sha256: String,
    /// Of all tensors' bytes one after the other, without padding: gguf-hash's hash of a model.
    pub data_sha256: String,
    /// Each tensor, in file order.
    pub tensors: Vec<TensorDigest>,
}

/// Hashes a GGUF, every file of it when it is split; tensor data are read as `io` says.
///
/// # Errors
/// [`FormatError`] when the file cannot be read or is malformed.
pub fn digest(path: &Path, io: Io) -> Result<Vec<Digest>, FormatError> {
    let gguf = Gguf::open_by(path, type_layout, io)?;
    gguf.files().enumerate().map(|(shard, file)| digest_file(&gguf, shard, file)).collect()
}

/// Reads the file once, from its first byte to its last: tensors follow each other.
fn digest_file(gguf: &Gguf, shard: usize, file: &Source) -> Result<Digest, FormatError> {
    let mut hash = FileHash::new(&gguf.header_bytes(shard)?);
    for tensor in gguf.tensors().iter().filter(|t| t.shard == shard) {
        append_padding(&mut hash, file, tensor.offset)?;
        gguf.extent(tensor)?.pieces(|piece| {
            hash.append(piece);
        })?;
        hash.end_tensor(&tensor.name, block::by_id(tensor.type_id).map_or("?", |b| b.name));
    }
    append_padding(&mut hash, file, file.bytes())?;
    Ok(hash.finish(file.path().to_owned()))
}

/// What stands in the file before byte `end`: zeros in a file of ours, and whatever it is in another.
fn append_padding(hash: &mut FileHash, file: &Source, end: u64) -> Result<(), FormatError> {
    file.whole().part(hash.hashed()..end)?.pieces(|piece| hash.append_padding(piece))
}

/// SHA-256 of `bytes`, lower-case hexadecimal.
pub fn bytes_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).hex()
}

/// SHA-256 and size of a file of any kind, read once.
///
/// # Errors
/// What the system says.
pub fn file_sha256(path: &Path) -> std::io::Result<(String, u64)> {
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
    }
}
