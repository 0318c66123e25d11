//! A layer as a straight list of operations on named buffers.
//!
//! Every buffer is `[tokens][width]`; the width follows from what is written into it.

/// A buffer of the tile at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// The residual stream, `[tokens][hidden]`; the only one that outlives a layer.
    Stream,
    /// What a norm made of it, `[tokens][hidden]`.
    Normed,
    /// Queries, keys and values side by side, `[tokens][(heads + 2 * kv_heads) * head]`.
    Fused,
    /// Queries, `[tokens][heads * head]`.
    Query,
    /// Keys, `[tokens][kv_heads * head]`.
    Key,
    /// Values, `[tokens][kv_heads * head]`.
    Value,
    /// What attention gathered, `[tokens][heads * head]`.
    Attended,
    /// The gate of the feed-forward network, `[tokens][ffn]`.
    Gate,
    /// Its upward projection, `[tokens][ffn]`.
    Up,
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

/// One step of a layer. Tensor names lack `blk.N.` and `.weight`; a bias is applied where the model has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// `output = norm(input)`, with the tensor called `name`.
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
    /// Cuts [`Slot::Fused`] into queries, keys and values.
    Split,
    /// Rotates queries or keys by their positions, neighbouring pairs together (llama.cpp's NORM layout).
    Rope {
        /// Rotated in place.
        slot: Slot,
    },
    /// Causal attention over the chunk: queries, keys, values to [`Slot::Attended`].
    Attention,
    /// `gate = silu(gate) * up`.
    SiluGate,
    /// The tanh form of GELU on [`Slot::Up`].
    Gelu,
    /// `stream += delta`.
    Add,
}
