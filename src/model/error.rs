//! Errors of running a model.

use std::path::PathBuf;

use kquant_formats::FormatError;

use super::ObserveError;
use crate::checkpoint::OpenError;
use crate::convert::ConvertError;
use crate::graph::KeyError;
use crate::vocab::TokenizerError;

/// The reason why a model cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The model's configuration, tensors or tokenizer cannot be converted.
    #[error("{path}")]
    Input {
        /// Path of the model.
        path: PathBuf,
        /// Error of the conversion.
        source: ConvertError,
    },
    /// The model's tokenizer cannot be read.
    #[error("{path}")]
    Tokenizer {
        /// Path of the model.
        path: PathBuf,
        /// Error of the tokenizer.
        source: TokenizerError,
    },
    /// No token can begin a text.
    #[error(
        "{path} has neither a beginning-of-sequence nor an end-of-sequence token, so that no text can be begun; add one of them to its tokenizer"
    )]
    NoBeginning {
        /// Path of the model.
        path: PathBuf,
    },
    /// Options of sampling that cannot be met.
    #[error("{0}")]
    Sampling(&'static str),
    /// Two models have different tokens.
    #[error(
        "{path} and {other} have different vocabularies, so that their predictions cannot be compared: {what}; give the model that the \
         first was made of"
    )]
    Vocabulary {
        /// Path of one model.
        path: PathBuf,
        /// Path of the other model.
        other: PathBuf,
        /// The first difference.
        what: String,
    },
    /// A hyper-parameter is missing or wrong.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The architecture is one that can be converted but not run.
    #[error("architecture `{name}` cannot be run yet; known are {known}")]
    Architecture {
        /// Value of `general.architecture`.
        name: String,
        /// Names of the architectures that can be run.
        known: String,
    },
    /// The model is an encoder, where one that predicts tokens is needed.
    #[error(
        "architecture `{name}` is an encoder, which embeds texts and predicts no tokens: `kquant quantize` quantizes it, with \
         --calibrate TEXT up to --quality good, and `kquant evaluate MODEL --embedding TEXT --base ORIGINAL` compares its embeddings"
    )]
    Encoder {
        /// Value of `general.architecture`.
        name: String,
    },
    /// A tensor is missing, or has another shape than the keys require.
    #[error("tensor `{tensor}` {what}")]
    Tensor {
        /// GGUF name of the tensor.
        tensor: String,
        /// Description of the fault.
        what: String,
    },
    /// A layer was requested that does not exist.
    #[error("layer {asked} is not there; the model has {layers}, counted from 0")]
    Layer {
        /// Number of the requested layer, from 0.
        asked: usize,
        /// Number of layers of the model.
        layers: usize,
    },
    /// A graph cannot be run, which is a fault of kquant and not of the model.
    #[error("the graph of layer {layer} {what}; this is a fault of kquant, please report it")]
    Graph {
        /// Number of the layer.
        layer: usize,
        /// Description of the fault.
        what: String,
    },
    /// Rows of a tensor cannot be read.
    #[error("{what}")]
    Read {
        /// Description of the rows and of the cause.
        what: String,
    },
    /// A weight is NaN or infinite.
    #[error("tensor `{tensor}`: weight at row {row}, column {column} is {value}; the file is damaged")]
    Weight {
        /// GGUF name of the tensor.
        tensor: String,
        /// Row of the weight, from 0.
        row: u64,
        /// Column of the weight, from 0.
        column: u64,
        /// Value of the weight.
        value: f32,
    },
    /// An activation is NaN or infinite.
    #[error(
        "tensor `{tensor}`: its output for token {token} of the text is {value}; weights of this size overflow f32"
    )]
    Activation {
        /// GGUF name of the weight.
        tensor: String,
        /// Number of the token in the chunks given.
        token: usize,
        /// Value of the activation.
        value: f32,
    },
    /// A gradient is NaN or infinite.
    #[error(
        "tensor `{tensor}`: the gradient of its output for token {token} of the text is {value}; the loss is too steep there \
         for f32. Leave that part of the text out"
    )]
    Gradient {
        /// GGUF name of the weight.
        tensor: String,
        /// Number of the token in the chunks given.
        token: usize,
        /// Value of the gradient.
        value: f32,
    },
    /// A token is outside of the embedding.
    #[error(
        "token {token} is not in the embedding of {vocab} rows; the text was tokenized for another model"
    )]
    Token {
        /// Id of the token.
        token: u32,
        /// Number of rows of the embedding.
        vocab: usize,
    },
    /// A context is longer than the model allows.
    #[error(
        "a context of {asked} tokens is more than the model's {longest}; give --context {longest} or less"
    )]
    Context {
        /// Requested length in tokens.
        asked: usize,
        /// Longest context of the model in tokens.
        longest: usize,
    },
    /// The memory limit does not suffice for the buffers.
    #[error("one layer and one chunk need {needed} bytes of memory; give --memory at least that much")]
    Memory {
        /// Bytes that are needed.
        needed: u64,
    },
    /// An observer could not use or keep what it saw.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// A temporary file cannot be written or read.
    #[error(transparent)]
    Scratch(#[from] FormatError),
    /// The run was stopped from outside.
    #[error("interrupted")]
    Interrupted,
}
