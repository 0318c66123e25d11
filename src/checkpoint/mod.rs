//! Checkpoints: any input as named tensors whose ranges of rows can be read.

mod absent;
#[cfg(test)]
#[path = "../../tests/it/support/archs.rs"]
pub(crate) mod archs;
mod dense;
mod foreign;
mod gguf;
mod mxfp4;
mod open;
mod quantized;
mod safetensors;

use std::ops::Range;

use kquant_formats::FormatError;
use kquant_formats::source::Extent;
use kquant_kernels::block::BlockType;

pub(crate) use dense::is_dense;
pub use gguf::type_layout;
pub use open::{OpenError, Opened, Origin, open};
pub use quantized::Quantization;

/// A tensor as the checkpoint stores it.
#[derive(Debug, Clone)]
pub struct TensorInfo {
    /// Name in the checkpoint's own convention.
    pub name: String,
    /// Dimensions, outermost first (`[rows, columns]`): the order of safetensors, the reverse of GGUF's `ne`.
    pub shape: Vec<u64>,
    /// Name of the stored type, as printed (`BF16`, `F8_E4M3`, `Q8_0`).
    pub dtype: &'static str,
    /// The GGUF type with the same bytes, if there is one (F8 has none).
    pub block: Option<&'static BlockType>,
    /// Numbers of weights and of bytes that are stored together: those of a block, or of one number.
    pub stored: (u64, u64),
    /// Present for weights whose rows are not in one place of the file.
    pub gathered: Option<Gathered>,
    /// Index of the file that holds the tensor, in the order of [`Opened::files`].
    pub shard: usize,
}

/// The properties of rows that are gathered from several places of a file.
#[derive(Debug, Clone, Copy)]
pub struct Gathered {
    /// Number of rows that are best gathered at once, because reading one of them reads pages that hold parts of all.
    pub together: u64,
    /// The GGUF type that keeps the precision of the weights if they are not quantized again.
    pub plain: Option<&'static BlockType>,
}

impl TensorInfo {
    /// Returns the length of a row: the last dimension, or 1 for a scalar.
    pub fn columns(&self) -> u64 {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Returns the number of rows: the product of all dimensions but the last.
    pub fn rows(&self) -> u64 {
        self.shape.split_last().map_or(1, |(_, outer)| outer.iter().product())
    }

    /// Returns the number of bytes that `weights` weights are stored in; `None` when they are not a whole number of
    /// blocks or the size overflows.
    pub fn stored_bytes(&self, weights: u64) -> Option<u64> {
        let (elements, bytes) = self.stored;
        if elements == 0 || !weights.is_multiple_of(elements) {
            return None;
        }
        (weights / elements).checked_mul(bytes)
    }

    fn unreadable(&self, what: std::fmt::Arguments) -> ReadError {
        ReadError(format!("tensor `{}` {:?} ({}): cannot read {what}", self.name, self.shape, self.dtype))
    }
}

/// The reason why rows could not be read: it names the tensor, what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ReadError(pub String);

impl From<FormatError> for ReadError {
    fn from(error: FormatError) -> Self {
        Self(error.to_string())
    }
}

/// A set of named tensors in files.
///
/// Reading weights has two steps, fetching their stored bytes and decoding these, so that bytes can be fetched once, and
/// ahead of their use, and decoded in pieces that stay in the processor's cache.
pub trait Checkpoint: Send + Sync {
    /// Returns all tensors, in file order.
    fn tensors(&self) -> &[TensorInfo];

    /// Returns the index of the tensor called `name`.
    fn find(&self, name: &str) -> Option<usize>;

    /// Returns the place of the bytes of tensor `tensor`.
    ///
    /// # Errors
    /// Fails when there is no such tensor.
    fn extent(&self, tensor: usize) -> Result<Extent<'_>, ReadError>;

    /// Decodes `bytes`, stored weights of tensor `tensor`, into `out`, which has as many elements: columns from `at.1` of
    /// row `at.0` on and, when that row ends, whole rows after it.
    ///
    /// # Errors
    /// Fails when the type cannot be read.
    fn decode(&self, tensor: usize, at: (u64, u64), bytes: &[u8], out: &mut [f32]) -> Result<(), ReadError>;

    /// Converts the weights that [`decode`](Checkpoint::decode) would decode to blocks of the tensor's GGUF type, which
    /// fill `out` exactly; only for tensors that have such a type.
    ///
    /// # Errors
    /// Fails when other data that belong to the bytes cannot be read.
    fn to_blocks(
        &self,
        _tensor: usize,
        _at: (u64, u64),
        bytes: &[u8],
        out: &mut [u8],
    ) -> Result<(), ReadError> {
        out.copy_from_slice(bytes);
        Ok(())
    }

    /// Gathers the stored bytes of rows `rows` of tensor `tensor` into `out`; only for tensors that are
    /// [`gathered`](TensorInfo::gathered).
    ///
    /// # Errors
    /// Fails when the file cannot be read.
    fn gather(&self, tensor: usize, _rows: Range<u64>, _out: &mut [u8]) -> Result<(), ReadError> {
        Err(ReadError(format!("rows of tensor number {tensor} are not gathered")))
    }
}

/// Returns the range of bytes of rows `rows` of a tensor, counted from the tensor's start.
fn row_range(info: &TensorInfo, rows: &Range<u64>) -> Result<Range<u64>, ReadError> {
    let stride =
        info.stored_bytes(info.columns()).filter(|_| rows.start <= rows.end && rows.end <= info.rows());
    let stride =
        stride.ok_or_else(|| info.unreadable(format_args!("rows {} to {}", rows.start, rows.end)))?;
    // The rows are inside the tensor, whose size is known not to overflow.
    Ok(rows.start * stride..rows.end * stride)
}

impl dyn Checkpoint + '_ {
    /// Returns the description of tensor `tensor`.
    fn info(&self, tensor: usize) -> Result<&TensorInfo, ReadError> {
        self.tensors().get(tensor).ok_or_else(|| ReadError(format!("there is no tensor number {tensor}")))
    }

    /// Returns the number of bytes that `weights` weights of tensor `tensor` are stored in.
    ///
    /// # Errors
    /// Fails when they are not a whole number of blocks.
    pub fn stored_bytes(&self, tensor: usize, weights: u64) -> Result<u64, ReadError> {
        let info = self.info(tensor)?;
        info.stored_bytes(weights).ok_or_else(|| info.unreadable(format_args!("{weights} weights at once")))
    }

    /// Returns the stored bytes of rows `rows` of tensor `tensor`, read into `buffer`.
    ///
    /// # Errors
    /// Fails when a row is out of bounds or not a whole number of blocks, or when the file cannot be read.
    pub fn fetch<'b>(
        &self,
        tensor: usize,
        rows: Range<u64>,
        buffer: &'b mut Vec<u8>,
    ) -> Result<&'b [u8], ReadError> {
        let info = self.info(tensor)?;
        let range = row_range(info, &rows)?;
        if info.gathered.is_some() {
            let bytes = (range.end - range.start) as usize;
            if buffer.len() < bytes {
                buffer.resize(bytes, 0);
            }
            let out = &mut buffer[..bytes];
            self.gather(tensor, rows, out)?;
            return Ok(out);
        }
        Ok(self.extent(tensor)?.window(range, buffer)?)
    }

    /// Copies the stored bytes of rows `rows` of tensor `tensor` into `out`.
    ///
    /// # Errors
    /// Fails as `fetch` does.
    pub fn fetch_rows(&self, tensor: usize, rows: Range<u64>, out: &mut [u8]) -> Result<(), ReadError> {
        let info = self.info(tensor)?;
        let range = row_range(info, &rows)?;
        match info.gathered {
            Some(_) if out.len() as u64 == range.end - range.start => self.gather(tensor, rows, out),
            _ => Ok(self.extent(tensor)?.read_at(range.start, out)?),
        }
    }

    /// Copies the stored bytes of columns `columns` of row `row` of tensor `tensor` into `out`.
    ///
    /// # Errors
    /// Fails when the columns are out of bounds or off a block's boundary, or when the file cannot be read.
    pub fn fetch_columns(
        &self,
        tensor: usize,
        row: u64,
        columns: Range<u64>,
        out: &mut [u8],
    ) -> Result<(), ReadError> {
        let info = self.info(tensor)?;
        if info.gathered.is_some() && columns == (0..info.columns()) {
            return self.fetch_rows(tensor, row..row + 1, out);
        }
        if info.gathered.is_some() {
            return Err(info.unreadable(format_args!("a part of row {row}")));
        }
        let first = row_range(info, &(row..row + 1))?.start;
        let at = |column: u64| info.stored_bytes(column).filter(|_| columns.end <= info.columns());
        let place = at(columns.start)
            .zip(at(columns.end))
            .filter(|(from, to)| to.checked_sub(*from) == Some(out.len() as u64));
        let (from, _) = place.ok_or_else(|| {
            info.unreadable(format_args!("columns {} to {} of row {row}", columns.start, columns.end))
        })?;
        Ok(self.extent(tensor)?.read_at(first + from, out)?)
    }

    /// Announces to the system that rows `rows` of tensor `tensor` will be read soon.
    pub fn will_need(&self, tensor: usize, rows: Range<u64>) {
        let Ok(info) = self.info(tensor) else { return };
        let Ok(extent) = self.extent(tensor) else { return };
        if info.gathered.is_some() {
            // Gathered rows need pages of the whole tensor, whichever rows they are.
            if rows.start == 0 {
                extent.will_need(0..extent.bytes());
            }
        } else if let Ok(range) = row_range(info, &rows) {
            extent.will_need(range);
        }
    }
}
