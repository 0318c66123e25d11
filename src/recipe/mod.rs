//! Which type each tensor gets: file types and mixtures as data, the user's overrides, fallbacks for row lengths.
//!
//! The decisions are llama-quantize's (llama.cpp, `src/llama-quant.cpp`). Where that gives up or silently ignores an
//! option, kquant follows the option and reports what it did:
//!
//! - `--tensor-type` counts in F32, F16 and BF16 files too;
//! - types asked for by name fall back like any other where the row length does not fit;
//! - Q1_0 and NVFP4 have a fallback;
//! - a pattern without effect is an error.
//!
//! | file | what |
//! |---|---|
//! | `file_types` | the table of file types |
//! | `mixtures` | the rules of the mixtures |
//! | `roles` | tensor names to roles |
//! | `eligible` | tensors that are always copied |
//! | `fallback` | types for row lengths that do not fit |
//! | `overrides` | `--tensor-type` |
//! | `assign` | types by a file type: the engine of its rules |
//! | `allocate` | types by prices, for a size or a divergence |
//! | `prices` | what each tensor costs at each type, as data |
//! | `importance` | tensors that need an importance matrix |
//! | `model` | facts about the model, from GGUF keys |
//! | `position` | layers and running counts that rules look at |
//! | `order` | the order of decisions and of the output |

mod allocate;
mod assign;
mod eligible;
mod error;
mod fallback;
mod file_types;
mod importance;
mod mixtures;
mod model;
mod nearest;
mod order;
mod overrides;
mod position;
mod prices;
mod roles;
#[cfg(test)]
mod tests;
mod types;

use kquant_kernels::block::BlockType;

pub use allocate::{Allocated, Allocation, Market, Menu, Target};
pub use assign::assign;
pub(crate) use eligible::may_convert;
pub use error::RecipeError;
pub use file_types::{FILE_TYPES, FileType, file_type};
pub use importance::needs_importance;
pub use model::ModelFacts;
pub use nearest::nearest;
pub use order::output_order;
pub use overrides::TensorType;
pub use prices::{PRICES_VERSION, Price, PriceList, PriceOrigin, PriceUnit, TensorPrices};
pub use types::block_type;

/// A tensor before its type is chosen.
#[derive(Debug, Clone, Copy)]
pub struct TensorFacts<'a> {
    /// GGUF name.
    pub name: &'a str,
    /// Dimensions in GGUF order (`ne`): columns first.
    pub shape: &'a [u64],
    /// Its type when it is kept.
    pub source: &'static BlockType,
}

impl TensorFacts<'_> {
    /// Length of a row: the first dimension, 1 for a scalar.
    pub(crate) fn columns(&self) -> u64 {
        self.shape.first().copied().unwrap_or(1)
    }
}

/// A file type and what the user wants otherwise.
#[derive(Debug, Clone)]
pub struct Options {
    /// The file type.
    pub file_type: &'static FileType,
    /// Whether every tensor gets the base type, without a mixture.
    pub pure: bool,
    /// Types that the user names.
    pub overrides: Overrides,
}

/// Types that the user names, and what may not be touched. They hold however the other types are chosen.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Types by name; the first that matches counts.
    pub tensor_types: Vec<TensorType>,
    /// The type of the output projection.
    pub output_tensor_type: Option<&'static BlockType>,
    /// The type of the token embeddings.
    pub token_embedding_type: Option<&'static BlockType>,
    /// Keep the output projection as it is.
    pub leave_output_tensor: bool,
    /// Allow tensors that are quantized already to be quantized again.
    pub allow_requantize: bool,
}

impl Options {
    /// `file_type` and nothing else.
    pub fn new(file_type: &'static FileType) -> Self {
        Self { file_type, pure: false, overrides: Overrides::default() }
    }
}

/// The type chosen for a tensor. A tensor whose type is its source's is copied, whatever the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The type.
    pub block: &'static BlockType,
    /// Where the type comes from, before any fallback.
    pub reason: Reason,
    /// Set when the type is not the one that `reason` wanted.
    pub fallback: Option<Fallback>,
}

/// Where a type comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Tensors of this kind are copied as they are.
    Kept,
    /// The file type's base type.
    Base,
    /// A rule of the file type's mixture.
    Mixture,
    /// An option that names the tensor.
    Override,
    /// The prices of the menu's types.
    Price,
}

/// A type that could not be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    /// The type that was wanted.
    pub wanted: &'static BlockType,
    /// Why the tensor cannot have it.
    pub why: String,
}
