//! Dimensions of a model and their names in tables of tensors.

use super::layers::LayerSet;

/// A dimension as the configuration gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::arch) enum Dim {
    /// A dimension of 1.
    One,
    /// Number of tokens of the vocabulary.
    Vocab,
    /// Number of positions in a learned position table.
    Positions,
    /// Number of positions in a learned position table of the checkpoint, of which the first may be left out.
    StoredPositions,
    /// Number of types of tokens.
    TokenTypes,
    /// Width of the hidden state.
    Hidden,
    /// Width inside the feed-forward network.
    FeedForward,
    /// Number of heads times the width of a head.
    Query,
    /// Number of key-value heads times the width of a head.
    KeyValue,
    /// Number of query, key and value rows in one tensor.
    Fused,
    /// Width of a head.
    Head,
    /// Number of attention heads.
    Heads,
    /// Number of key-value heads.
    KvHeads,
    /// Width of gate and upward projection in one tensor.
    GateUp,
    /// Number of experts of a layer.
    Experts,
    /// Width inside an expert.
    ExpertFeedForward,
    /// Width of gate and upward projection of an expert in one tensor.
    ExpertGateUp,
    /// Width inside the shared experts, which all tokens pass through.
    SharedFeedForward,
    /// Width of gate and upward projection of the shared experts in one tensor.
    SharedGateUp,
    /// Latent attention: width of the vector that queries come from.
    LowQuery,
    /// Latent attention: width of the vector that keys and values come from.
    Rank,
    /// Latent attention: width of the vector that keys and values come from, and of the part of a key that RoPE rotates.
    RankAndRotary,
    /// Latent attention: width of the part of a head's key that RoPE leaves alone.
    Fixed,
    /// Latent attention: width of a head's value.
    Value,
    /// Latent attention: width of all heads' queries.
    WholeQuery,
    /// Latent attention: width of all heads' values and fixed parts of keys.
    FixedAndValue,
    /// Width of all heads' values.
    Values,
    /// Number of tokens that a causal convolution sees.
    Kernel,
    /// Recurrent layers: width of what they compute before the output projection, all heads together.
    Inner,
    /// Recurrent layers: number of heads.
    StateHeads,
    /// Recurrent layers: width of a head's value.
    StateValue,
    /// Recurrent layers: channels of the convolution: queries, keys and values.
    Channels,
    /// Recurrent layers: strengths and steps of all heads.
    TwoStateHeads,
    /// Recurrent layers: channels of the convolution and the gate of the output.
    ChannelsAndGate,
    /// Recurrent layers: number of groups of heads that share queries and keys.
    StateGroups,
    /// Recurrent layers: width of a group of heads.
    StateGroup,
    /// Mamba: gate, channels and steps in one projection.
    StateProjection,
    /// Width of the input that a layer has from the tokens themselves.
    LayerInput,
    /// Width of the inputs that all layers have from the tokens themselves.
    LayerInputs,
    /// Width of two hidden states side by side.
    TwoHidden,
    /// Gated attention: queries and gates of all heads.
    QueryAndGate,
    /// Short convolution: width of its two gates and its input.
    ShortProjection,
}

/// The dimensions of a model.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::arch) struct Sizes {
    pub layers: u32,
    pub vocab: u32,
    pub positions: u32,
    /// Number of positions at the start of a learned position table that no token of a text has.
    pub skipped_positions: u32,
    /// Number of types of tokens; 0 without an embedding of them.
    pub token_types: u32,
    pub hidden: u32,
    pub feed_forward: u32,
    pub heads: u32,
    pub kv_heads: u32,
    pub head_dim: u32,
    /// Number of dimensions of a head that RoPE rotates.
    pub rotary: u32,
    /// Number of experts of a layer; 0 without a mixture.
    pub experts: u32,
    pub experts_used: u32,
    pub expert_feed_forward: u32,
    pub shared_feed_forward: u32,
    /// Number of layers at the start without a mixture.
    pub dense_layers: u32,
    /// Number of layers after the last that predict further tokens, which the converter leaves out.
    pub further_layers: u32,
    pub latent: Latent,
    /// Number of tokens that the causal convolution of recurrent layers sees; 0 without one.
    pub kernel: u32,
    pub scan: ScanSizes,
    /// Layers that are recurrent and have no attention.
    pub recurrent: LayerSet,
    /// Layers that are a feed-forward network alone, without attention or recurrence.
    pub alone: LayerSet,
    /// Heads of some layers that are others than those of the rest.
    pub other_heads: OtherHeads,
    /// Layers that attend to keys and values of layers before.
    pub sharing: LayerSet,
    /// Layers whose feed-forward network is twice as wide.
    pub double: LayerSet,
    /// Width of the input that each layer has from the tokens themselves; 0 without one.
    pub layer_input: u32,
    /// Factors of weights that the converter multiplies.
    pub multipliers: Multipliers,
    /// True if the output of recurrent layers has a norm.
    pub scan_norm: bool,
    /// True if attention and the feed-forward network read one norm and add to the stream in parallel.
    pub side_by_side: bool,
    /// True if attention and the feed-forward network, which read the same stream, have norms of their own.
    pub norms_apart: bool,
    /// True if queries and keys have norms.
    pub query_key_norms: bool,
}

/// Heads of some layers that are others than those of the rest.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::arch) struct OtherHeads {
    pub layers: LayerSet,
    pub head_dim: u32,
    pub kv_heads: u32,
    /// True if these layers have no projection to values, and keys before their norm are the values.
    pub values_are_keys: bool,
}

/// Factors that weights are multiplied by (Falcon H1).
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::arch) struct Multipliers {
    pub embedding: f32,
    pub output: f32,
    pub attention_in: f32,
    pub attention_out: f32,
    pub keys: f32,
    pub scan_in: f32,
    /// Gate, values, keys, queries and steps of the recurrence.
    pub scan_parts: [f32; 5],
    pub scan_out: f32,
    pub gate: f32,
    pub down: f32,
}

/// The dimensions of latent attention; 0 without it.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::arch) struct Latent {
    pub low_query: u32,
    pub rank: u32,
    pub fixed: u32,
    pub value: u32,
}

/// The dimensions of a recurrence; 0 without one.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::arch) struct ScanSizes {
    /// Number of heads.
    pub heads: u32,
    /// Number of groups of heads that share queries and keys (B and C of Mamba).
    pub groups: u32,
    /// Width of a query and a key.
    pub state: u32,
    /// Width of a value.
    pub value: u32,
}

impl ScanSizes {
    /// Returns the width of all heads' values.
    pub(in crate::arch) fn inner(&self) -> u32 {
        self.heads.saturating_mul(self.value)
    }

    /// Returns the width of all groups' queries.
    pub(in crate::arch) fn keys(&self) -> u64 {
        u64::from(self.groups).saturating_mul(self.state.into())
    }
}

impl Sizes {
    /// Returns the dimensions of layer `layer`, or those outside the layers.
    pub(in crate::arch) fn in_layer(&self, layer: Option<u32>) -> Self {
        let mut sizes = *self;
        if let Some(layer) = layer {
            if self.other_heads.layers.has(layer) {
                (sizes.head_dim, sizes.kv_heads) = (self.other_heads.head_dim, self.other_heads.kv_heads);
            }
            if self.double.has(layer) {
                sizes.feed_forward = self.feed_forward.saturating_mul(2);
            }
        }
        sizes
    }

    /// Returns the dimension, saturating at the largest u64.
    pub(in crate::arch) fn get(&self, dim: Dim) -> u64 {
        let [heads, kv_heads, head_dim] = [self.heads, self.kv_heads, self.head_dim].map(u64::from);
        let [rank, fixed, value] = [self.latent.rank, self.latent.fixed, self.latent.value].map(u64::from);
        let [rotary, ffn, expert_ffn] =
            [self.rotary, self.feed_forward, self.expert_feed_forward].map(u64::from);
        let inner = u64::from(self.scan.inner());
        let channels = self.scan.keys().saturating_mul(2).saturating_add(inner);
        match dim {
            Dim::One => 1,
            Dim::Vocab => self.vocab.into(),
            Dim::Positions => self.positions.into(),
            Dim::StoredPositions => u64::from(self.positions) + u64::from(self.skipped_positions),
            Dim::TokenTypes => self.token_types.into(),
            Dim::Hidden => self.hidden.into(),
            Dim::FeedForward => self.feed_forward.into(),
            Dim::Query => heads.saturating_mul(head_dim),
            Dim::KeyValue => kv_heads.saturating_mul(head_dim),
            Dim::Fused => heads.saturating_add(kv_heads.saturating_mul(2)).saturating_mul(head_dim),
            Dim::Head => head_dim,
            Dim::Heads => heads,
            Dim::KvHeads => kv_heads,
            Dim::GateUp => 2 * ffn,
            Dim::Experts => self.experts.into(),
            Dim::ExpertFeedForward => expert_ffn,
            Dim::ExpertGateUp => 2 * expert_ffn,
            Dim::SharedFeedForward => self.shared_feed_forward.into(),
            Dim::SharedGateUp => 2 * u64::from(self.shared_feed_forward),
            Dim::LowQuery => self.latent.low_query.into(),
            Dim::Rank => rank,
            Dim::RankAndRotary => rank + rotary,
            Dim::Fixed => fixed,
            Dim::Value => value,
            Dim::WholeQuery => heads.saturating_mul(fixed + rotary),
            Dim::FixedAndValue => heads.saturating_mul(fixed + value),
            Dim::Values => heads.saturating_mul(value),
            Dim::Kernel => self.kernel.into(),
            Dim::Inner => inner,
            Dim::StateHeads => self.scan.heads.into(),
            Dim::StateValue => self.scan.value.into(),
            Dim::Channels => channels,
            Dim::TwoStateHeads => 2 * u64::from(self.scan.heads),
            Dim::ChannelsAndGate => channels.saturating_add(inner),
            Dim::StateGroups => self.scan.groups.into(),
            Dim::StateGroup => inner / u64::from(self.scan.groups.max(1)),
            Dim::StateProjection => inner.saturating_add(channels).saturating_add(self.scan.heads.into()),
            Dim::LayerInput => self.layer_input.into(),
            Dim::LayerInputs => u64::from(self.layers).saturating_mul(self.layer_input.into()),
            Dim::TwoHidden => 2 * u64::from(self.hidden),
            Dim::QueryAndGate => heads.saturating_mul(2 * head_dim),
            Dim::ShortProjection => 3 * u64::from(self.hidden),
        }
    }
}
