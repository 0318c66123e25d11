//! Where an output tensor's rows come from.

use crate::checkpoint::{Checkpoint, TensorInfo};

/// How rows of an output tensor follow from a checkpoint tensor `[rows][columns]`.
///
/// Under `RotaryPairs` a tensor of one dimension (a bias) counts as `[n][1]`: its elements are what moves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Rows {
    /// The same rows.
    Same,
    /// Output row `heads` x pairs: undoes Hugging Face's split-half rotary layout. Within each of the `heads` heads of
    /// `2 * half` rows, output row `2 * i + j` is input row `j * half + i`.
    RotaryPairs {
        /// Number of heads whose rows are interleaved.
        heads: u64,
    },
    /// The transpose: output row r is input column r (GPT-2's Conv1D).
    Transposed,
}

/// What an output tensor is made of.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A checkpoint tensor (by index), its rows rearranged.
    Tensor {
        /// Index in `Checkpoint::tensors`.
        index: usize,
        /// Which row becomes which.
        rows: Rows,
    },
    /// Numbers computed from the configuration.
    Values(Vec<f32>),
}

/// What the converter stores when no quantization touches the tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Always F32: norms, biases, routers, position tables.
    F32,
    /// The checkpoint's own type.
    Source,
}

/// An output tensor before a type is chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct MappedTensor {
    /// GGUF name.
    pub name: String,
    /// Dimensions in GGUF order (`ne`): columns first.
    pub shape: Vec<u64>,
    /// What it is made of.
    pub source: Source,
    /// Its type when it is not quantized.
    pub keep: Keep,
}

impl MappedTensor {
    /// Length of a row.
    pub fn columns(&self) -> u64 {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Rows of one matrix: a mixture's tensor holds one matrix per expert.
    pub fn rows_per_matrix(&self) -> u64 {
        self.shape.get(1).copied().unwrap_or(1)
    }

    /// Rows of all matrices.
    pub fn rows(&self) -> u64 {
        self.shape.iter().skip(1).product()
    }

    /// Number of weights.
    pub fn weights(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Name of the checkpoint tensor that it is made of; its own where it is computed.
    pub fn source_name<'a>(&'a self, checkpoint: &'a dyn Checkpoint) -> &'a str {
        match self.source {
            Source::Tensor { index, .. } => {
                checkpoint.tensors().get(index).map_or(&self.name, |t: &TensorInfo| &t.name)
            }
            Source::Values(_) => &self.name,
        }
    }
}
