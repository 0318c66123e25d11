//! Any input as named tensors with row-range reads.

mod gguf;
mod open;
mod safetensors;

use std::ops::Range;

use kquant_kernels::block::BlockType;

pub use gguf::type_layout;
pub use open::{OpenError, Opened, Origin, open};

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
    /// Index of the file that holds it, in the order of [`Opened::files`].
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

/// Why rows could not be read: names the tensor, what is wrong and what to do.
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

    /// The bytes of rows `rows` as stored, where they are in a GGUF type.
    fn stored_rows(&self, _tensor: usize, _rows: Range<u64>) -> Option<&[u8]> {
        None
    }
}

/// The bytes of columns `columns` of row `row` in `data`, a tensor stored in blocks of `elements` weights and `bytes` bytes.
fn row_bytes<'a>(
    data: &'a [u8],
    info: &TensorInfo,
    (elements, bytes): (usize, usize),
    row: u64,
    columns: &Range<u64>,
) -> Result<&'a [u8], ReadError> {
    let (elements, bytes) = (elements as u64, bytes as u64);
    let aligned = [info.columns(), columns.start, columns.end].iter().all(|c| c.is_multiple_of(elements));
    let slice = if aligned && row < info.rows() && columns.end <= info.columns() {
        let first = row * info.columns();
        let at = |column: u64| ((first + column) / elements * bytes) as usize;
        data.get(at(columns.start)..at(columns.end))
    } else {
        None
    };
    slice.ok_or_else(|| {
        ReadError(format!(
            "tensor `{}` {:?} ({}): cannot read columns {}..{} of row {row}",
            info.name, info.shape, info.dtype, columns.start, columns.end
        ))
    })
}
