//! What a model computes, as data: a layer as a straight list of operations on named buffers.
//!
//! Every buffer is `[tokens][width]`; the width follows from what is written into it.

use std::collections::BTreeSet;
use std::ops::Range;

use kquant_kernels::math::Pairs;

mod error;
mod hyper;
mod keys;
pub mod parts;
mod rope_keys;

pub use error::KeyError;
pub use hyper::{Experts, Hyper, Latent, RopeKeys};
pub(crate) use keys::architecture;

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

/// A buffer of the tile at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// The residual stream, `[tokens][hidden]`; the only one that outlives a layer.
    Stream,
    /// What a norm made of it, `[tokens][hidden]`.
    Normed,
    /// What a second norm made of the same stream, for the feed-forward network beside attention, `[tokens][hidden]`.
    NormedParallel,
    /// Queries, keys and values side by side, `[tokens][(heads + 2 * kv_heads) * head]`; in latent attention, the latent vector
    /// that keys and values come from, and the rotary part of the key.
    Fused,
    /// Queries, `[tokens][heads * head]`.
    Query,
    /// Keys, `[tokens][kv_heads * head]`.
    Key,
    /// Values, `[tokens][kv_heads * value]`.
    Value,
    /// What attention gathered, `[tokens][heads * value]`.
    Attended,
    /// Latent attention: the narrow vector that queries come from.
    LowQuery,
    /// Latent attention: queries before their fixed part is multiplied by `attn_k_b`, `[tokens][heads * (fixed + rotary)]`.
    WholeQuery,
    /// Latent attention: the part of each query that RoPE leaves alone, `[tokens][heads * fixed]`.
    FixedQuery,
    /// Latent attention: the part of each query that RoPE rotates, `[tokens][heads * rotary]`.
    RotaryQuery,
    /// Latent attention: the part of the key that RoPE rotates, `[tokens][rotary]`.
    RotaryKey,
    /// Latent attention: the fixed part of queries in the space of the latent values, `[tokens][heads * rank]`.
    LatentQuery,
    /// Latent attention: attended values, out of the latent space.
    Gathered,
    /// The router's logits, `[tokens][experts]`.
    Router,
    /// The experts chosen, as numbers, then their weights: `[tokens][2 * used]`.
    Routes,
    /// The gate of the feed-forward network, `[tokens][ffn]`; of a mixture `[tokens][used * ffn]`.
    Gate,
    /// Its upward projection, as wide as the gate.
    Up,
    /// The outputs of the experts that each token is routed to, `[tokens][used * hidden]`.
    ExpertOut,
    /// What a block adds to the stream, `[tokens][hidden]`.
    Delta,
}

/// Number of slots.
pub const SLOTS: usize = Slot::Delta as usize + 1;

/// Which normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// Root mean square: weight, no bias.
    Rms,
    /// Mean and variance: weight and bias.
    Layer,
}

/// Which of the matrices of a tensor `[matrices][outputs][inputs]` a row is multiplied by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The matrices of the experts that the token is routed to.
    Routes,
    /// Part i of the row is multiplied by matrix i.
    Heads,
}

/// Bound of gate and up in [`Activation::ClampedGate`]: `swiglu_limit` of gpt-oss.
pub const GATE_LIMIT: f32 = 7.0;

/// Activation functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `gate = silu(gate) * up`.
    SiluGate,
    /// `gate = gelu(gate) * up`, GELU by its tanh form.
    GeluGate,
    /// gpt-oss: both bounded by [`GATE_LIMIT`], `gate = gate * sigmoid(1.702 gate) * (up + 1)`.
    ClampedGate,
    /// The tanh form of GELU on [`Slot::Up`].
    Gelu,
    /// GELU by its definition on [`Slot::Up`].
    GeluErf,
}

impl Activation {
    /// Whether it works on gate and up.
    pub fn is_gate(self) -> bool {
        matches!(self, Self::SiluGate | Self::GeluGate | Self::ClampedGate)
    }
}

/// One step of a layer. Tensor names lack `blk.N.` and `.weight`; a bias is applied where the model has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// `output = norm(input)`, with the tensor called `name`: over the whole width, or part by part if the tensor is as wide
    /// as a head. All heads share its weights, or have their own in `[heads][head]`. Both may be the same slot.
    Norm {
        /// Read.
        input: Slot,
        /// Written.
        output: Slot,
        /// Tensor.
        name: &'static str,
        /// Which norm.
        kind: NormKind,
    },
    /// `output = input * weight'`: what observers see and quantization rounds.
    Linear {
        /// Read.
        input: Slot,
        /// Written.
        output: Slot,
        /// Tensor, `[outputs][inputs]`.
        name: &'static str,
    },
    /// As [`Op::Linear`] with one of several matrices for each part of a row.
    Matrices {
        /// Read: one part for every matrix that the row is routed to, or one for all.
        input: Slot,
        /// Written: one part for every matrix that the row is routed to.
        output: Slot,
        /// Tensor, `[matrices][outputs][inputs]`.
        name: &'static str,
        /// Which matrices.
        by: By,
    },
    /// Cuts [`Slot::Fused`] into queries, keys and values.
    Split,
    /// Cuts [`Slot::Up`] into gate and up, the gate first.
    SplitGate,
    /// Cuts each row, or each of its heads, in two.
    Cut {
        /// Read.
        input: Slot,
        /// Written.
        outputs: [Slot; 2],
        /// Whether every head is cut.
        heads: bool,
    },
    /// Undoes [`Op::Cut`].
    Join {
        /// Read.
        inputs: [Slot; 2],
        /// Written.
        output: Slot,
        /// Whether they are joined head by head.
        heads: bool,
    },
    /// Rotates queries or keys by their positions.
    Rope {
        /// Rotated in place.
        slot: Slot,
    },
    /// Causal attention over the chunk: queries, keys, values to [`Slot::Attended`].
    Attention {
        /// A score per head without a value, if the architecture has such: a tensor `[heads]`.
        sinks: Option<&'static str>,
    },
    /// The activation function of the feed-forward network.
    Activate(Activation),
    /// Chooses experts by [`Slot::Router`], whose scores the tensor `bias`, where the model has it, corrects for the choice
    /// alone.
    Route {
        /// Tensor `[experts]`, called `blk.N.{bias}.bias`.
        bias: &'static str,
    },
    /// `delta` = the weighted sum of the experts' outputs.
    Combine,
    /// `stream += delta`, times the residual scale of the keys.
    Add,
}

impl Op {
    /// Slots that it reads.
    pub fn reads(&self) -> Vec<Slot> {
        match *self {
            Self::Norm { input, .. } | Self::Linear { input, .. } | Self::Cut { input, .. } => vec![input],
            Self::Matrices { input, by: By::Heads, .. } => vec![input],
            Self::Matrices { input, by: By::Routes, .. } => vec![input, Slot::Routes],
            Self::Split => vec![Slot::Fused],
            Self::SplitGate => vec![Slot::Up],
            Self::Join { inputs, .. } => inputs.to_vec(),
            Self::Rope { slot } => vec![slot],
            Self::Attention { .. } => vec![Slot::Query, Slot::Key, Slot::Value],
            Self::Activate(f) if f.is_gate() => vec![Slot::Gate, Slot::Up],
            Self::Activate(_) => vec![Slot::Up],
            Self::Route { .. } => vec![Slot::Router],
            Self::Combine => vec![Slot::ExpertOut, Slot::Routes],
            Self::Add => vec![Slot::Stream, Slot::Delta],
        }
    }

    /// Slots that it writes.
    pub fn writes(&self) -> Vec<Slot> {
        match *self {
            Self::Norm { output, .. } | Self::Linear { output, .. } => vec![output],
            Self::Matrices { output, .. } | Self::Join { output, .. } => vec![output],
            Self::Split => vec![Slot::Query, Slot::Key, Slot::Value],
            Self::SplitGate => vec![Slot::Gate, Slot::Up],
            Self::Cut { outputs, .. } => outputs.to_vec(),
            Self::Rope { slot } => vec![slot],
            Self::Attention { .. } => vec![Slot::Attended],
            Self::Activate(f) if f.is_gate() => vec![Slot::Gate],
            Self::Activate(_) => vec![Slot::Up],
            Self::Route { .. } => vec![Slot::Routes],
            Self::Combine => vec![Slot::Delta],
            Self::Add => vec![Slot::Stream],
        }
    }

    /// The linear map that this operation is, if it is one.
    pub(crate) fn map(&self) -> Option<Map> {
        match *self {
            Self::Linear { input, output, name } => Some(Map { input, output, name, by: None }),
            Self::Matrices { input, output, name, by } => Some(Map { input, output, name, by: Some(by) }),
            _ => None,
        }
    }
}

/// A linear map of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Map {
    pub input: Slot,
    pub output: Slot,
    pub name: &'static str,
    pub by: Option<By>,
}

/// Linear maps that follow each other and read the same input: they share its statistics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What they read.
    pub input: Slot,
    /// Which of several matrices a row is routed to, if there are several.
    pub by: Option<By>,
    /// Their places in the layer's operations.
    pub ops: Range<usize>,
    /// Whether their only output is added to the stream right away.
    pub residual: bool,
}

impl Group {
    /// GGUF names of its weights in layer number `number`, whose operations are `layer`.
    pub fn tensors(&self, layer: &[Op], number: usize) -> Vec<String> {
        let name = |op: &Op| op.map().map(|map| weight_name(number, map.name));
        layer.get(self.ops.clone()).unwrap_or_default().iter().filter_map(name).collect()
    }
}

/// GGUF name of a layer's weight.
pub fn weight_name(layer: usize, name: &str) -> String {
    format!("blk.{layer}.{name}.weight")
}

/// The groups of a layer, in order.
pub fn linear_groups(layer: &[Op]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (at, op) in layer.iter().enumerate() {
        let Some(Map { input, output, by, .. }) = op.map() else { continue };
        match groups.last_mut() {
            Some(group) if group.ops.end == at && group.input == input && group.by == by => {
                group.ops.end = at + 1;
                group.residual = false;
            }
            _ => {
                let residual = by.is_none() && output == Slot::Delta && layer.get(at + 1) == Some(&Op::Add);
                groups.push(Group { input, by, ops: at..at + 1, residual });
            }
        }
    }
    groups
}

/// Slots whose contents the operations from `from` on need, and the stream.
pub fn live(layer: &[Op], from: usize) -> Vec<Slot> {
    let mut live = BTreeSet::from([Slot::Stream]);
    for op in layer[from..].iter().rev() {
        for slot in op.writes() {
            live.remove(&slot);
        }
        live.extend(op.reads());
    }
    live.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::parts::*;

    fn llama() -> Vec<Op> {
        [ATTENTION_NORM, QUERY_KEY_VALUE, TURN, ATTEND, ADD, FEED_FORWARD_NORM, SILU, ADD].concat()
    }

    #[test]
    fn groups_share_their_input_and_little_is_live_between_them() {
        let layer = llama();
        let groups = linear_groups(&layer);
        let inputs: Vec<_> = groups.iter().map(|g| (g.input, g.ops.len(), g.residual)).collect();
        assert_eq!(
            inputs,
            [
                (Slot::Normed, 3, false),
                (Slot::Attended, 1, true),
                (Slot::Normed, 2, false),
                (Slot::Gate, 1, true)
            ]
        );
        let lives: Vec<_> = groups.iter().map(|g| live(&layer, g.ops.start)).collect();
        assert_eq!(lives[0], [Slot::Stream, Slot::Normed]);
        assert_eq!(lives[1], [Slot::Stream, Slot::Attended]);
        assert_eq!(lives[3], [Slot::Stream, Slot::Gate]);
        assert_eq!(live(&layer, layer.len()), [Slot::Stream]);
    }

    #[test]
    fn experts_are_groups_of_their_own() {
        let groups = linear_groups(SILU_EXPERTS);
        let inputs: Vec<_> = groups.iter().map(|g| (g.input, g.by, g.ops.len(), g.residual)).collect();
        let routed = Some(By::Routes);
        let expected = [
            (Slot::Normed, None, 1, false),
            (Slot::Normed, routed, 2, false),
            (Slot::Gate, routed, 1, false),
        ];
        assert_eq!(inputs, expected);
        let before_down = live(SILU_EXPERTS, groups[2].ops.start);
        assert_eq!(before_down, [Slot::Stream, Slot::Routes, Slot::Gate]);
    }

    #[test]
    fn maps_apart_or_of_other_inputs_are_not_grouped() {
        let linear = |input, name| Op::Linear { input, output: Slot::Delta, name };
        let ops = [
            linear(Slot::Normed, "a"),
            linear(Slot::Up, "b"),
            linear(Slot::Up, "c"),
            Op::Activate(Activation::Gelu),
            linear(Slot::Up, "d"),
        ];
        let groups: Vec<_> = linear_groups(&ops).iter().map(|g| g.ops.clone()).collect();
        assert_eq!(groups, [0..1, 1..3, 4..5]);
    }
}
