//! Conversion of bytes to structures and back, which is safe on hostile input and does no arithmetic on weights.
//!
//! Readers never panic, and they bound allocations by what a file holds, not by what it claims.
//!
//! | module | content |
//! |---|---|
//! | [`gguf`] | values, metadata, reader, writer, split files |
//! | [`safetensors`] | checkpoints of one file or many |
//! | [`hessian`] | statistics files: importance and outer products |
//! | [`imatrix`] | importance matrices, GGUF and legacy |
//! | [`json`] | JSON as Python's module reads it |
//! | [`logits`] | llama-perplexity's files of a text's log-probabilities |
//! | [`sentencepiece`] | SentencePiece models |
//! | [`source`] | files of tensor data, read a window at a time |
//! | [`partial`] | output files that appear only when complete |
//! | [`whole`] | small files and texts, read at once up to a limit |
//! | [`targets`] | teacher's files: predictions for a text |
//! | [`scratch`] | temporary storage for data that memory cannot hold |
//! | [`error`] | errors of readers and writers |

#![forbid(unsafe_code)]

mod cursor;
pub mod error;
pub mod gguf;
pub mod hessian;
pub mod imatrix;
pub mod json;
mod limits;
pub mod logits;
mod names;
pub mod partial;
mod pointers;
pub mod safetensors;
pub mod scratch;
pub mod sentencepiece;
pub mod source;
pub mod targets;
pub mod whole;

pub use error::FormatError;
