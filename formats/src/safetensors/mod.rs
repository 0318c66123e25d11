//! Safetensors checkpoints: one file, or a folder of shards with an index.

mod dtype;
mod folder;
mod header;

use std::collections::BTreeMap;
use std::path::Path;

pub use dtype::Dtype;
use header::Header;

use crate::error::Result;
use crate::map::Mapped;

/// One tensor of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name, unique in the checkpoint.
    pub name: String,
    /// Type of its elements.
    pub dtype: Dtype,
    /// Dimensions, outermost first; empty for a scalar.
    pub shape: Vec<u64>,
    /// Index of its file.
    pub shard: usize,
    /// Bytes from the start of its file.
    pub offset: u64,
    /// Size in bytes.
    pub bytes: u64,
}

/// A safetensors checkpoint, memory-mapped and checked: tensors and their bytes.
#[derive(Debug)]
pub struct SafeTensors {
    files: Vec<Mapped>,
    tensors: Vec<TensorInfo>,
    metadata: BTreeMap<String, String>,
}

impl SafeTensors {
    /// Opens `path`: a safetensors file, an index, or a folder.
    ///
    /// Of a folder, `model.safetensors.index.json` decides, then `model.safetensors`, then the only file of that kind. The
    /// tensors must cover each file exactly, and be those of the index if there is one.
    ///
    /// # Errors
    /// When a file cannot be read or breaks a rule of the format, or the index and its files disagree; that error lists
    /// everything that is missing, misplaced or extra.
    pub fn open(path: &Path) -> Result<Self> {
        let found = folder::find(path)?;
        let mut checkpoint = Self { files: Vec::new(), tensors: Vec::new(), metadata: BTreeMap::new() };
        for (shard, path) in found.paths.iter().enumerate() {
            let map = Mapped::open(path)?;
            let header = Header::parse(path, map.bytes(), shard)?;
            checkpoint.files.push(map);
            checkpoint.tensors.extend(header.tensors);
            for (key, value) in header.metadata {
                checkpoint.metadata.entry(key).or_insert(value);
            }
        }
        if let Some(index) = found.index {
            index.check(&found.paths, &checkpoint.tensors)?;
        }
        Ok(checkpoint)
    }

    /// Every tensor: by file, in order of the files' names, then in file order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The bytes of tensor `index` of `tensors()`; empty if there is no such tensor.
    pub fn data(&self, index: usize) -> &[u8] {
        let range = || {
            let tensor = self.tensors.get(index)?;
            let start = usize::try_from(tensor.offset).ok()?;
            let end = start.checked_add(usize::try_from(tensor.bytes).ok()?)?;
            self.files.get(tensor.shard)?.bytes().get(start..end)
        };
        range().unwrap_or_default()
    }

    /// The files, in shard order.
    pub fn files(&self) -> &[Mapped] {
        &self.files
    }

    /// The `__metadata__` of all files; the first file's word counts where they differ.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }
}
