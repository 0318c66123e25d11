//! The error of pruning.

use kquant_formats::FormatError;

use crate::evaluate::RowError;
use crate::model::ModelError;
use crate::transform::{HeadsError, LayersError};

/// The reason why a part of a model cannot be pruned.
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
    /// A norm of all channels follows the activation, so that channels are not independent.
    #[error("tensor `{tensor}` norms all channels together: --ffn cannot prune this family")]
    Normed {
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
    /// So many layers cannot be cut.
    #[error(
        "--layers {cut}: `{family}` with {layers} layers can lose multiples of {period}, and must keep at least one layer"
    )]
    LayerCount {
        /// Number of layers to cut.
        cut: usize,
        /// Number of layers of the model.
        layers: usize,
        /// The architecture.
        family: String,
        /// Number of neighbouring layers that are cut together.
        period: usize,
    },
    /// The model has no experts.
    #[error("the model has no experts; --experts is for mixtures of experts")]
    NoExperts,
    /// So many experts cannot be kept.
    #[error(
        "--experts {asked}: {what}; of {experts} experts, multiples of {groups} (the groups of the router) from {least} on can be kept"
    )]
    ExpertCount {
        /// The number as it was asked for.
        asked: String,
        /// What is wrong with it.
        what: &'static str,
        /// Number of experts of the model.
        experts: u64,
        /// Number of groups of experts.
        groups: u64,
        /// The least number of experts that a token is routed among.
        least: u64,
    },
    /// So many heads cannot be cut.
    #[error(
        "--heads {cut}: a layer has {groups} key-value heads, of which at least one must go and at least one stay"
    )]
    HeadCount {
        /// Number of key-value heads to cut.
        cut: usize,
        /// Number of key-value heads of a layer.
        groups: usize,
    },
    /// Heads cannot be taken out of the model.
    #[error(transparent)]
    Heads(#[from] HeadsError),
    /// Layers cannot be taken out of the model.
    #[error(transparent)]
    Layers(#[from] LayersError),
    /// The logits of a smaller model cannot be compared with the original's.
    #[error("a model without some of the layers or experts cannot be judged")]
    Logits(#[from] RowError),
    /// The text says nothing about a layer.
    #[error("tensor `{tensor}`: its inputs over the text are {what}; give a longer text, or check the model")]
    Inputs {
        /// GGUF name of the tensor.
        tensor: String,
        /// What they are.
        what: &'static str,
    },
}
