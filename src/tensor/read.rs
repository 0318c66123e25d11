//! Reading of a unit's weights as f32, in the order of the output: stored bytes are fetched once, then decoded piece by
//! piece.

use std::ops::Range;

use crate::checkpoint::{Checkpoint, ReadError};
use crate::encode::first_where;
use crate::tensor::rates::rate;
use crate::tensor::{MappedTensor, Replaced, RowFactors, RowOrder, Selection, Source, Stash};

/// Rows of an output tensor, all in one matrix, in the form in which the checkpoint stores them.
pub(crate) struct Fetched<'a> {
    checkpoint: &'a dyn Checkpoint,
    tensor: &'a MappedTensor,
    /// Numbers of the rows in the output tensor.
    rows: Range<u64>,
    stored: Stored<'a>,
}

/// The fetched part of a checkpoint tensor.
enum Stored<'a> {
    /// The weights are numbers in memory; nothing is fetched.
    Values(&'a [f32]),
    /// The weights of the rows `[rows][columns]`, decoded already.
    Taken(Vec<f32>),
    /// Neighbouring rows of the checkpoint tensor, in its order.
    Window(Span, &'a [u8]),
    /// The bytes of the rows `[rows]` that become the output's, in the output's order.
    Rows(&'a [u8]),
    /// All of a bias whose elements are rearranged.
    Elements(usize, RowOrder, &'a [u8]),
    /// The bytes of some columns of every input row that becomes a column, `[columns][...]`.
    Columns(Columns, &'a [u8]),
    /// The decoded values of these columns, for a tensor whose rows can only be read whole.
    Decoded(Columns, Vec<f32>),
}

/// A run of neighbouring rows of a checkpoint tensor.
pub(crate) struct Span {
    pub(crate) index: usize,
    pub(crate) rows: Range<u64>,
    /// True if the rows are in the order of the output.
    in_order: bool,
}

/// The place of the rows of a transposed matrix in the checkpoint tensor.
#[derive(Clone, Copy)]
struct Columns {
    index: usize,
    /// Input row of the first output column.
    row: u64,
    /// Input column of the first output row fetched.
    column: u64,
    /// Number of input columns from one output row to the next.
    step: u64,
}

/// Fills `out` (`[rows.len()][columns]`) with rows `rows` of the output tensor.
pub(crate) fn read_rows(
    checkpoint: &dyn Checkpoint,
    tensor: &MappedTensor,
    rows: Range<u64>,
    out: &mut [f32],
) -> Result<(), ReadError> {
    let (per_matrix, columns) = (tensor.rows_per_matrix().max(1), tensor.columns());
    let (mut start, mut out, mut buffer) = (rows.start, out, Vec::new());
    while start < rows.end {
        let end = rows.end.min((start / per_matrix + 1) * per_matrix);
        let (part, rest) = out.split_at_mut(((end - start) * columns) as usize);
        Fetched::new(checkpoint, tensor, start..end, &mut buffer)?.decode(start..end, part)?;
        (start, out) = (end, rest);
    }
    Ok(())
}

/// Returns rows `rows` of `of`, `[rows][columns]`, times the factors of their numbers.
fn scaled(
    checkpoint: &dyn Checkpoint,
    of: &MappedTensor,
    factors: &[RowFactors],
    rows: &Range<u64>,
) -> Result<Vec<f32>, ReadError> {
    let columns = of.columns() as usize;
    let mut out = vec![0.0; (rows.end - rows.start) as usize * columns];
    read_rows(checkpoint, of, rows.clone(), &mut out)?;
    for (row, out) in rows.clone().zip(out.chunks_exact_mut(columns.max(1))) {
        let own = factors.iter().filter(|factors| factors.rows.contains(&row));
        for factor in own.flat_map(|factors| &factors.by) {
            out.iter_mut().for_each(|weight| *weight *= factor);
        }
    }
    Ok(out)
}

/// Returns the number of rows in a head; `None` if the rows of `tensor` are not rearranged inside heads.
pub(crate) fn head_rows(tensor: &MappedTensor) -> Option<u64> {
    match &tensor.source {
        Source::Tensor { rows: RowOrder::RotaryPairs { heads }, .. } if !tensor.is_bias() => {
            Some((tensor.rows() / heads).max(1))
        }
        _ => None,
    }
}

/// Returns the index of the checkpoint tensor and the row there that output row `row` is made of; `None` if rows do not
/// stay rows.
fn source_row(tensor: &MappedTensor, row: u64) -> Option<(usize, u64)> {
    match &tensor.source {
        Source::Shifted { index, .. } => Some((*index, row)),
        _ => tensor.stored_row(row),
    }
}

/// Returns the run of input rows that the output rows `rows` are made of; `None` if they are not neighbours.
pub(crate) fn span(tensor: &MappedTensor, rows: &Range<u64>) -> Option<Span> {
    let (index, first) = source_row(tensor, rows.start)?;
    let (mut low, mut high, mut in_order) = (first, first, true);
    for (row, expected) in rows.clone().zip(first..) {
        let (other, from) = source_row(tensor, row)?;
        if other != index {
            return None;
        }
        (low, high) = (low.min(from), high.max(from));
        in_order &= from == expected;
    }
    let all = high - low + 1 == rows.end - rows.start;
    all.then_some(Span { index, rows: low..high + 1, in_order })
}

impl<'a> Fetched<'a> {
    /// Fetches what rows `rows` of `tensor` are decoded from; `buffer` holds the bytes if they are not mapped.
    pub(crate) fn new(
        checkpoint: &'a dyn Checkpoint,
        tensor: &'a MappedTensor,
        rows: Range<u64>,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Self, ReadError> {
        let stored = match &tensor.source {
            Source::Values(values) => Stored::Values(values),
            &Source::Tensor { index, rows: RowOrder::Transposed { stride, skip, first, step } } => {
                let per_matrix = tensor.rows_per_matrix().max(1);
                let row = rows.start / per_matrix * stride + skip;
                let at = Columns { index, row, column: first + rows.start % per_matrix * step, step };
                match checkpoint.tensors().get(index).and_then(|info| info.gathered) {
                    Some(_) => {
                        Stored::Decoded(at, decode_whole(checkpoint, at, tensor.columns(), &rows, buffer)?)
                    }
                    None => {
                        Stored::Columns(at, gather_columns(checkpoint, at, tensor.columns(), &rows, buffer)?)
                    }
                }
            }
            &Source::Tensor { index, rows: RowOrder::Flat } => {
                Stored::Taken(flat(checkpoint, index, tensor.columns(), &rows, buffer)?)
            }
            &Source::Tensor { index, rows: order } if order != RowOrder::Same && tensor.is_bias() => {
                let all = checkpoint.tensors().get(index).map_or(0, |info| info.rows());
                Stored::Elements(index, order, checkpoint.fetch(index, 0..all, buffer)?)
            }
            Source::Rates { of } => Stored::Taken(rates(checkpoint, of, &rows)?),
            Source::Scaled { of, factors } => Stored::Taken(scaled(checkpoint, of, factors, &rows)?),
            Source::Changed { stash, name } => Stored::Taken(changed(tensor, stash, name, &rows)?),
            Source::Selected { of, selection } if source_row(tensor, rows.start).is_none() => {
                Stored::Taken(taken(checkpoint, of, selection, &rows)?)
            }
            _ => match span(tensor, &rows) {
                Some(span) => {
                    let window = checkpoint.fetch(span.index, span.rows.clone(), buffer)?;
                    Stored::Window(span, window)
                }
                None => Stored::Rows(gather_rows(checkpoint, tensor, &rows, buffer)?),
            },
        };
        Ok(Self { checkpoint, tensor, rows, stored })
    }

    /// Copies rows `rows`, some of those fetched, into `out` as blocks of the checkpoint tensor's type.
    pub(crate) fn copy(&self, rows: Range<u64>, out: &mut [u8]) -> Result<(), ReadError> {
        if let Stored::Window(Span { index, in_order: true, .. }, _) = &self.stored {
            let (_, from) = self.source(rows.start)?;
            return self.checkpoint.to_blocks(*index, (from, 0), self.bytes(&rows)?, out);
        }
        let row_bytes = out.len() / (rows.end - rows.start).max(1) as usize;
        for (row, out) in rows.zip(out.chunks_exact_mut(row_bytes.max(1))) {
            let (index, from) = self.source(row)?;
            self.checkpoint.to_blocks(index, (from, 0), self.bytes(&(row..row + 1))?, out)?;
        }
        Ok(())
    }

    /// Decodes rows `rows`, some of those fetched, into `out` (`[rows.len()][columns]`).
    pub(crate) fn decode(&self, rows: Range<u64>, out: &mut [f32]) -> Result<(), ReadError> {
        let columns = self.tensor.columns();
        match &self.stored {
            Stored::Values(values) => {
                let from = (rows.start * columns) as usize;
                out.copy_from_slice(&values[from..from + out.len()]);
            }
            Stored::Taken(values) => {
                let from = ((rows.start - self.rows.start) * columns) as usize;
                out.copy_from_slice(&values[from..from + out.len()]);
            }
            Stored::Window(Span { index, in_order: true, .. }, _) => {
                let (_, from) = self.source(rows.start)?;
                self.checkpoint.decode(*index, (from, 0), self.bytes(&rows)?, out)?;
            }
            Stored::Window(..) | Stored::Rows(_) => {
                for (row, out) in rows.zip(out.chunks_exact_mut(columns as usize)) {
                    let (index, from) = self.source(row)?;
                    self.checkpoint.decode(index, (from, 0), self.bytes(&(row..row + 1))?, out)?;
                }
            }
            Stored::Elements(index, order, bytes) => self.decode_elements(*index, order, bytes, rows, out)?,
            Stored::Columns(at, bytes) => {
                let decode = |place: (u64, u64), piece: Range<usize>, values: &mut [f32]| {
                    let part = bytes.len() / self.fetched_columns(*at).max(1);
                    let piece = &bytes[piece.start * part..piece.end * part];
                    self.checkpoint.decode(at.index, place, piece, values)
                };
                self.turn_columns(*at, rows, out, decode)?;
            }
            Stored::Decoded(at, all) => {
                let copy = |_, piece: Range<usize>, values: &mut [f32]| {
                    values.copy_from_slice(&all[piece]);
                    Ok(())
                };
                self.turn_columns(*at, rows, out, copy)?;
            }
        }
        if let Source::Shifted { by, .. } = &self.tensor.source {
            out.iter_mut().for_each(|weight| *weight += by);
        }
        Ok(())
    }

    fn source(&self, row: u64) -> Result<(usize, u64), ReadError> {
        source_row(self.tensor, row).ok_or_else(|| self.missing(format_args!("row {row}")))
    }

    fn missing(&self, what: std::fmt::Arguments) -> ReadError {
        ReadError(format!("tensor `{}`: {what} is in no tensor of the checkpoint", self.tensor.name))
    }

    /// Returns the stored bytes of rows `rows`, which are one row or rows in the order of the output.
    fn bytes(&self, rows: &Range<u64>) -> Result<&[u8], ReadError> {
        let (bytes, first): (&[u8], u64) = match &self.stored {
            Stored::Window(span, window) => (window, self.source(rows.start)?.1 - span.rows.start),
            Stored::Rows(bytes) => (bytes, rows.start - self.rows.start),
            _ => (&[], 0),
        };
        let stride = bytes.len() / (self.rows.end - self.rows.start).max(1) as usize;
        let from = first as usize * stride;
        let found = bytes.get(from..from + (rows.end - rows.start) as usize * stride);
        found.ok_or_else(|| self.missing(format_args!("row {}", rows.start)))
    }

    /// Decodes a bias, whose elements are rearranged as rows are.
    fn decode_elements(
        &self,
        index: usize,
        order: &RowOrder,
        bytes: &[u8],
        rows: Range<u64>,
        out: &mut [f32],
    ) -> Result<(), ReadError> {
        let info = &self.checkpoint.tensors()[index];
        let mut stored = vec![0.0; (info.rows() * info.columns()) as usize];
        self.checkpoint.decode(index, (0, 0), bytes, &mut stored)?;
        for (element, value) in (rows.start * self.tensor.columns()..).zip(out) {
            let from =
                order.source(element, self.tensor.weights()).and_then(|from| stored.get(from as usize));
            *value = *from.ok_or_else(|| self.missing(format_args!("element {element}")))?;
        }
        Ok(())
    }

    /// Returns how many numbers were fetched from each input row for the transposed matrix at `at`.
    fn fetched_columns(&self, at: Columns) -> usize {
        (at.width(&self.rows) * self.tensor.columns()) as usize
    }

    /// Transposes: output rows are input columns, so every input row is visited for the few columns wanted.
    ///
    /// `decode` takes the row and column of the input to start at and a range of the numbers fetched, and writes these as
    /// f32.
    fn turn_columns(
        &self,
        at: Columns,
        rows: Range<u64>,
        out: &mut [f32],
        decode: impl Fn((u64, u64), Range<usize>, &mut [f32]) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let columns = self.tensor.columns() as usize;
        let (fetched, wanted) = (at.width(&self.rows) as usize, at.width(&rows) as usize);
        let first = (rows.start - self.rows.start) * at.step;
        let mut values = vec![0.0; wanted];
        for column in 0..columns {
            let from = column * fetched + first as usize;
            decode((at.row + column as u64, at.column + first), from..from + wanted, &mut values)?;
            for (row, &value) in values.iter().step_by(at.step as usize).enumerate() {
                out[row * columns + column] = value;
            }
        }
        Ok(())
    }
}

impl Columns {
    /// Returns the number of input columns from the first to the last of those that become rows `rows`.
    fn width(self, rows: &Range<u64>) -> u64 {
        ((rows.end - rows.start).max(1) - 1) * self.step + 1
    }
}

/// Returns the first `bytes` bytes of `buffer`, which grows as needed.
fn part_of(buffer: &mut Vec<u8>, bytes: u64) -> &mut [u8] {
    let bytes = bytes as usize;
    if buffer.len() < bytes {
        buffer.resize(bytes, 0);
    }
    &mut buffer[..bytes]
}

/// Returns the changed weights of rows `rows`, `[rows.len()][columns]`.
fn changed(
    tensor: &MappedTensor,
    stash: &Stash,
    name: &str,
    rows: &Range<u64>,
) -> Result<Vec<f32>, ReadError> {
    let mut out = vec![0.0; ((rows.end - rows.start) * tensor.columns()) as usize];
    match Replaced::rows(stash, name, rows.start, &mut out) {
        Some(read) => read.map(|()| out).map_err(|e| ReadError(e.to_string())),
        None => Err(ReadError(format!("tensor `{}`: row {} was not changed", tensor.name, rows.start))),
    }
}

/// Returns rows `rows` of the matrix of `columns` columns that the vector `index` is cut into.
fn flat(
    checkpoint: &dyn Checkpoint,
    index: usize,
    columns: u64,
    rows: &Range<u64>,
    buffer: &mut Vec<u8>,
) -> Result<Vec<f32>, ReadError> {
    let length = checkpoint.tensors().get(index).map_or(0, |info| info.shape.iter().product::<u64>());
    let bytes = checkpoint.fetch(index, 0..1, buffer)?;
    let mut all = vec![0.0; length as usize];
    checkpoint.decode(index, (0, 0), bytes, &mut all)?;
    let part = all.get((rows.start * columns) as usize..(rows.end * columns) as usize);
    let part = part.ok_or_else(|| ReadError(format!("a vector of {length} has no row {}", rows.end)))?;
    Ok(part.to_vec())
}

/// Returns rows `rows` of the rates whose logarithms `of` holds, `[rows.len()][columns]`.
fn rates(checkpoint: &dyn Checkpoint, of: &MappedTensor, rows: &Range<u64>) -> Result<Vec<f32>, ReadError> {
    let mut out = vec![0.0; ((rows.end - rows.start) * of.columns()) as usize];
    read_rows(checkpoint, of, rows.clone(), &mut out)?;
    out.iter_mut().for_each(|value| *value = rate(*value));
    Ok(out)
}

/// Returns rows `rows` of what `selection` takes of `of`, `[rows.len()][columns]`.
fn taken(
    checkpoint: &dyn Checkpoint,
    of: &MappedTensor,
    selection: &Selection,
    rows: &Range<u64>,
) -> Result<Vec<f32>, ReadError> {
    let whole = of.columns() as usize;
    let missing = |what: &str, at: u64| ReadError(format!("tensor `{}` has no {what} {at}", of.name));
    let from = |row: u64| {
        selection.source(of, row).filter(|&r| r < of.rows().max(1)).ok_or_else(|| missing("row", row))
    };
    let (mut out, mut buffer, mut row) = (Vec::new(), Vec::new(), rows.start);
    while row < rows.end {
        let first = from(row)?;
        // Rows that are neighbours are read together.
        let count = (1..rows.end - row).take_while(|n| from(row + n).is_ok_and(|r| r == first + n)).count();
        buffer.resize(whole * (count + 1), 0.0);
        read_rows(checkpoint, of, first..first + count as u64 + 1, &mut buffer)?;
        match &selection.columns {
            None => out.extend_from_slice(&buffer),
            Some(columns) => {
                for input in buffer.chunks_exact(whole) {
                    for &column in columns.iter() {
                        let value = input.get(column as usize);
                        out.push(*value.ok_or_else(|| missing("column", column.into()))?);
                    }
                }
            }
        }
        row += count as u64 + 1;
    }
    Ok(out)
}

/// Gathers rows that are not neighbours, in the order of the output.
fn gather_rows<'b>(
    checkpoint: &dyn Checkpoint,
    tensor: &MappedTensor,
    rows: &Range<u64>,
    buffer: &'b mut Vec<u8>,
) -> Result<&'b [u8], ReadError> {
    let columns = tensor.columns();
    let missing = |row: u64| {
        ReadError(format!("tensor `{}`: row {row} is in no tensor of the checkpoint", tensor.name))
    };
    let (index, _) = source_row(tensor, rows.start).ok_or_else(|| missing(rows.start))?;
    let stride = checkpoint.stored_bytes(index, columns)?;
    let out = part_of(buffer, stride * (rows.end - rows.start));
    let mut rest = &mut *out;
    let mut row = rows.start;
    while row < rows.end {
        let (index, from) = source_row(tensor, row).ok_or_else(|| missing(row))?;
        // Rows that are neighbours in the checkpoint are read together.
        let follows = |&n: &u64| source_row(tensor, row + n) == Some((index, from + n));
        let count = (1..rows.end - row).take_while(follows).count() as u64 + 1;
        let (part, others) = rest.split_at_mut((stride * count) as usize);
        checkpoint.fetch_rows(index, from..from + count, part)?;
        (row, rest) = (row + count, others);
    }
    Ok(out)
}

/// Gathers the columns that become output rows `rows`, and those between, of the `columns` input rows that become
/// columns.
///
/// They are copied, never mapped, because the pages around a few columns of each row are the whole tensor.
fn gather_columns<'b>(
    checkpoint: &dyn Checkpoint,
    at: Columns,
    columns: u64,
    rows: &Range<u64>,
    buffer: &'b mut Vec<u8>,
) -> Result<&'b [u8], ReadError> {
    let wanted = at.column..at.column + at.width(rows);
    let stride = checkpoint.stored_bytes(at.index, wanted.end - wanted.start)?;
    let out = part_of(buffer, stride * columns);
    for (column, out) in (0..columns).zip(out.chunks_exact_mut(stride.max(1) as usize)) {
        checkpoint.fetch_columns(at.index, at.row + column, wanted.clone(), out)?;
    }
    Ok(out)
}

/// Returns the columns that [`gather_columns`] would gather, decoded (`[columns][wanted]`), of a tensor whose rows can
/// only be read whole.
fn decode_whole(
    checkpoint: &dyn Checkpoint,
    at: Columns,
    columns: u64,
    rows: &Range<u64>,
    buffer: &mut Vec<u8>,
) -> Result<Vec<f32>, ReadError> {
    /// Number of input rows that are decoded at once.
    const TOGETHER: u64 = 16;
    let length = checkpoint.tensors().get(at.index).map_or(0, |info| info.columns()) as usize;
    let wanted = at.column as usize..(at.column + at.width(rows)) as usize;
    let mut whole = vec![0.0; length * TOGETHER.min(columns) as usize];
    let mut out = Vec::with_capacity(wanted.len() * columns as usize);
    for first in (0..columns).step_by(TOGETHER as usize) {
        let count = TOGETHER.min(columns - first);
        let input = at.row + first..at.row + first + count;
        let part = &mut whole[..length * count as usize];
        let bytes = checkpoint.fetch(at.index, input.clone(), buffer)?;
        checkpoint.decode(at.index, (input.start, 0), bytes, part)?;
        part.chunks_exact(length.max(1)).for_each(|row| out.extend_from_slice(&row[wanted.clone()]));
    }
    Ok(out)
}

/// Returns row, column and value of the first weight that is NaN or infinite; `first_row` is the number of the first row
/// in `weights`.
pub(crate) fn first_non_finite(weights: &[f32], columns: u64, first_row: u64) -> Option<(u64, u64, f32)> {
    const EXPONENT: u32 = 0x7f80_0000;
    let at = first_where(weights, |w| w.to_bits() & EXPONENT == EXPONENT)?;
    Some((first_row + at as u64 / columns, at as u64 % columns, weights[at]))
}

#[cfg(test)]
mod tests {
    use super::*;

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
