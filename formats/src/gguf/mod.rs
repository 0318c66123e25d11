//! GGUF, versions 2 and 3 read, version 3 written.

mod value;

pub use value::{Array, Metadata, Value};
