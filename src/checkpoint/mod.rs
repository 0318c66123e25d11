//! Any input as named tensors with row-range reads.

use std::ops::Range;

use kquant_kernels::block::BlockType;

/// A tensor as the checkpoint stores it.
#[derive(Debug, Clone)]
pub struct TensorInfo {
    /// Name in the checkpoint's own convention.
    pub name: String,
    /// Dimensions, outermost first (`[rows, columns]`): the order of safetensors, the reverse of GGUF's `ne`.
    pub shape: Vec<u64>,
    /// Stored type, as a name to print (`BF16`, `F8_E4M3`, `Q8_0`).
    pub dtype: &'static str,
    /// The GGUF type with the same bytes, where there is one (F8 has none).
    pub block: Option<&'static BlockType>,
    /// Index of the file that holds it, in `Checkpoint::files` order.
    pub shard: usize,
}

impl TensorInfo {
    /// Length of a row: the last dimension, 1 for a scalar.
    pub fn columns(&self) -> u64 {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Number of rows: the product of all dimensions but the last.
    pub fn rows(&self) -> u64 {
        self.shape.split_last().map_or(1, |(_, outer)| outer.iter().product())
    }
}

/// Why a checkpoint could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ReadError(pub String);

/// Named tensors, memory-mapped.
pub trait Checkpoint: Send + Sync {
    /// Every tensor, in file order.
    fn tensors(&self) -> &[TensorInfo];

    /// Index of the tensor called `name`.
    fn find(&self, name: &str) -> Option<usize>;

    /// Decodes columns `columns` of row `row` of tensor `tensor` into `out` (`[columns.len()]`).
    ///
    /// Block types want `columns` on block boundaries; plain types take any range.
    ///
    /// # Errors
    /// When a range is out of bounds or off a block boundary.
    fn read(&self, tensor: usize, row: u64, columns: Range<u64>, out: &mut [f32]) -> Result<(), ReadError>;
}
