//! Rows of a checkpoint tensor, put together from the converted tensors that are made of it.

use std::ops::Range;

use super::place::Place;
use crate::checkpoint::{Checkpoint, ReadError};
use crate::tensor::{MappedTensor, RowOrder, Source, read_rows};

/// A converted tensor and the place of its weights in a checkpoint tensor.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) tensor: MappedTensor,
    pub(super) place: Place,
}

/// Rows of a checkpoint tensor in a buffer.
struct Rows<'a> {
    /// Numbers of the rows.
    range: Range<u64>,
    /// Length of a row.
    columns: usize,
    /// The weights, `[rows][columns]`.
    out: &'a mut [f32],
}

/// Fills `out` (`[rows.len()][columns]`) with rows `rows` of the checkpoint tensor that `parts` make.
///
/// # Errors
/// Fails when weights of the source cannot be read.
pub(super) fn rebuild(
    source: &dyn Checkpoint,
    parts: &[Part],
    rows: Range<u64>,
    out: &mut [f32],
) -> Result<(), ReadError> {
    let columns = out.len() / (rows.end - rows.start).max(1) as usize;
    let mut rows = Rows { range: rows, columns, out };
    for part in parts {
        match part.place {
            Place::Whole { first, less } => whole(source, &part.tensor, (first, less), &mut rows)?,
            Place::Rows(order) => by_rows(source, &part.tensor, order, &mut rows)?,
            Place::Elements(order) => by_elements(source, &part.tensor, order, &mut rows)?,
            Place::Columns { stride, skip, first, step } => {
                by_columns(source, &part.tensor, [stride, skip, first, step], &mut rows)?;
            }
        }
    }
    Ok(())
}

/// Returns the tensor as it is without the number that the conversion adds to each weight, if none of its weights was
/// changed: adding and taking away would round.
pub(super) fn unshifted(tensor: &MappedTensor) -> Option<MappedTensor> {
    let source = match &tensor.source {
        Source::Shifted { index, .. } => Source::Tensor { index: *index, rows: RowOrder::Same },
        Source::Selected { of, selection } => {
            Source::Selected { of: Box::new(unshifted(of)?), selection: selection.clone() }
        }
        _ => return None,
    };
    Some(MappedTensor { source, ..tensor.clone() })
}

fn whole(
    source: &dyn Checkpoint,
    tensor: &MappedTensor,
    (first, less): (u64, f32),
    rows: &mut Rows,
) -> Result<(), ReadError> {
    let range = first + rows.range.start..first + rows.range.end;
    read_rows(source, tensor, range, rows.out)?;
    if less != 0.0 {
        rows.out.iter_mut().for_each(|weight| *weight -= less);
    }
    Ok(())
}

/// Reads the rows of `tensor` that belong to `rows`, neighbours together.
fn by_rows(
    source: &dyn Checkpoint,
    tensor: &MappedTensor,
    order: RowOrder,
    rows: &mut Rows,
) -> Result<(), ReadError> {
    let all = tensor.rows();
    let to = |row: u64| order.source(row, all).filter(|to| rows.range.contains(to));
    let mut row = 0;
    let mut runs = Vec::new();
    while row < all {
        let Some(start) = to(row) else {
            row += 1;
            continue;
        };
        let count = (1..all - row).take_while(|n| to(row + n) == Some(start + n)).count() as u64 + 1;
        runs.push((row, start, count));
        row += count;
    }
    for (row, start, count) in runs {
        let at = (start - rows.range.start) as usize * rows.columns;
        let out = &mut rows.out[at..at + count as usize * rows.columns];
        read_rows(source, tensor, row..row + count, out)?;
    }
    Ok(())
}

/// Puts the elements of a bias, which is small, at the places that they are made of.
fn by_elements(
    source: &dyn Checkpoint,
    tensor: &MappedTensor,
    order: RowOrder,
    rows: &mut Rows,
) -> Result<(), ReadError> {
    let mut values = vec![0.0; tensor.weights() as usize];
    read_rows(source, tensor, 0..tensor.rows(), &mut values)?;
    let before = rows.range.start * rows.columns as u64;
    for (element, &value) in (0..).zip(&values) {
        let to = order.source(element, tensor.weights()).and_then(|to| to.checked_sub(before));
        if let Some(place) = to.and_then(|to| rows.out.get_mut(to as usize)) {
            *place = value;
        }
    }
    Ok(())
}

/// Writes rows of the matrices of `tensor` as columns. A matrix is read whole for each piece of its columns.
fn by_columns(
    source: &dyn Checkpoint,
    tensor: &MappedTensor,
    [stride, skip, first, step]: [u64; 4],
    rows: &mut Rows,
) -> Result<(), ReadError> {
    let (per_matrix, width) = (tensor.rows_per_matrix(), tensor.columns());
    let mut values = vec![0.0; (per_matrix * width) as usize];
    for matrix in 0..tensor.matrices() {
        let top = matrix * stride + skip;
        let wanted = rows.range.start.max(top)..rows.range.end.min(top + width);
        if wanted.is_empty() {
            continue;
        }
        read_rows(source, tensor, matrix * per_matrix..(matrix + 1) * per_matrix, &mut values)?;
        for to in wanted {
            let line = (to - rows.range.start) as usize * rows.columns;
            let column = (to - top) as usize;
            for row in 0..per_matrix as usize {
                let at = line + first as usize + row * step as usize;
                rows.out[at] = values[row * width as usize + column];
            }
        }
    }
    Ok(())
}
