//! Sources of an output tensor's rows.

use std::ops::Range;
use std::sync::Arc;

use super::{Selection, Stash, TensorName};
use crate::checkpoint::{Checkpoint, TensorInfo};

/// The rule by which rows of an output tensor follow from a checkpoint tensor `[rows][columns]`.
///
/// For a bias, the elements are rearranged as rows of one column: see [`MappedTensor::is_bias`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowOrder {
    /// The rows are taken as they are.
    Same,
    /// Rows of rotary pairs, which undo Hugging Face's split-half layout: within each of the `heads` heads of `2 * half`
    /// rows, output row `2 * i + j` is input row `j * half + i`.
    RotaryPairs {
        /// Number of heads whose rows are interleaved.
        heads: u64,
    },
    /// Rows of rotary pairs, of which only the first `rotary` rows of each of the `heads` heads turn; the rest stay.
    RotaryPart {
        /// Number of heads whose rows are interleaved.
        heads: u64,
        /// Number of rows of a head that turn.
        rotary: u64,
    },
    /// Some of the rows are taken: output row `n * length + i` is input row `n * stride + first + i * step`.
    Picked {
        /// Number of output rows of a block.
        length: u64,
        /// Number of input rows of a block.
        stride: u64,
        /// The first row of a block that is taken.
        first: u64,
        /// Number of input rows from one that is taken to the next.
        step: u64,
    },
    /// The first rows stay, and blocks of the rest take turns: of `parts * groups` blocks, output block `p * groups + g` is input
    /// block `g * parts + p` (Qwen 3.5's heads of values).
    Tiled {
        /// Number of rows that stay.
        kept: u64,
        /// Number of blocks of a group.
        parts: u64,
        /// Number of groups.
        groups: u64,
    },
    /// Blocks of rows are taken in another order: each group of blocks holds queries, a key and a value, and the output has all
    /// queries, all keys and all values (GPT-NeoX, Falcon).
    Regrouped {
        /// Number of blocks of queries in a group.
        queries: u64,
        /// Number of groups.
        groups: u64,
    },
    /// The elements of a vector become the rows of a matrix, one row after the other.
    Flat,
    /// Matrices are transposed: row r, column c of output matrix m is column `first + r * step` of input row
    /// `m * stride + skip + c`. For one whole matrix (GPT-2's Conv1D) this is [`RowOrder::TRANSPOSED`].
    Transposed {
        /// Number of input rows from one matrix to the next.
        stride: u64,
        /// Number of input rows of a matrix that come before its first column.
        skip: u64,
        /// Input column that becomes the first row.
        first: u64,
        /// Number of input columns from one row to the next.
        step: u64,
    },
}

impl RowOrder {
    /// The transpose of one matrix.
    pub const TRANSPOSED: Self = Self::Transposed { stride: 0, skip: 0, first: 0, step: 1 };

    /// Returns the input row that becomes row `row` of `rows`; `None` if rows do not stay rows.
    pub fn source(&self, row: u64, rows: u64) -> Option<u64> {
        match *self {
            Self::Same => Some(row),
            Self::RotaryPairs { heads } => {
                let width = (rows / heads).max(1);
                let (head, within) = (row / width, row % width);
                Some(head * width + (within % 2) * (width / 2) + within / 2)
            }
            Self::RotaryPart { heads, rotary } => {
                let width = (rows / heads).max(1);
                let (head, within) = (row / width, row % width);
                let from = if within < rotary { within % 2 * (rotary / 2) + within / 2 } else { within };
                Some(head * width + from)
            }
            Self::Picked { length, stride, first, step } => {
                Some(row / length * stride + first + row % length * step)
            }
            Self::Tiled { kept, .. } if row < kept => Some(row),
            Self::Tiled { kept, parts, groups } => {
                let width = (rows.saturating_sub(kept) / (parts * groups)).max(1);
                let (block, within) = ((row - kept) / width, (row - kept) % width);
                Some(kept + (block % groups * parts + block / groups) * width + within)
            }
            Self::Regrouped { queries, groups } => {
                let parts = queries + 2;
                let width = (rows / (parts * groups)).max(1);
                let (block, within) = (row / width, row % width);
                let (group, part) = match block.checked_sub(queries * groups) {
                    None => (block / queries, block % queries),
                    Some(rest) => (rest % groups, queries + rest / groups),
                };
                Some((group * parts + part) * width + within)
            }
            Self::Flat | Self::Transposed { .. } => None,
        }
    }
}

/// The factors of some rows of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct RowFactors {
    /// Numbers of the rows.
    pub rows: Range<u64>,
    /// Factors, which are multiplied one after the other in f32.
    pub by: Vec<f32>,
}

/// The source of an output tensor's weights.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A checkpoint tensor whose rows are rearranged.
    Tensor {
        /// Index in `Checkpoint::tensors`.
        index: usize,
        /// The rearrangement of the rows.
        rows: RowOrder,
    },
    /// A checkpoint tensor with a number added to each weight (Gemma's norms).
    Shifted {
        /// Index in `Checkpoint::tensors`.
        index: usize,
        /// The number that is added, in f32.
        by: f32,
    },
    /// Several checkpoint tensors one after the other: matrices of experts, norms of heads.
    Stacked {
        /// Indices in `Checkpoint::tensors`, at least one.
        indices: Vec<usize>,
    },
    /// The rates of a recurrence, `-exp` of another tensor, which holds their logarithms.
    Rates {
        /// The tensor of the logarithms.
        of: Box<MappedTensor>,
    },
    /// Another tensor whose rows are multiplied by numbers of the configuration (Falcon H1).
    Scaled {
        /// The tensor that is multiplied.
        of: Box<MappedTensor>,
        /// Factors of ranges of rows.
        factors: Vec<RowFactors>,
    },
    /// Numbers computed from the configuration.
    Values(Vec<f32>),
    /// Some matrices, rows and columns of another tensor.
    Selected {
        /// The tensor that they are taken of.
        of: Box<MappedTensor>,
        /// What is taken.
        selection: Selection,
    },
    /// Weights that were changed, in memory or in a temporary file.
    Changed {
        /// Where the weights are kept, under the name of the tensor that they are made for.
        stash: Arc<Stash>,
        /// The name under which they are kept.
        name: String,
    },
}

/// The type that the converter stores a tensor in if it is not quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The tensor is always F32, as norms, biases, routers and position tables are.
    F32,
    /// The tensor keeps the checkpoint's type.
    Source,
}

/// An output tensor for which no type is chosen yet.
#[derive(Debug, Clone, PartialEq)]
pub struct MappedTensor {
    /// GGUF name of the tensor.
    pub name: String,
    /// Dimensions in GGUF order (`ne`): columns first.
    pub shape: Vec<u64>,
    /// The source of its weights.
    pub source: Source,
    /// Its type if it is not quantized.
    pub keep: Keep,
}

impl MappedTensor {
    /// Returns the length of a row.
    pub fn columns(&self) -> u64 {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Returns the number of rows of one matrix: a mixture's tensor holds one matrix per expert.
    pub fn rows_per_matrix(&self) -> u64 {
        self.shape.get(1).copied().unwrap_or(1)
    }

    /// Returns the number of rows of all matrices.
    pub fn rows(&self) -> u64 {
        self.shape.iter().skip(1).product()
    }

    /// Returns the number of matrices: experts of a mixture, or heads of latent attention.
    pub fn matrices(&self) -> u64 {
        self.shape.iter().skip(2).product()
    }

    /// Returns true if the tensor is a bias, of one matrix or of several: its elements are rearranged as the rows of
    /// matrices are.
    pub fn is_bias(&self) -> bool {
        self.shape.len() < 2 || TensorName(&self.name).is_bias()
    }

    /// Returns the index of the checkpoint tensor that it is made of, the first if there are several.
    pub fn first_stored(&self) -> Option<usize> {
        match &self.source {
            Source::Tensor { index, .. } | Source::Shifted { index, .. } => Some(*index),
            Source::Stacked { indices } => indices.first().copied(),
            Source::Selected { of, .. } | Source::Rates { of } | Source::Scaled { of, .. } => {
                of.first_stored()
            }
            Source::Values(_) | Source::Changed { .. } => None,
        }
    }

    /// Returns the index of the checkpoint tensor and the row there that become row `row` unchanged; `None` if there is
    /// no such row.
    pub fn stored_row(&self, row: u64) -> Option<(usize, u64)> {
        match &self.source {
            Source::Tensor { index, rows } if !self.is_bias() || *rows == RowOrder::Same => {
                Some((*index, rows.source(row, self.rows())?))
            }
            Source::Stacked { indices } => {
                let each = (self.rows() / indices.len().max(1) as u64).max(1);
                Some((*indices.get((row / each) as usize)?, row % each))
            }
            Source::Selected { of, selection } if selection.columns.is_none() => {
                of.stored_row(selection.source(of, row)?)
            }
            _ => None,
        }
    }

    /// Returns the number of weights.
    pub fn weights(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Returns the name of the checkpoint tensor that it is made of; its own name if it is computed.
    pub fn source_name<'a>(&'a self, checkpoint: &'a dyn Checkpoint) -> &'a str {
        let stored = self.first_stored().and_then(|index| checkpoint.tensors().get(index));
        stored.map_or(&self.name, |t: &TensorInfo| &t.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(rows: RowOrder, count: u64) -> Vec<u64> {
        (0..count).map(|row| rows.source(row, count).unwrap()).collect()
    }

    #[test]
    fn rotary_pairs_interleave_the_halves_of_each_head() {
        let part = RowOrder::RotaryPart { heads: 2, rotary: 4 };
        let sources: Vec<_> = (0..12).map(|row| part.source(row, 12).unwrap()).collect();
        assert_eq!(sources, [0, 2, 1, 3, 4, 5, 6, 8, 7, 9, 10, 11]);
        let rows = RowOrder::RotaryPairs { heads: 2 };
        assert_eq!(order(rows, 12), [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
    }

    #[test]
    fn blocks_are_picked_and_regrouped() {
        let odd = RowOrder::Picked { length: 2, stride: 4, first: 1, step: 2 };
        assert_eq!(order(odd, 4), [1, 3, 5, 7]);
        let rest = RowOrder::Picked { length: 2, stride: 5, first: 3, step: 1 };
        assert_eq!(order(rest, 4), [3, 4, 8, 9]);
        let shared = RowOrder::Regrouped { queries: 2, groups: 2 };
        assert_eq!(order(shared, 8), [0, 1, 4, 5, 2, 6, 3, 7]);
        let regrouped = RowOrder::Regrouped { queries: 1, groups: 2 };
        assert_eq!(order(regrouped, 12), [0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11]);
        let last = RowOrder::Tiled { kept: 3, parts: 2, groups: 2 };
        assert_eq!(order(last, 7), [0, 1, 2, 3, 5, 4, 6]);
        assert_eq!(RowOrder::TRANSPOSED.source(0, 4), None);
    }
}
