//! The choice of a type for each tensor, from file types and mixtures as data, the user's overrides, and fallbacks for row
//! lengths.
//!
//! The decisions are llama-quantize's (llama.cpp, `src/llama-quant.cpp`). Where llama-quantize gives up or silently ignores
//! an option, kquant follows the option and reports what it did:
//!
//! - `--tensor-type` counts in F32, F16 and BF16 files, too;
//! - types that are requested by name fall back like any other where the row length does not fit;
//! - Q1_0 and NVFP4 have a fallback;
//! - a pattern without effect is an error.
//!
//! | file | content |
//! |---|---|
//! | `file_types` | the table of file types |
//! | `mixtures` | the rules of the mixtures |
//! | `roles` | the roles of tensors, by name |
//! | `eligible` | tensors that are always copied |
//! | `fallback` | types for row lengths that do not fit |
//! | `overrides` | types that the user names |
//! | `assign` | types by a file type: the engine of its rules |
//! | `allocate` | types by prices, for a size or a divergence |
//! | `prices` | what each tensor costs at each type, as data |
//! | `importance` | the tensors that need an importance matrix |
//! | `model` | facts about the model, from GGUF keys |
//! | `position` | the layers and running counts that rules look at |
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

pub use allocate::{Allocated, Allocation, FileTypePoint, FileTypePoints, Market, Menu, Target};
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
    /// Type that the tensor has in the source, and keeps if it is copied.
    pub source: &'static BlockType,
}

impl TensorFacts<'_> {
    /// Returns the length of a row: the first dimension, or 1 for a scalar.
    pub(crate) fn columns(&self) -> u64 {
        self.shape.first().copied().unwrap_or(1)
    }
}

/// The user's requests: a file type and types that replace its choices.
#[derive(Debug, Clone)]
pub struct Options {
    /// File type, which is the recipe for the whole model.
    pub file_type: &'static FileType,
    /// True if the base type replaces the mixture's; types that options name still count.
    pub pure: bool,
    /// Types that the user names, and tensors that must stay as they are.
    pub overrides: Overrides,
}

/// Types that the user names, and limits on what may be changed. They hold however the other types are chosen.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Types by tensor name, of which the first that matches counts.
    pub tensor_types: Vec<TensorType>,
    /// Type of the output projection, if the user chose it.
    pub output_tensor_type: Option<&'static BlockType>,
    /// Type of the token embeddings, if the user chose it.
    pub token_embedding_type: Option<&'static BlockType>,
    /// True if the output projection is kept as it is.
    pub leave_output_tensor: bool,
    /// True if tensors that are quantized already may be quantized again.
    pub allow_requantize: bool,
}

impl Options {
    /// Requests `file_type` and nothing else.
    pub fn new(file_type: &'static FileType) -> Self {
        Self { file_type, pure: false, overrides: Overrides::default() }
    }
}

/// The type chosen for a tensor. A tensor that keeps its source's type is copied, whatever the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Type that the tensor gets.
    pub block: &'static BlockType,
    /// Origin of the type, before any fallback.
    pub reason: Reason,
    /// Type that `reason` asked for, if the row length does not fit it.
    pub fallback: Option<Fallback>,
}

/// The origin of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Tensors of this kind are copied as they are.
    Kept,
    /// The type is the file type's base type.
    Base,
    /// The type comes from a rule of the file type's mixture.
    Mixture,
    /// The type comes from an option that names the tensor.
    Override,
    /// The type comes from the prices of the menu's types.
    Price,
}

/// A type that does not fit the tensor's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    /// The type that was wanted.
    pub wanted: &'static BlockType,
    /// Reason why the tensor cannot have the type.
    pub why: String,
}
