//! The computation of a model as data: a layer is a straight list of operations on named buffers.
//!
//! Every buffer is `[tokens][width]`; the width follows from the operation that writes it.

use kquant_kernels::math::Pairs;

mod carried;
mod error;
mod groups;
mod hyper;
mod keys;
mod op;
pub mod parts;
mod recurrent;
mod rope_keys;
mod slot;
mod widths;

pub use carried::{Carried, Recalled};
pub use error::KeyError;
pub use groups::{Group, linear_groups, live, weight_name};
pub use hyper::{Experts, Growth, HeadWidths, Hyper, Latent, RopeKeys};
pub(crate) use keys::{XIELU, architecture};
pub use op::{Activation, By, CutEach, GATE_LIMIT, GateFunction, NormKind, Op, Recurrence};
pub use recurrent::Recurrent;
pub use slot::{SLOTS, Slot};

/// The properties that distinguish one architecture's forward pass from another's.
#[derive(Debug)]
pub struct Graph {
    /// True if a query sees no token after its own, unless the key `attention.causal` says otherwise; false for encoders.
    pub causal: bool,
    /// True if a learned position (`position_embd.weight`) is added to each embedding.
    pub learned_positions: bool,
    /// The kind of norm (`token_embd_norm`) of what goes into the first layer, if there is one.
    pub embedding_norm: Option<NormKind>,
    /// True if embeddings are multiplied by the root of their width (Gemma).
    pub scaled_embedding: bool,
    /// The function that gives the operations of a layer by its number.
    pub layer: fn(&Hyper, usize) -> Vec<Op>,
    /// Names of the tensors of norms that a layer may lack; the operation is left out then.
    pub optional: &'static [&'static str],
    /// Operations in the place of linear maps that a layer may lack, by the names of the maps.
    pub stand_ins: &'static [(&'static str, Op)],
    /// The kind of norm before the output.
    pub final_norm: NormKind,
    /// Name of the norm before the output, without `.weight`; `None` if there is none, as each layer ends in a norm of the stream.
    pub final_norm_name: Option<&'static str>,
    /// The elements of a head that RoPE rotates as pairs.
    pub pairs: Pairs,
    /// Layers that have a window, if the keys give its length.
    pub windows: Windows,
    /// Base of the rotary frequencies in layers with a window; `None` if it is the base of all layers.
    pub window_base: Option<f32>,
    /// True if the key `logit_scale` is a factor of logits (Cohere); elsewhere it is a divisor (Granite).
    pub multiplied_logits: bool,
    /// True if the ends of YaRN's blend are rounded to whole pairs.
    pub yarn_truncated: bool,
    /// True if blocks that predict further tokens are counted among the layers.
    pub further: bool,
    /// Factors of the stream and of logits, if the keys do not give them.
    pub scales: Option<Scales>,
    /// The routing of tokens to experts.
    pub routing: Routing,
}

/// Factors of the stream and of logits that all models of a family have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scales {
    /// Factor of embeddings.
    pub embedding: f32,
    /// Factor of what each block adds to the stream, times the root of the number of layers.
    pub depth: f32,
    /// Width of the stream at which logits are as they are; those of wider models are divided.
    pub width: f32,
}

/// The layers that attend only to a window of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    /// No layer has a window.
    Never,
    /// All layers have a window.
    Always,
    /// All layers but the last of each so many have a window; `attention.sliding_window_pattern`, another number or a list of the
    /// layers, takes precedence if the keys have it.
    Pattern(usize),
    /// All layers but the first of each so many have a window; the key takes precedence as it does for [`Windows::Pattern`].
    PatternAfter(usize),
    /// Layers from this number on have a window.
    From(usize),
}

/// The routing of tokens to experts, where the keys do not give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routing {
    /// The function from logits to scores; `None` if it is a sigmoid where the router has a correction bias, and otherwise a
    /// softmax (DeepSeek).
    pub scores: Option<Scores>,
    /// True if the weights of the chosen experts are made to sum to one.
    pub normalized: bool,
}

/// The function from a router's logits to scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scores {
    /// Softmax over all experts.
    Softmax,
    /// Sigmoid of each logit.
    Sigmoid,
    /// Softmax over the logits of the chosen experts.
    SoftmaxOfChosen,
    /// One expert after another, each with its softmax over the logits near the best of the rest (Phi 3.5 MoE).
    SparseMixer,
}

impl Graph {
    /// The most common choices, as the base for `..` in a family's graph.
    pub const PLAIN: Self = Self {
        causal: true,
        learned_positions: false,
        embedding_norm: None,
        scaled_embedding: false,
        layer: |_, _| Vec::new(),
        optional: &[],
        stand_ins: &[],
        final_norm: NormKind::Rms,
        final_norm_name: Some("output_norm"),
        pairs: Pairs::Halves,
        windows: Windows::Never,
        window_base: None,
        multiplied_logits: false,
        yarn_truncated: true,
        further: false,
        scales: None,
        routing: Routing { scores: Some(Scores::Softmax), normalized: true },
    };
}
