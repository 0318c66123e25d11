//! Tests of the readers and writers on files, one module per format, in one binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod gguf;
mod hessian;
mod imatrix;
mod imatrix_write;
mod logits;
mod malformed_gguf;
mod malformed_imatrix;
mod malformed_safetensors;
mod malformed_sentencepiece;
mod mutants;
mod partial;
mod partial_folder;
mod safetensors;
mod sentencepiece;
mod targets;
