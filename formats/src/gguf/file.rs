//! An open GGUF: one file, or all shards of a split one.

use std::path::Path;

use super::header::{Header, MAGIC};
use super::rules::pad;
use super::split;
use super::tensors::{TensorInfo, TypeTable, resolve};
use super::value::Metadata;
use crate::error::{FormatError, Result};
use crate::source::{Extent, Source};

/// An open and checked GGUF: its metadata, its tensors and the places of their bytes.
#[derive(Debug)]
pub struct Gguf {
    first: Metadata,
    shards: Vec<Shard>,
    tensors: Vec<TensorInfo>,
}

/// One file of a GGUF.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) file: Source,
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<TensorInfo>,
    version: u32,
    alignment: u64,
    /// Byte behind the last record of the header.
    header_end: u64,
    /// Bytes before the tensor data, with padding, which a file without tensors need not have.
    header_bytes: u64,
}

impl Shard {
    pub(super) fn open(path: &Path, types: TypeTable, index: usize) -> Result<Self> {
        let file = Source::open_shard(path, index)?;
        let mut header = Header::read(&file)?;
        let metadata = std::mem::take(&mut header.metadata);
        let (version, alignment, header_end) = (header.version, header.alignment, header.end);
        let (tensors, header_bytes) = resolve(path, file.bytes(), header, types, index)?;
        Ok(Self { file, metadata, tensors, version, alignment, header_end, header_bytes })
    }

    /// Returns the byte at which another GGUF begins behind the tensor data of this file, if there is one.
    pub(super) fn follower(&self) -> Result<Option<u64>> {
        let end = self.tensors.last().map_or(self.header_end, |t| t.offset + t.bytes);
        for at in [Some(end), pad(end, self.alignment)].into_iter().flatten() {
            let mut magic = [0; MAGIC.len()];
            if at.saturating_add(magic.len() as u64) <= self.file.bytes() {
                self.file.read_at(at, &mut magic)?;
                if magic == MAGIC {
                    return Ok(Some(at));
                }
            }
        }
        Ok(None)
    }
}

impl Gguf {
    /// Opens `path`, GGUF version 2 or 3. Any shard of a split model opens all of its shards.
    ///
    /// `types` gives the size of each tensor type. Tensors must follow each other without gaps, as ggml demands; only the
    /// padding after the last one may be absent.
    ///
    /// # Errors
    /// Fails when a file cannot be read, a file breaks a rule of the format, or shards are missing or do not belong
    /// together.
    pub fn open(path: &Path, types: TypeTable) -> Result<Self> {
        let mut shards = split::open_all(Shard::open(path, types, 0)?, types)?;
        let tensors = shards.iter_mut().flat_map(|s| std::mem::take(&mut s.tensors)).collect();
        let first = shards.first_mut().map(|s| std::mem::take(&mut s.metadata)).unwrap_or_default();
        Ok(Self { first, shards, tensors })
    }

    /// Returns the metadata, which is the first shard's if there are several.
    pub fn metadata(&self) -> &Metadata {
        &self.first
    }

    /// Returns every tensor, by shard and then in file order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Returns the place of the bytes of `tensor`, one of `tensors()`.
    ///
    /// # Errors
    /// Fails when the tensor is of another file and does not fit this one.
    pub fn extent(&self, tensor: &TensorInfo) -> Result<Extent<'_>> {
        match self.shards.get(tensor.shard) {
            Some(shard) => tensor.extent(&shard.file),
            None => Err(FormatError::Invalid {
                what: format!("tensor {:?} is of shard {}", tensor.name, tensor.shard),
                hint: "ask for one of the file's own",
            }),
        }
    }

    /// Returns the bytes of `tensor`, one of `tensors()`.
    ///
    /// # Errors
    /// Fails when the tensor is of another file, or cannot be read.
    pub fn data(&self, tensor: &TensorInfo) -> Result<Vec<u8>> {
        self.extent(tensor)?.read()
    }

    /// Returns the files, in shard order.
    pub fn files(&self) -> impl ExactSizeIterator<Item = &Source> {
        self.shards.iter().map(|s| &s.file)
    }

    /// Returns the bytes of file `shard` before its tensor data, padding included.
    ///
    /// # Errors
    /// Fails when there is no such shard, or its header cannot be read.
    pub fn header_bytes(&self, shard: usize) -> Result<Vec<u8>> {
        let header = |s: &Shard| s.header_bytes.min(s.file.bytes());
        let place = self.shards.get(shard).and_then(|s| Extent::new(&s.file, 0, header(s)));
        let none = || FormatError::Invalid {
            what: format!("there is no shard number {shard}"),
            hint: "ask for one of the model's own",
        };
        place.ok_or_else(none)?.read()
    }

    /// Returns the alignment of tensor data in bytes, which is the first shard's.
    pub fn alignment(&self) -> u64 {
        self.shards.first().map_or(0, |s| s.alignment)
    }

    /// Returns the format version of the first shard, 2 or 3.
    pub fn version(&self) -> u32 {
        self.shards.first().map_or(0, |s| s.version)
    }
}
