//! Safetensors checkpoints, read and laid out: one file, or a folder of shards with an index.

mod dtype;
mod folder;
mod header;
mod shards;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use dtype::Dtype;
use folder::Rival;
use header::Header;
pub use write::{NewTensor, Places, index, places, shard_counts, shard_name};

use crate::error::{FormatError, Result};
use crate::source::{Extent, Source};

/// One tensor of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name of the tensor, unique in the checkpoint.
    pub name: String,
    /// Type of the elements.
    pub dtype: Dtype,
    /// Dimensions, outermost first; empty for a scalar.
    pub shape: Vec<u64>,
    /// Index of the file that holds the tensor.
    pub shard: usize,
    /// Offset of the data in bytes from the start of the file.
    pub offset: u64,
    /// Size of the data in bytes.
    pub bytes: u64,
}

/// An open and checked safetensors checkpoint: its tensors and the places of their bytes.
#[derive(Debug)]
pub struct SafeTensors {
    files: Vec<Source>,
    tensors: Vec<TensorInfo>,
    metadata: BTreeMap<String, String>,
    notes: Vec<String>,
}

impl SafeTensors {
    /// Opens `path`, which is a safetensors file, an index or a folder.
    ///
    /// In a folder, `model.safetensors` is taken first, as transformers does, then the shards that
    /// `model.safetensors.index.json` lists, then all of `PREFIX-00001-of-0000N.safetensors`, then the only safetensors
    /// file. The tensors must cover each file exactly, and be those of the index if one is used.
    ///
    /// # Errors
    /// Fails when a file cannot be read or breaks a rule of the format, the index and its files disagree (that error lists
    /// every tensor and file that is missing, misplaced or extra), or a folder holds two different models under the names
    /// above.
    pub fn open(path: &Path) -> Result<Self> {
        let found = folder::find(path)?;
        let mut checkpoint = Self::of_files(&found.paths)?;
        match &found.index {
            Some(index) => index.check(&found.paths, &checkpoint.tensors)?,
            None => shards::check_once(&found.paths, &checkpoint.tensors)?,
        }
        checkpoint.notes = found.notes;
        if let Some(Rival { name, paths }) = found.rival {
            let shards = paths.and_then(|paths| Self::of_files(&paths));
            let why = match shards {
                Ok(shards) => {
                    shards::compare(path, &checkpoint.tensors, &name, &shards.tensors)?;
                    String::new()
                }
                // Shards that are not used may be malformed.
                Err(error) => format!(" ({error})"),
            };
            let used = checkpoint.files.iter().map(|f| f.path().display()).next();
            let used = used.map_or_else(String::new, |used| used.to_string());
            checkpoint.notes.push(format!("{used} is used, the shards of {name} beside it are not{why}"));
        }
        Ok(checkpoint)
    }

    /// Opens `paths` and collects their tensors, file by file.
    fn of_files(paths: &[PathBuf]) -> Result<Self> {
        let mut checkpoint =
            Self { files: Vec::new(), tensors: Vec::new(), metadata: BTreeMap::new(), notes: Vec::new() };
        for (shard, path) in paths.iter().enumerate() {
            let file = Source::open_shard(path, shard)?;
            let header = file.parse(|bytes| Header::parse(path, bytes, file.bytes(), shard))?;
            checkpoint.files.push(file);
            checkpoint.tensors.extend(header.tensors);
            for (key, value) in header.metadata {
                checkpoint.metadata.entry(key).or_insert(value);
            }
        }
        Ok(checkpoint)
    }

    /// Returns remarks for the user that are no faults: the files that were chosen where others could be meant.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Returns every tensor: in the order of the files' names, then in file order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Returns the place of the bytes of tensor `index` of `tensors()`.
    ///
    /// # Errors
    /// Fails when there is no such tensor.
    pub fn extent(&self, index: usize) -> Result<Extent<'_>> {
        let place = |t: &TensorInfo| Extent::new(self.files.get(t.shard)?, t.offset, t.bytes);
        self.tensors.get(index).and_then(place).ok_or_else(|| FormatError::Invalid {
            what: format!("there is no tensor number {index}"),
            hint: "ask for one of the checkpoint's own",
        })
    }

    /// Returns the bytes of tensor `index` of `tensors()`.
    ///
    /// # Errors
    /// Fails when there is no such tensor, or its bytes cannot be read.
    pub fn data(&self, index: usize) -> Result<Vec<u8>> {
        self.extent(index)?.read()
    }

    /// Returns the files, in shard order.
    pub fn files(&self) -> &[Source] {
        &self.files
    }

    /// Returns the `__metadata__` of all files; where files differ, the first one counts.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }
}
