//! The complete list of output tensors, as data: what an architecture maps, what a recipe decides, where each byte goes.
//!
//! Everything after a plan may run in any order, on any number of threads, and produces the same bytes.

mod build;
mod division;
mod file_name;
mod importance;
mod inventory;
mod keys;
mod known_keys;
mod overrides;
mod provenance;
mod view;

use kquant_kernels::block::BlockType;

use crate::encode::Encoder;
use crate::tensor::MappedTensor;

pub use build::{PlanError, Request, build};
pub use division::Division;
pub use importance::ImportanceMap;
pub use inventory::Inventory;
pub use overrides::{KeyOverride, KeyOverrideError, OverrideTypeError};
pub use provenance::Provenance;
pub use view::{AllocationView, FallbackView, PlanView, TensorView};

/// An output tensor: what it is made of, its type and its place.
#[derive(Debug, Clone)]
pub struct PlannedTensor {
    /// Its name, shape and what it is made of.
    pub mapped: MappedTensor,
    /// Type in the checkpoint, as a name to print.
    pub source_type: &'static str,
    /// Type in the output.
    pub block: &'static BlockType,
    /// Whether its stored bytes are taken over as they are.
    pub copy: bool,
    /// What encodes it, where it is encoded without feedback.
    pub encoder: &'static dyn Encoder,
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

/// An output file before it is written.
#[derive(Debug, Clone)]
pub struct PlannedFile {
    /// Everything before the tensor data.
    pub header: Vec<u8>,
    /// Size of the finished file.
    pub bytes: u64,
    /// Bytes that the start of each tensor's data is a multiple of.
    pub alignment: u64,
}

/// Everything that a run writes.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Output tensors in file order.
    pub tensors: Vec<PlannedTensor>,
    /// Output files; more than one when the input's split is kept.
    pub files: Vec<PlannedFile>,
    /// The name that GGUF's rule gives the output, with `.gguf`.
    pub file_name: String,
    /// What a user should know before it runs.
    pub warnings: Vec<String>,
    /// What is no fault, but good to know.
    pub notes: Vec<String>,
}
