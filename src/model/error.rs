//! What can go wrong when a model is run.

use std::path::PathBuf;

use kquant_formats::FormatError;

use super::ObserveError;
use crate::checkpoint::OpenError;
use crate::convert::ConvertError;
use crate::graph::KeyError;
use crate::vocab::TokenizerError;

/// Why a model cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its configuration, tensors or tokenizer cannot be converted.
    #[error("{path}")]
    Input {
        /// The model.
        path: PathBuf,
        /// What is wrong.
        source: ConvertError,
    },
    /// Its tokenizer cannot be read.
    #[error("{path}")]
    Tokenizer {
        /// The model.
        path: PathBuf,
        /// What is wrong.
        source: TokenizerError,
    },
    /// Two models have different tokens.
    #[error("{path} and {other} have different vocabularies, so that their predictions cannot be compared")]
    Vocabulary {
        /// One.
        path: PathBuf,
        /// The other.
        other: PathBuf,
    },
    /// A hyper-parameter is missing or wrong.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The family is one that only conversion knows.
    #[error("architecture `{name}` cannot be run yet; known are {known}")]
    Architecture {
        /// `general.architecture`.
        name: String,
        /// The families that can.
        known: String,
    },
    /// A tensor is not there, or not of the size that the keys ask for.
    #[error("tensor `{tensor}` {what}")]
    Tensor {
        /// GGUF name.
        tensor: String,
        /// What is wrong with it.
        what: String,
    },
    /// A layer is asked for that is not there.
    #[error("layer {asked} is not there; the model has {layers}, counted from 0")]
    Layer {
        /// Number asked for.
        asked: usize,
        /// Layers of the model.
        layers: usize,
    },
    /// A graph cannot be run: a fault of kquant and not of the model.
    #[error("the graph of layer {layer} {what}; this is a fault of kquant, please report it")]
    Graph {
        /// Number of the layer.
        layer: usize,
        /// What is wrong with it.
        what: String,
    },
    /// Rows cannot be read.
    #[error("{what}")]
    Read {
        /// Which, and why.
        what: String,
    },
    /// A weight is no number.
    #[error("tensor `{tensor}`: weight at row {row}, column {column} is {value}; the file is damaged")]
    Weight {
        /// GGUF name.
        tensor: String,
        /// Row.
        row: u64,
        /// Column.
        column: u64,
        /// The weight.
        value: f32,
    },
    /// An activation is no number.
    #[error(
        "tensor `{tensor}`: its output for token {token} of the text is {value}; weights of this size overflow f32"
    )]
    Activation {
        /// GGUF name.
        tensor: String,
        /// Number of the token in the chunks given.
        token: usize,
        /// The activation.
        value: f32,
    },
    /// A gradient is no number.
    #[error(
        "tensor `{tensor}`: the gradient of its output for token {token} of the text is {value}; the loss is too steep there \
         for f32. Leave that part of the text out"
    )]
    Gradient {
        /// GGUF name.
        tensor: String,
        /// Number of the token in the chunks given.
        token: usize,
        /// The gradient.
        value: f32,
    },
    /// The embedding lacks a token.
    #[error(
        "token {token} is not in the embedding of {vocab} rows; the text was tokenized for another model"
    )]
    Token {
        /// Its id.
        token: u32,
        /// Rows of the embedding.
        vocab: usize,
    },
    /// A context is longer than the model's.
    #[error(
        "a context of {asked} tokens is more than the model's {longest}; give --context {longest} or less"
    )]
    Context {
        /// Asked for.
        asked: usize,
        /// The model's.
        longest: usize,
    },
    /// The budget cannot hold the buffers.
    #[error("one layer and one chunk need {needed} bytes of memory; give --memory at least that much")]
    Memory {
        /// Bytes.
        needed: u64,
    },
    /// An observer objected.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// A temporary file cannot be written or read.
    #[error(transparent)]
    Scratch(#[from] FormatError),
    /// The run was stopped from outside.
    #[error("interrupted")]
    Interrupted,
}
