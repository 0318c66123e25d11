//! The complete list of output tensors, as data: what an architecture maps, what a recipe decides, where each byte goes.

mod source;

pub use source::{Keep, MappedTensor, Rows, Source};
