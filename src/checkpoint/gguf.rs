//! A GGUF as a checkpoint.

use std::collections::HashMap;
use std::ops::Range;

use kquant_formats::gguf::{Gguf, TypeLayout};
use kquant_kernels::block;

use super::{Checkpoint, ReadError, TensorInfo, row_bytes};

/// Sizes of the block types for the GGUF reader, which knows no types of its own.
pub fn type_layout(id: u32) -> Option<TypeLayout> {
    let t = block::by_id(id)?;
    Some(TypeLayout { name: t.name, elements: t.elements as u64, bytes: t.bytes as u64 })
}

/// Tensors of a GGUF, single or split.
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
                    shard: t.shard,
                }
            })
            .collect();
        let index = tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        Self { gguf, tensors, index }
    }

    fn data(&self, tensor: usize) -> &[u8] {
        self.gguf.tensors().get(tensor).map_or(&[], |t| self.gguf.data(t))
    }
}

impl Checkpoint for GgufCheckpoint {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    fn read(&self, tensor: usize, row: u64, columns: Range<u64>, out: &mut [f32]) -> Result<(), ReadError> {
        let info = &self.tensors[tensor];
        let block =
            info.block.ok_or_else(|| ReadError(format!("tensor `{}` has an unknown type", info.name)))?;
        (block.decode)(
            row_bytes(self.data(tensor), info, (block.elements, block.bytes), row, &columns)?,
            out,
        );
        Ok(())
    }

    fn stored_rows(&self, tensor: usize, rows: Range<u64>) -> Option<&[u8]> {
        let info = self.tensors.get(tensor)?;
        let stride = info.block?.row_bytes(info.columns())?;
        self.data(tensor).get((rows.start * stride) as usize..(rows.end * stride) as usize)
    }
}
