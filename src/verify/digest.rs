//! SHA-256 of a GGUF's parts.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use kquant_formats::FormatError;
use kquant_formats::gguf::{Gguf, TensorInfo};
use kquant_formats::source::{Extent, Io, Source};
use kquant_kernels::block;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Hex;
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

fn digest_file(gguf: &Gguf, shard: usize, file: &Source) -> Result<Digest, FormatError> {
    let infos: Vec<_> = gguf.tensors().iter().filter(|t| t.shard == shard).collect();
    let tensor = |t: &&TensorInfo| {
        Ok(TensorDigest {
            name: t.name.clone(),
            kind: block::by_id(t.type_id).map_or("?", |b| b.name).to_owned(),
            bytes: t.bytes,
            sha256: sha256(gguf.extent(t)?)?,
        })
    };
    let tensors = || infos.par_iter().map(tensor).collect::<Result<_, FormatError>>();
    let data = || {
        let mut hash = Sha256::new();
        infos.iter().try_for_each(|t| gguf.extent(t)?.pieces(|piece| hash.update(piece)))?;
        Ok::<_, FormatError>(hash.finalize().hex())
    };
    let (tensors, (data_sha256, whole)) = rayon::join(tensors, || rayon::join(data, || sha256(file.whole())));
    Ok(Digest {
        path: file.path().to_owned(),
        bytes: file.bytes(),
        sha256: whole?,
        metadata_sha256: Sha256::digest(gguf.header_bytes(shard)?).hex(),
        data_sha256: data_sha256?,
        tensors: tensors?,
    })
}

fn sha256(extent: Extent) -> Result<String, FormatError> {
    let mut hash = Sha256::new();
    extent.pieces(|piece| hash.update(piece))?;
    Ok(hash.finalize().hex())
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
