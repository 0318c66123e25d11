//! Reading of a GGUF as a checkpoint.

use std::collections::HashMap;

use kquant_formats::gguf::{Gguf, TypeLayout};
use kquant_formats::source::Extent;
use kquant_kernels::block;

use super::{Checkpoint, ReadError, TensorInfo};

/// Returns the layout of the block type `id` for the GGUF reader, which knows no types of its own.
pub fn type_layout(id: u32) -> Option<TypeLayout> {
    let t = block::by_id(id)?;
    Some(TypeLayout { name: t.name, elements: t.elements as u64, bytes: t.bytes as u64 })
}

/// The tensors of a GGUF, single or split.
pub(super) struct GgufCheckpoint {
    gguf: Gguf,
    tensors: Vec<TensorInfo>,
    index: HashMap<String, usize>,
}

impl GgufCheckpoint {
    pub(super) fn new(gguf: Gguf) -> Self {
        let tensors: Vec<TensorInfo> = gguf
            .tensors()
            .iter()
            .map(|t| {
                let block = block::by_id(t.type_id);
                TensorInfo {
                    name: t.name.clone(),
                    shape: t.shape.iter().rev().copied().collect(),
                    dtype: block.map_or("?", |b| b.name),
                    block,
                    stored: block.map_or((1, 0), |b| (b.elements as u64, b.bytes as u64)),
                    gathered: None,
                    shard: t.shard,
                }
            })
            .collect();
        let index = tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        Self { gguf, tensors, index }
    }
}

impl Checkpoint for GgufCheckpoint {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    fn extent(&self, tensor: usize) -> Result<Extent<'_>, ReadError> {
        let stored = self.gguf.tensors().get(tensor);
        let stored = stored.ok_or_else(|| ReadError(format!("there is no tensor number {tensor}")))?;
        Ok(self.gguf.extent(stored)?)
    }

    fn decode(&self, tensor: usize, _: (u64, u64), bytes: &[u8], out: &mut [f32]) -> Result<(), ReadError> {
        let info = &self.tensors[tensor];
        let unknown = || ReadError(format!("tensor `{}` has an unknown type", info.name));
        (info.block.ok_or_else(unknown)?.decode)(bytes, out);
        Ok(())
    }
}
