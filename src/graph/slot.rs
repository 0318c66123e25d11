//! The buffers that operations read and write.

/// A buffer of a tile of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// The residual stream, `[tokens][hidden]`; it and [`Carried`](Slot::Carried) alone outlive a layer.
    Stream,
    /// Output of a norm of the stream, `[tokens][hidden]`.
    Normed,
    /// Output of a second norm of the same stream, for the feed-forward network parallel to attention,
    /// `[tokens][hidden]`.
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
    /// Output of attention, `[tokens][heads * value]`.
    Attended,
    /// Latent attention: the narrow vector that queries are projected from.
    LowQuery,
    /// Latent attention: queries before their fixed part is multiplied by `attn_k_b`, `[tokens][heads * (fixed + rotary)]`.
    WholeQuery,
    /// Latent attention: the part of each query that RoPE leaves alone, `[tokens][heads * fixed]`.
    FixedQuery,
    /// Latent attention: the part of each query that RoPE rotates, `[tokens][heads * rotary]`.
    RotaryQuery,
    /// Latent attention: the part of the key that RoPE rotates, `[tokens][rotary]`.
    RotaryKey,
    /// Latent attention with heads written out: the vector that keys and values come from, `[tokens][rank]`.
    Latent,
    /// Latent attention with heads written out: the fixed part of each key and the value, `[tokens][heads * (fixed + value)]`.
    KeyValue,
    /// Latent attention with heads written out: the fixed part of each key, `[tokens][heads * fixed]`.
    FixedKey,
    /// Latent attention with heads written out: the rotary part of the key, once for each head, `[tokens][heads * rotary]`.
    RotaryKeys,
    /// Latent attention: the fixed part of queries in the space of the latent values, `[tokens][heads * rank]`.
    LatentQuery,
    /// Latent attention: attended values, mapped out of the latent space.
    Gathered,
    /// A gate of attention's output, `[tokens][heads * value]`.
    AttentionGate,
    /// Recurrent layers: the projection that gates and the input of the convolution are cut from.
    Mixed,
    /// Recurrent layers: input and output of the causal convolution, `[tokens][channels]`.
    Convolved,
    /// Recurrent layers: the gate of what goes into the convolution, `[tokens][inner]`.
    InputGate,
    /// Recurrent layers: the gate of what the layer computes, `[tokens][inner]`.
    OutputGate,
    /// Recurrent layers: the step of each head, from which its decay follows, `[tokens][heads]`.
    Step,
    /// Recurrent layers: how much of a token's value each head takes in, before the sigmoid, `[tokens][heads]`.
    Strength,
    /// Recurrent layers: output of the recurrence, `[tokens][inner]`.
    Scanned,
    /// The router's logits, `[tokens][experts]`.
    Router,
    /// Numbers of the chosen experts, then their weights: `[tokens][2 * used]`.
    Routes,
    /// The shares of the normed stream that a token's experts read, `[tokens][used * hidden]`.
    ExpertIn,
    /// Gate of the feed-forward network, `[tokens][ffn]`; in a mixture `[tokens][used * ffn]`.
    Gate,
    /// Upward projection of the feed-forward network, as wide as the gate.
    Up,
    /// The number that says how much of the shared expert a token gets, before a sigmoid, `[tokens][1]`.
    SharedGate,
    /// The outputs of the experts that each token is routed to, `[tokens][used * hidden]`.
    ExpertOut,
    /// What the dense network beside a mixture gives, `[tokens][hidden]`.
    Beside,
    /// What goes from layer to layer beside the stream ([`Carried`](super::Carried)).
    Carried,
    /// What a block adds to the stream, `[tokens][hidden]`.
    Delta,
}

/// Number of slots.
pub const SLOTS: usize = Slot::Delta as usize + 1;
