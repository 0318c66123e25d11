//! Reading of GGUF, versions 2 and 3, and writing of version 3.
//!
//! [`Gguf::open`] checks everything but the weights; [`layout`] computes a new file's bytes before the tensor data and
//! the place of each tensor, so that any thread can write any tensor at any time.

mod codes;
mod file;
pub(crate) mod header;
mod rules;
pub mod split;
pub(crate) mod tensors;
mod value;
mod write;

pub use file::Gguf;
pub use tensors::{TensorInfo, TypeLayout, TypeTable};
pub use value::{Array, Metadata, Value};
pub use write::{Layout, TensorSpec, layout};
