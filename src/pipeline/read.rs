//! A unit's weights as f32, in the order of the output: stored bytes are fetched once, then decoded piece by piece.

use std::ops::Range;

use kquant_formats::source::Window;

use crate::checkpoint::{Checkpoint, ReadError};
use crate::plan::{MappedTensor, Rows, Source};

/// Rows of an output tensor as the checkpoint stores them.
pub(crate) struct Fetched<'a> {
    checkpoint: &'a dyn Checkpoint,
    tensor: &'a MappedTensor,
    /// Rows of the output.
    rows: Range<u64>,
    stored: Stored<'a>,
}

/// What was fetched of which checkpoint tensor.
enum Stored<'a> {
    /// Nothing: these are the numbers.
    Values(&'a [f32]),
    /// The same rows (`[rows]`), in the checkpoint's order: all of a head's when rows move inside heads.
    Window(usize, Window<'a>),
    /// The rows that become the output's (`[rows]`), in the output's order.
    Rows(usize, &'a [u8]),
    /// Columns `rows` of every row: `[columns][rows]`.
    Columns(usize, &'a [u8]),
}

/// Fills `out` (`[rows.len()][columns]`) with rows `rows` of the output tensor.
pub(crate) fn read_rows(
    checkpoint: &dyn Checkpoint,
    tensor: &MappedTensor,
    rows: Range<u64>,
    out: &mut [f32],
) -> Result<(), ReadError> {
    let mut buffer = Vec::new();
    Fetched::new(checkpoint, tensor, rows.clone(), &mut buffer)?.decode(rows, out)
}

/// Rows in a head, where rows of `tensor` move inside heads.
pub(super) fn head_rows(tensor: &MappedTensor) -> Option<u64> {
    match &tensor.source {
        Source::Tensor { rows: Rows::RotaryPairs { heads }, .. } if tensor.shape.len() > 1 => {
            Some((tensor.rows() / heads).max(1))
        }
        _ => None,
    }
}

/// The checkpoint tensor whose rows become the rows of `tensor` with the same numbers, perhaps in another order.
pub(super) fn row_source(tensor: &MappedTensor) -> Option<usize> {
    match &tensor.source {
        Source::Tensor { index, rows: Rows::Same | Rows::RotaryPairs { .. } } => Some(*index),
        _ => None,
    }
}

impl<'a> Fetched<'a> {
    /// Fetches what rows `rows` of `tensor` are decoded from; `buffer` holds it where it is not mapped.
    pub(crate) fn new(
        checkpoint: &'a dyn Checkpoint,
        tensor: &'a MappedTensor,
        rows: Range<u64>,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Self, ReadError> {
        let stored = match &tensor.source {
            Source::Values(values) => Stored::Values(values),
            Source::Tensor { index, rows: Rows::Transposed } => {
                Stored::Columns(*index, gather_columns(checkpoint, *index, tensor.columns(), &rows, buffer)?)
            }
            Source::Tensor { index, .. } => match head_rows(tensor) {
                Some(head) if !(rows.start.is_multiple_of(head) && rows.end.is_multiple_of(head)) => {
                    Stored::Rows(*index, gather_rows(checkpoint, *index, tensor, head, &rows, buffer)?)
                }
                _ => Stored::Window(*index, checkpoint.fetch(*index, rows.clone(), buffer)?),
            },
        };
        Ok(Self { checkpoint, tensor, rows, stored })
    }

    /// The bytes of rows `rows` as stored, where they are the output's rows in their order.
    pub(crate) fn bytes(&self, rows: &Range<u64>) -> Option<&[u8]> {
        match (&self.stored, &self.tensor.source) {
            (Stored::Window(_, window), Source::Tensor { rows: Rows::Same, .. }) => {
                let stride = window.len() / (self.rows.end - self.rows.start).max(1) as usize;
                let at = |row: u64| (row - self.rows.start) as usize * stride;
                window.get(at(rows.start)..at(rows.end))
            }
            _ => None,
        }
    }

    /// Decodes rows `rows`, some of those fetched, into `out` (`[rows.len()][columns]`).
    pub(crate) fn decode(&self, rows: Range<u64>, out: &mut [f32]) -> Result<(), ReadError> {
        let columns = self.tensor.columns();
        let within = (rows.start - self.rows.start) as usize;
        match &self.stored {
            Stored::Values(values) => {
                let from = (rows.start * columns) as usize;
                out.copy_from_slice(&values[from..from + out.len()]);
                Ok(())
            }
            Stored::Window(index, window) => self.decode_window(*index, window, rows, out),
            Stored::Rows(index, bytes) => {
                let stride = bytes.len() / (self.rows.end - self.rows.start).max(1) as usize;
                let head = head_rows(self.tensor).unwrap_or(1);
                let stored = bytes.chunks_exact(stride.max(1)).skip(within);
                for ((row, bytes), out) in rows.zip(stored).zip(out.chunks_exact_mut(columns as usize)) {
                    self.checkpoint.decode(*index, (rotary_source(row, head), 0), bytes, out)?;
                }
                Ok(())
            }
            Stored::Columns(index, bytes) => self.decode_columns(*index, bytes, rows, out),
        }
    }

    fn decode_window(
        &self,
        index: usize,
        window: &[u8],
        rows: Range<u64>,
        out: &mut [f32],
    ) -> Result<(), ReadError> {
        let columns = self.tensor.columns();
        let stride = window.len() / (self.rows.end - self.rows.start).max(1) as usize;
        let at = |row: u64| (row - self.rows.start) as usize * stride;
        match &self.tensor.source {
            Source::Tensor { rows: Rows::RotaryPairs { heads }, .. } if self.tensor.shape.len() == 1 => {
                // A bias: one row whose elements are the rows of the permutation.
                let mut stored = vec![0.0; out.len()];
                self.checkpoint.decode(index, (0, 0), window, &mut stored)?;
                for (row, value) in out.iter_mut().enumerate() {
                    *value = stored[rotary_source(row as u64, columns / heads) as usize];
                }
                Ok(())
            }
            Source::Tensor { rows: Rows::RotaryPairs { heads }, .. } => {
                let head = self.tensor.rows() / heads;
                for (row, out) in rows.zip(out.chunks_exact_mut(columns as usize)) {
                    let from = rotary_source(row, head);
                    self.checkpoint.decode(index, (from, 0), &window[at(from)..at(from + 1)], out)?;
                }
                Ok(())
            }
            _ => self.checkpoint.decode(index, (rows.start, 0), &window[at(rows.start)..at(rows.end)], out),
        }
    }

    /// Output rows are input columns: every input row is visited for the few columns wanted.
    fn decode_columns(
        &self,
        index: usize,
        bytes: &[u8],
        rows: Range<u64>,
        out: &mut [f32],
    ) -> Result<(), ReadError> {
        let (columns, fetched) = (self.tensor.columns() as usize, (self.rows.end - self.rows.start) as usize);
        let (first, wanted) = ((rows.start - self.rows.start) as usize, (rows.end - rows.start) as usize);
        let stride = bytes.len() / columns.max(1);
        let part = stride / fetched.max(1);
        let mut values = vec![0.0; wanted];
        for (column, bytes) in bytes.chunks_exact(stride.max(1)).enumerate() {
            let bytes = &bytes[first * part..][..wanted * part];
            self.checkpoint.decode(index, (column as u64, rows.start), bytes, &mut values)?;
            for (row, &value) in values.iter().enumerate() {
                out[row * columns + column] = value;
            }
        }
        Ok(())
    }
}

/// A buffer of exactly `bytes` bytes in `buffer`, which grows as needed.
fn part_of(buffer: &mut Vec<u8>, bytes: u64) -> &mut [u8] {
    let bytes = bytes as usize;
    if buffer.len() < bytes {
        buffer.resize(bytes, 0);
    }
    &mut buffer[..bytes]
}

/// Rows of a few heads in part, in the order of the output.
fn gather_rows<'b>(
    checkpoint: &dyn Checkpoint,
    index: usize,
    tensor: &MappedTensor,
    head: u64,
    rows: &Range<u64>,
    buffer: &'b mut Vec<u8>,
) -> Result<&'b [u8], ReadError> {
    let columns = tensor.columns();
    let stride = checkpoint.stored_bytes(index, columns)?;
    let out = part_of(buffer, stride * (rows.end - rows.start));
    for (row, out) in rows.clone().zip(out.chunks_exact_mut(stride.max(1) as usize)) {
        checkpoint.fetch_columns(index, rotary_source(row, head), 0..columns, out)?;
    }
    Ok(out)
}

/// Columns `columns` of all `rows` rows.
///
/// They are copied, never mapped: the pages around a few columns of each row are the whole tensor.
fn gather_columns<'b>(
    checkpoint: &dyn Checkpoint,
    index: usize,
    rows: u64,
    columns: &Range<u64>,
    buffer: &'b mut Vec<u8>,
) -> Result<&'b [u8], ReadError> {
    let stride = checkpoint.stored_bytes(index, columns.end - columns.start)?;
    let out = part_of(buffer, stride * rows);
    for (row, out) in (0..rows).zip(out.chunks_exact_mut(stride.max(1) as usize)) {
        checkpoint.fetch_columns(index, row, columns.clone(), out)?;
    }
    Ok(out)
}

/// Row of the split-half layout that becomes row `row` of the paired layout, for heads of `head_rows` rows.
fn rotary_source(row: u64, head_rows: u64) -> u64 {
    let (head, within) = (row / head_rows, row % head_rows);
    head * head_rows + (within % 2) * (head_rows / 2) + within / 2
}

/// Row and column of the first weight that is NaN or infinite; `first_row` is the number of the first row in `weights`.
pub(crate) fn first_non_finite(weights: &[f32], columns: u64, first_row: u64) -> Option<(u64, u64, f32)> {
    // Sums tell of a block whether to look closer: those of the exponents' highest bits become vector instructions.
    const BLOCK: usize = 1024;
    const EXPONENT: u32 = 0x7f80_0000;
    let odd = |w: &f32| u32::from(w.to_bits() & EXPONENT == EXPONENT);
    let block = weights.chunks(BLOCK).position(|block| block.iter().map(odd).sum::<u32>() > 0)?;
    let at = block * BLOCK + weights[block * BLOCK..].iter().position(|w| !w.is_finite())?;
    Some((first_row + at as u64 / columns, at as u64 % columns, weights[at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotary_pairs_interleave_the_halves_of_each_head() {
        let order: Vec<u64> = (0..12).map(|row| rotary_source(row, 6)).collect();
        assert_eq!(order, [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
    }

    #[test]
    fn non_finite_weights_are_located() {
        let mut weights = vec![f32::MAX; 4004];
        assert_eq!(first_non_finite(&weights, 4, 10), None);
        for (at, value) in [(4003, f32::INFINITY), (1500, f32::INFINITY), (6, f32::NEG_INFINITY)] {
            weights[at] = value;
            assert_eq!(first_non_finite(&weights, 4, 10), Some((10 + at as u64 / 4, at as u64 % 4, value)));
        }
        weights[0] = f32::NAN;
        assert!(matches!(first_non_finite(&weights, 4, 10), Some((10, 0, v)) if v.is_nan()));
    }
}
