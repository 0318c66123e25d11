//! The complete list of output tensors, as data: what an architecture maps, what a recipe decides, where each byte goes.
//!
//! Everything after a plan may run in any order, on any number of threads, and produces the same bytes.

mod build;
mod input;
mod keys;
mod source;
mod statistics;
mod view;

use kquant_kernels::block::BlockType;

use crate::checkpoint::{Checkpoint, TensorInfo};

pub use build::{PlanError, Request, build};
pub use input::{Input, InputError, describe};
pub use keys::{KeyOverride, KeyOverrideError};
pub use source::{Keep, MappedTensor, Rows, Source};
pub use view::{FallbackView, PlanView, TensorView};

/// An output tensor: what it is made of, its type and its place.
#[derive(Debug, Clone)]
pub struct PlannedTensor {
    /// GGUF name.
    pub name: String,
    /// Dimensions in GGUF order (`ne`): columns first.
    pub shape: Vec<u64>,
    /// What it is made of.
    pub source: Source,
    /// Type in the checkpoint, as a name to print.
    pub source_type: &'static str,
    /// Type in the output.
    pub block: &'static BlockType,
    /// Whether its stored bytes are taken over as they are.
    pub copy: bool,
    /// Whether the encoder gets an importance vector for it.
    pub importance: bool,
    /// The type that its row length ruled out, and why.
    pub fallback: Option<FallbackView>,
    /// Index of the output file.
    pub file: usize,
    /// First byte in that file.
    pub offset: u64,
    /// Bytes, without padding.
    pub bytes: u64,
}

impl PlannedTensor {
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

    /// The checkpoint tensor whose bytes are taken over, if they are.
    pub fn copied_from(&self) -> Option<usize> {
        match self.source {
            Source::Tensor { index, .. } if self.copy => Some(index),
            _ => None,
        }
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

/// An output file before it is written.
#[derive(Debug, Clone)]
pub struct PlannedFile {
    /// Everything before the tensor data.
    pub header: Vec<u8>,
    /// Size of the finished file.
    pub bytes: u64,
}

/// Everything that a run writes.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Output tensors in file order.
    pub tensors: Vec<PlannedTensor>,
    /// Output files; more than one when the input's split is kept.
    pub files: Vec<PlannedFile>,
    /// What a user should know before it runs.
    pub warnings: Vec<String>,
}
