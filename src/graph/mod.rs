//! What a model computes, as data: a layer as a straight list of operations on named buffers.
//!
//! Every buffer is `[tokens][width]`; the width follows from what is written into it.

use kquant_kernels::math::Pairs;

mod error;
mod groups;
mod hyper;
mod keys;
mod op;
pub mod parts;
mod rope_keys;

pub use error::KeyError;
pub use groups::{Group, linear_groups, live, weight_name};
pub use hyper::{Experts, Hyper, Latent, RopeKeys};
pub(crate) use keys::architecture;
pub use op::{Activation, By, GATE_LIMIT, NormKind, Op, SLOTS, Slot};

/// What distinguishes one architecture's forward pass from another's.
#[derive(Debug)]
pub struct Graph {
    /// Whether a learned position (`position_embd.weight`) is added to each embedding.
    pub learned_positions: bool,
    /// Whether embeddings are multiplied by the root of their width (Gemma).
    pub scaled_embedding: bool,
    /// The steps of a layer, by its number.
    pub layer: fn(&Hyper, usize) -> Vec<Op>,
    /// Norms that a layer may lack, by the names of their tensors: the step is left out then.
    pub optional: &'static [&'static str],
    /// The norm before the output.
    pub final_norm: NormKind,
    /// Which elements of a head turn together.
    pub pairs: Pairs,
    /// Which layers see a window of the text only, if the keys give its length.
    pub windows: Windows,
    /// Base of the rotary frequencies in layers with a window; that of all layers if `None`.
    pub window_base: Option<f32>,
    /// Whether the ends of YaRN's blend are whole pairs.
    pub yarn_truncated: bool,
    /// How tokens find their experts.
    pub routing: Routing,
}

/// Which layers see a window of the text only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    /// None.
    Never,
    /// All.
    Always,
    /// All but the last of so many: `attention.sliding_window_pattern`, if the keys have it, takes precedence.
    Pattern(usize),
    /// Those from this one on.
    From(usize),
}

/// How tokens find their experts, where the keys do not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routing {
    /// From logits to scores.
    pub scores: Scores,
    /// Whether the weights of the chosen experts are made to sum to one.
    pub normalized: bool,
}

/// From a router's logits to scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scores {
    /// Softmax over all experts.
    Softmax,
    /// Sigmoid of each.
    Sigmoid,
    /// Softmax over those that are chosen, by their logits.
    SoftmaxOfChosen,
}

impl Graph {
    /// The commonest choices, for `..` in a family's own.
    pub const PLAIN: Self = Self {
        learned_positions: false,
        scaled_embedding: false,
        layer: |_, _| Vec::new(),
        optional: &[],
        final_norm: NormKind::Rms,
        pairs: Pairs::Halves,
        windows: Windows::Never,
        window_base: None,
        yarn_truncated: true,
        routing: Routing { scores: Scores::Softmax, normalized: true },
    };
}
