//! Operations and the buffers that they read and write.

use super::groups::Map;

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

/// The slots that an operation uses.
struct Uses {
    reads: Vec<Slot>,
    writes: Vec<Slot>,
}

/// For a row of the table of operations.
fn uses(reads: &[Slot], writes: &[Slot]) -> Uses {
    Uses { reads: reads.to_vec(), writes: writes.to_vec() }
}

impl Op {
    /// What it reads and what it writes: a row for each operation.
    fn uses(&self) -> Uses {
        match *self {
            Self::Norm { input, output, .. } | Self::Linear { input, output, .. } => {
                uses(&[input], &[output])
            }
            Self::Matrices { input, output, by: By::Heads, .. } => uses(&[input], &[output]),
            Self::Matrices { input, output, by: By::Routes, .. } => uses(&[input, Slot::Routes], &[output]),
            Self::Split => uses(&[Slot::Fused], &[Slot::Query, Slot::Key, Slot::Value]),
            Self::SplitGate => uses(&[Slot::Up], &[Slot::Gate, Slot::Up]),
            Self::Cut { input, outputs, .. } => uses(&[input], &outputs),
            Self::Join { inputs, output, .. } => uses(&inputs, &[output]),
            Self::Rope { slot } => uses(&[slot], &[slot]),
            Self::Attention { .. } => uses(&[Slot::Query, Slot::Key, Slot::Value], &[Slot::Attended]),
            Self::Activate(f) if f.is_gate() => uses(&[Slot::Gate, Slot::Up], &[Slot::Gate]),
            Self::Activate(_) => uses(&[Slot::Up], &[Slot::Up]),
            Self::Route { .. } => uses(&[Slot::Router], &[Slot::Routes]),
            Self::Combine => uses(&[Slot::ExpertOut, Slot::Routes], &[Slot::Delta]),
            Self::Add => uses(&[Slot::Stream, Slot::Delta], &[Slot::Stream]),
        }
    }

    /// Slots that it reads.
    pub fn reads(&self) -> Vec<Slot> {
        self.uses().reads
    }

    /// Slots that it writes.
    pub fn writes(&self) -> Vec<Slot> {
        self.uses().writes
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
