//! Tensors of a converted model, under their GGUF names: the source of their rows, the reading of rows, and encoded
//! tensors that replace them.
//!
//! | module | what |
//! |---|---|
//! | `name` | what a tensor's name says: layer, kind |
//! | `source` | a tensor's shape and what its rows are made of |
//! | `selection` | some matrices, rows and columns of another tensor |
//! | `rates` | rates of a recurrence from their logarithms |
//! | `read` | rows as f32, decoded from the checkpoint's bytes |
//! | `stash` | tensors that are encoded already, in memory or in a temporary file |

mod name;
mod rates;
mod read;
mod selection;
mod source;
mod stash;
#[cfg(test)]
mod tests;

pub use name::TensorName;
pub use rates::rate;
pub(crate) use read::{Fetched, first_non_finite, head_rows, read_rows, span};
pub use selection::Selection;
pub use source::{Keep, MappedTensor, RowFactors, RowOrder, Source};
pub(crate) use stash::Replaced;
pub use stash::Stash;
