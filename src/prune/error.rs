//! The error of pruning.

use kquant_formats::FormatError;

use crate::model::ModelError;

/// The reason why channels cannot be pruned.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// The forward or the backward pass failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The temporary file cannot be created, written or read.
    #[error(transparent)]
    File(#[from] FormatError),
    /// The model has experts, whose channels cannot be pruned.
    #[error(
        "tensor `{tensor}`: channels of experts cannot be pruned yet; --ffn is for models without experts"
    )]
    Experts {
        /// GGUF name of the tensor.
        tensor: String,
    },
    /// A layer has no feed-forward network of the usual form.
    #[error("layer {layer} has no `ffn_down.weight`: --ffn cannot prune this family")]
    NoFeedForward {
        /// Number of the layer.
        layer: usize,
    },
    /// The layers are not equally wide.
    #[error(
        "layer {layer} has {other} channels, layer 0 has {first}: --ffn cannot prune layers of different widths yet"
    )]
    Widths {
        /// Number of the first layer that differs.
        layer: usize,
        /// Number of channels of the first layer.
        first: u64,
        /// Number of channels of the layer that differs.
        other: u64,
    },
    /// The memory budget cannot hold the matrices of a layer.
    #[error("layer {layer} needs {needed} bytes of memory to be pruned; give --memory at least that much")]
    Memory {
        /// Number of the layer.
        layer: usize,
        /// Bytes that are needed.
        needed: u64,
    },
    /// The width that was asked for cannot be.
    #[error(
        "--ffn {asked}: {what}; possible widths are multiples of {step} below {channels}, such as {near}"
    )]
    Width {
        /// The width as it was asked for.
        asked: String,
        /// What is wrong with it.
        what: &'static str,
        /// Widths are multiples of this.
        step: u64,
        /// Number of channels of the model.
        channels: u64,
        /// The possible width that is nearest.
        near: u64,
    },
    /// The text says nothing about a layer.
    #[error("tensor `{tensor}`: its inputs over the text are {what}; give a longer text, or check the model")]
    Inputs {
        /// GGUF name of the tensor.
        tensor: String,
        /// What they are.
        what: &'static str,
    },
}
