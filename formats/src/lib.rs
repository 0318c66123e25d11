//! Bytes to structures and back, safe on hostile input. No arithmetic on weights.
//!
//! Readers map files into memory and borrow from there. They never panic and never allocate by a number that the file
//! claims, only by what the file holds.
//!
//! | module | what |
//! |---|---|
//! | [`gguf`] | values, metadata, reader, writer, split files |
//! | [`safetensors`] | checkpoints of one file or many |
//! | [`hessian`] | statistics files: importance and outer products |
//! | [`imatrix`] | importance matrices, GGUF and legacy |
//! | [`logits`] | log-probabilities of a text, llama-perplexity's files |
//! | [`sentencepiece`] | SentencePiece models |
//! | [`map`] | read-only memory maps |
//! | [`partial`] | output files that appear only when complete |
//! | [`scratch`] | temporary storage for what memory cannot hold |
//! | [`error`] | what can go wrong |

#![deny(unsafe_code)]

mod cursor;
pub mod error;
pub mod gguf;
pub mod hessian;
pub mod imatrix;
pub mod logits;
pub mod map;
pub mod partial;
pub mod safetensors;
pub mod scratch;
pub mod sentencepiece;

pub use error::FormatError;
