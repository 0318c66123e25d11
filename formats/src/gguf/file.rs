//! An open GGUF: one file or all shards of a split one.

use std::path::Path;

use super::header::Header;
use super::split;
use super::tensors::{TensorInfo, TypeTable, resolve};
use super::value::Metadata;
use crate::error::Result;
use crate::map::Mapped;

/// A GGUF, memory-mapped and checked: metadata, tensors and their bytes.
#[derive(Debug)]
pub struct Gguf {
    first: Metadata,
    shards: Vec<Shard>,
    tensors: Vec<TensorInfo>,
}

/// One file of it.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) map: Mapped,
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<TensorInfo>,
    version: u32,
    alignment: u64,
    header_bytes: u64,
}

impl Shard {
    pub(super) fn open(path: &Path, types: TypeTable, index: usize) -> Result<Self> {
        let map = Mapped::open(path)?;
        let mut header = Header::parse(path, map.bytes())?;
        let metadata = std::mem::take(&mut header.metadata);
        let (version, alignment) = (header.version, header.alignment);
        let (tensors, header_bytes) = resolve(path, map.bytes().len() as u64, header, types, index)?;
        Ok(Self { map, metadata, tensors, version, alignment, header_bytes })
    }
}

impl Gguf {
    /// Opens `path`, GGUF version 2 or 3; given any shard of a split model, opens them all.
    ///
    /// `types` tells the size of each tensor type. Tensors must follow each other without gaps, as ggml demands; only the
    /// padding after the last one may be absent.
    ///
    /// # Errors
    /// When a file cannot be read, breaks a rule of the format, or shards are missing or do not belong together.
    pub fn open(path: &Path, types: TypeTable) -> Result<Self> {
        let mut shards = split::open_all(Shard::open(path, types, 0)?, types)?;
        let tensors = shards.iter_mut().flat_map(|s| std::mem::take(&mut s.tensors)).collect();
        let first = shards.first_mut().map(|s| std::mem::take(&mut s.metadata)).unwrap_or_default();
        Ok(Self { first, shards, tensors })
    }

    /// The metadata, of the first shard if there are several.
    pub fn metadata(&self) -> &Metadata {
        &self.first
    }

    /// Every tensor: by shard, then in file order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The bytes of `tensor`, one of `tensors()`; empty for a tensor of another file that does not fit this one.
    pub fn data(&self, tensor: &TensorInfo) -> &[u8] {
        let range = || {
            let start = usize::try_from(tensor.offset).ok()?;
            let end = start.checked_add(usize::try_from(tensor.bytes).ok()?)?;
            self.shards.get(tensor.shard)?.map.bytes().get(start..end)
        };
        range().unwrap_or_default()
    }

    /// The files, in shard order.
    pub fn files(&self) -> impl ExactSizeIterator<Item = &Mapped> {
        self.shards.iter().map(|s| &s.map)
    }

    /// The bytes of file `shard` before its tensor data, padding included; empty if there is no such shard.
    pub fn header_bytes(&self, shard: usize) -> &[u8] {
        let header = |s: &'_ Shard| usize::try_from(s.header_bytes).unwrap_or(usize::MAX);
        self.shards.get(shard).and_then(|s| s.map.bytes().get(..header(s))).unwrap_or_default()
    }

    /// Alignment of the tensor data in bytes, of the first shard.
    pub fn alignment(&self) -> u64 {
        self.shards.first().map_or(0, |s| s.alignment)
    }

    /// Version of the format, of the first shard: 2 or 3.
    pub fn version(&self) -> u32 {
        self.shards.first().map_or(0, |s| s.version)
    }
}
