//! The places of a converted tensor's weights in a checkpoint tensor.

use crate::tensor::{MappedTensor, RowOrder, Source};

/// The rule by which the weights of a converted tensor are put into a checkpoint tensor `[rows][columns]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Place {
    /// All rows of the checkpoint tensor are rows from this one on of the converted tensor, less the number `less` each.
    Whole {
        /// Number of the converted tensor's first row.
        first: u64,
        /// The number that the conversion adds to each weight.
        less: f32,
    },
    /// Rows go to the rows that they are made of.
    Rows(RowOrder),
    /// Elements of a bias go to the elements that they are made of.
    Elements(RowOrder),
    /// Rows become columns, as in [`RowOrder::Transposed`].
    Columns {
        /// Number of rows of the checkpoint tensor from one matrix to the next.
        stride: u64,
        /// Number of rows of a matrix that come before its first column.
        skip: u64,
        /// Column that the first row becomes.
        first: u64,
        /// Number of columns from one row to the next.
        step: u64,
    },
}

/// Returns the checkpoint tensors that `mapped` is made of, by index, with the places of its weights in each; `None` if it is
/// computed.
pub(super) fn places(mapped: &MappedTensor) -> Option<Vec<(usize, Place)>> {
    Some(match &mapped.source {
        Source::Tensor { index, rows } => vec![(*index, of_order(mapped, *rows))],
        Source::Shifted { index, by } => vec![(*index, Place::Whole { first: 0, less: *by })],
        Source::Stacked { indices } => {
            let each = mapped.rows() / indices.len().max(1) as u64;
            let place = |part| Place::Whole { first: part * each, less: 0.0 };
            (0..).zip(indices).map(|(part, &index)| (index, place(part))).collect()
        }
        Source::Values(_)
        | Source::Scaled { .. }
        | Source::Rates { .. }
        | Source::Selected { .. }
        | Source::Changed { .. } => {
            return None;
        }
    })
}

fn of_order(mapped: &MappedTensor, rows: RowOrder) -> Place {
    match rows {
        RowOrder::Same => Place::Whole { first: 0, less: 0.0 },
        RowOrder::Transposed { stride, skip, first, step } => Place::Columns { stride, skip, first, step },
        rows if mapped.is_bias() => Place::Elements(rows),
        rows => Place::Rows(rows),
    }
}

impl Place {
    /// Returns the number of weights of a checkpoint tensor of `weights` weights that `tensor` gives.
    pub(super) fn given(&self, tensor: &MappedTensor, weights: u64) -> u64 {
        match self {
            Self::Whole { .. } => weights,
            _ => tensor.weights(),
        }
    }
}
