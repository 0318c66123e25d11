//! A unit's weights as f32, in the order of the output.

use std::ops::Range;

use crate::checkpoint::{Checkpoint, ReadError};
use crate::plan::{MappedTensor, Rows, Source};

/// Fills `out` (`[rows.len()][columns]`) with rows `rows` of the output tensor.
pub(crate) fn read_rows(
    checkpoint: &dyn Checkpoint,
    tensor: &MappedTensor,
    rows: Range<u64>,
    out: &mut [f32],
) -> Result<(), ReadError> {
    let columns = tensor.columns();
    let (index, arrangement) = match &tensor.source {
        Source::Values(values) => {
            let from = (rows.start * columns) as usize;
            out.copy_from_slice(&values[from..from + out.len()]);
            return Ok(());
        }
        Source::Tensor { index, rows } => (*index, rows),
    };
    if *arrangement == Rows::Transposed {
        return read_transposed(checkpoint, index, columns, rows, out);
    }
    if let (Rows::RotaryPairs { heads }, true) = (arrangement, tensor.shape.len() == 1) {
        return read_permuted_vector(checkpoint, index, *heads, columns, out);
    }
    for (row, out) in rows.zip(out.chunks_exact_mut(columns as usize)) {
        let from = match arrangement {
            Rows::RotaryPairs { heads } => rotary_source(row, tensor.rows() / heads),
            Rows::Same | Rows::Transposed => row,
        };
        checkpoint.read(index, from, 0..columns, out)?;
    }
    Ok(())
}

/// Row of the split-half layout that becomes row `row` of the paired layout, for heads of `head_rows` rows.
fn rotary_source(row: u64, head_rows: u64) -> u64 {
    let (head, within) = (row / head_rows, row % head_rows);
    head * head_rows + (within % 2) * (head_rows / 2) + within / 2
}

/// A bias: one row whose elements are the rows of the permutation.
fn read_permuted_vector(
    checkpoint: &dyn Checkpoint,
    index: usize,
    heads: u64,
    columns: u64,
    out: &mut [f32],
) -> Result<(), ReadError> {
    let mut stored = vec![0.0; out.len()];
    checkpoint.read(index, 0, 0..columns, &mut stored)?;
    for (row, value) in out.iter_mut().enumerate() {
        *value = stored[rotary_source(row as u64, columns / heads) as usize];
    }
    Ok(())
}

/// Output rows are input columns: every input row is visited for the few columns wanted.
fn read_transposed(
    checkpoint: &dyn Checkpoint,
    index: usize,
    columns: u64,
    rows: Range<u64>,
    out: &mut [f32],
) -> Result<(), ReadError> {
    let mut stored = vec![0.0; (rows.end - rows.start) as usize];
    for column in 0..columns {
        checkpoint.read(index, column, rows.clone(), &mut stored)?;
        for (row, &value) in stored.iter().enumerate() {
            out[row * columns as usize + column as usize] = value;
        }
    }
    Ok(())
}

/// Row and column of the first weight that is NaN or infinite; `first_row` is the number of the first row in `weights`.
pub(crate) fn first_non_finite(weights: &[f32], columns: u64, first_row: u64) -> Option<(u64, u64, f32)> {
    let at = weights.iter().position(|w| !w.is_finite())?;
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
        let mut weights = vec![0.0; 12];
        assert_eq!(first_non_finite(&weights, 4, 10), None);
        weights[6] = f32::NEG_INFINITY;
        assert_eq!(first_non_finite(&weights, 4, 10), Some((11, 2, f32::NEG_INFINITY)));
    }
}
