//! Reasons why a model cannot be written as a folder.

use std::path::PathBuf;

use kquant_formats::FormatError;
use kquant_formats::json::JsonError;

use crate::arch::{ArchError, ConfigError};
use crate::checkpoint::{OpenError, ReadError};
use crate::convert::ConvertError;

/// The reason why a model cannot be written as a Hugging Face folder.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The source has no configuration and tokenizer in Hugging Face's form.
    #[error(
        "the source is a GGUF, of which no Hugging Face folder can be made: give -o FILE.gguf, or the folder that the GGUF was made of"
    )]
    Gguf,
    /// Nothing is known of how the family's layers are written back.
    #[error("recurrent layers, as those of `{0}`, are not written to a folder yet: give -o FILE.gguf")]
    Recurrent(String),
    /// The source's weights are quantized.
    #[error(
        "tensor `{tensor}` is quantized ({dtype}), and only F32, F16 and BF16 are written to a folder: give -o FILE.gguf"
    )]
    Quantized {
        /// Name of the checkpoint tensor.
        tensor: String,
        /// Its type.
        dtype: String,
    },
    /// A part of the model is in no tensor of the source.
    #[error("tensor `{0}` belongs to no tensor of the source's folder: give -o FILE.gguf")]
    Foreign(String),
    /// The new configuration stands for another tensor than the model has.
    #[error(
        "tensor `{tensor}` is {actual:?}, but would be {expected:?} by a config.json of this family: give -o FILE.gguf"
    )]
    Shape {
        /// GGUF name of the tensor.
        tensor: String,
        /// Dimensions that the configuration implies, columns first; empty if it implies no such tensor.
        expected: Vec<u64>,
        /// Dimensions of the model's tensor; empty if it has none.
        actual: Vec<u64>,
    },
    /// Some weights of a checkpoint tensor are in no converted tensor.
    #[error(
        "tensor `{tensor}` of the folder has {weights} weights, of which the model gives {given}: give -o FILE.gguf"
    )]
    Hole {
        /// Name of the checkpoint tensor.
        tensor: String,
        /// Number of its weights.
        weights: u64,
        /// Number of those that are known.
        given: u64,
    },
    /// A number cannot be said in the configuration.
    #[error(
        "`{key}` is {wanted}, which a config.json of this family cannot say (it would be {found}): give -o FILE.gguf"
    )]
    Key {
        /// GGUF key.
        key: String,
        /// Value of the model.
        wanted: String,
        /// Value that the configuration leads to.
        found: String,
    },
    /// The family's heads have no width of their own in transformers.
    #[error(
        "heads stay {head} wide, but transformers makes those of {model_type} as wide as the hidden state by their number: give -o FILE.gguf"
    )]
    HeadWidth {
        /// Width of a head.
        head: u64,
        /// The value of `model_type`.
        model_type: String,
    },
    /// The tokens are not some of the source's in the same order.
    #[error("token {0} of the model is none of the source's: give -o FILE.gguf")]
    Token(usize),
    /// The kind of tokenizer cannot be trimmed.
    #[error("{path}: {what}: give -o FILE.gguf", path = .path.display())]
    Tokenizer {
        /// Path of the file.
        path: PathBuf,
        /// What it has that cannot be trimmed.
        what: String,
    },
    /// A file is not JSON.
    #[error("{path} is not valid JSON: {fault}; correct the file or fetch it again", path = .path.display())]
    Json {
        /// Path of the file.
        path: PathBuf,
        /// What the parser said; it is not called `source`, because the message contains it.
        fault: JsonError,
    },
    /// The folder does not read back as the model.
    #[error("the new folder does not read back as the same model: {0}; give -o FILE.gguf, and report this")]
    Different(String),
    /// The run was asked to stop.
    #[error("stopped; nothing was written")]
    Cancelled,
    /// The new configuration is not understood.
    #[error(transparent)]
    Arch(#[from] ArchError),
    /// The source's configuration cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The source cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The source or the result cannot be converted.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// Weights cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FormatError),
}
