//! Lists of operations that several architectures share.

use crate::graph::{Activation, By, CutEach, GateFunction, Hyper, NormKind, Op, Recurrence, Slot};

/// Returns a root-mean-square norm with the tensor `name`.
pub const fn rms(input: Slot, output: Slot, name: &'static str) -> Op {
    Op::Norm { input, output, name, kind: NormKind::Rms }
}

/// Returns a norm of mean and variance, with the tensor `name`.
pub const fn layer_norm(input: Slot, output: Slot, name: &'static str) -> Op {
    Op::Norm { input, output, name, kind: NormKind::Layer }
}

/// Returns a linear map with the tensor `name`.
pub const fn linear(input: Slot, output: Slot, name: &'static str) -> Op {
    Op::Linear { input, output, name }
}

const fn experts(input: Slot, output: Slot, name: &'static str) -> Op {
    Op::Matrices { input, output, name, by: By::Routes }
}

/// RMS norm before attention.
pub const ATTENTION_NORM: &[Op] = &[rms(Slot::Stream, Slot::Normed, "attn_norm")];

/// RMS norm before the feed-forward network.
pub const FEED_FORWARD_NORM: &[Op] = &[rms(Slot::Stream, Slot::Normed, "ffn_norm")];

/// Layer norm before attention.
pub const ATTENTION_LAYER_NORM: &[Op] = &[layer_norm(Slot::Stream, Slot::Normed, "attn_norm")];

/// Layer norm before the feed-forward network.
pub const FEED_FORWARD_LAYER_NORM: &[Op] = &[layer_norm(Slot::Stream, Slot::Normed, "ffn_norm")];

/// Queries, keys and values of the normed stream.
pub const QUERY_KEY_VALUE: &[Op] = &query_key_value(Slot::Normed);

/// Returns the projections of `input` to queries, keys and values.
pub const fn query_key_value(input: Slot) -> [Op; 3] {
    [
        linear(input, Slot::Query, "attn_q"),
        linear(input, Slot::Key, "attn_k"),
        linear(input, Slot::Value, "attn_v"),
    ]
}

/// One projection to queries, keys and values, and its split.
pub const FUSED_QUERY_KEY_VALUE: &[Op] = &fused_query_key_value(Slot::Normed);

/// Returns one projection of `input` to queries, keys and values, and its split.
pub const fn fused_query_key_value(input: Slot) -> [Op; 2] {
    [linear(input, Slot::Fused, "attn_qkv"), Op::Split]
}

/// RMS norms of queries and keys: over a head, with weights that all heads share or that each head has of its own, or
/// over all heads together.
pub const QUERY_KEY_NORM: &[Op] =
    &[rms(Slot::Query, Slot::Query, "attn_q_norm"), rms(Slot::Key, Slot::Key, "attn_k_norm")];

/// Norms of queries and keys of mean and variance, over a head or over all heads together.
pub const QUERY_KEY_LAYER_NORM: &[Op] =
    &[layer_norm(Slot::Query, Slot::Query, "attn_q_norm"), layer_norm(Slot::Key, Slot::Key, "attn_k_norm")];

/// The rotation of queries and keys by their positions.
pub const TURN: &[Op] = &[Op::Rope { slot: Slot::Query }, Op::Rope { slot: Slot::Key }];

/// Attention and its output projection.
pub const ATTEND: &[Op] =
    &[Op::Attention { sinks: None }, linear(Slot::Attended, Slot::Delta, "attn_output")];

/// The addition of a block's output to the stream.
pub const ADD: &[Op] = &[Op::Add];

/// A norm of attention's output before it is added to the stream.
pub const POST_ATTENTION_NORM: &[Op] = &[rms(Slot::Delta, Slot::Delta, "post_attention_norm")];

/// A norm of the stream after attention, in encoders.
pub const ATTENTION_OUTPUT_NORM: &[Op] = &[layer_norm(Slot::Stream, Slot::Stream, "attn_output_norm")];

/// A norm of the stream at the end of a layer, in encoders.
pub const LAYER_OUTPUT_NORM: &[Op] = &[layer_norm(Slot::Stream, Slot::Stream, "layer_output_norm")];

/// A norm of the feed-forward network's output before it is added to the stream.
pub const POST_FEED_FORWARD_NORM: &[Op] = &[rms(Slot::Delta, Slot::Delta, "post_ffw_norm")];

/// A gated feed-forward network with SiLU.
pub const SILU: &[Op] = &gated(Slot::Normed, Activation::SiluGate);

/// Returns a gated feed-forward network of `input`.
pub const fn gated(input: Slot, activation: Activation) -> [Op; 4] {
    [
        linear(input, Slot::Gate, "ffn_gate"),
        linear(input, Slot::Up, "ffn_up"),
        Op::Activate(activation),
        linear(Slot::Gate, Slot::Delta, "ffn_down"),
    ]
}

/// A gated feed-forward network with gate and up in one matrix.
pub const FUSED_SILU: &[Op] = &[
    linear(Slot::Normed, Slot::Up, "ffn_up"),
    Op::SplitGate { routed: false },
    Op::Activate(Activation::SiluGate),
    linear(Slot::Gate, Slot::Delta, "ffn_down"),
];

/// Returns a feed-forward network of two matrices.
pub const fn two_matrices(input: Slot, activation: Activation) -> [Op; 3] {
    [linear(input, Slot::Up, "ffn_up"), Op::Activate(activation), linear(Slot::Up, Slot::Delta, "ffn_down")]
}

/// A mixture of experts with SiLU.
pub const SILU_EXPERTS: &[Op] = &mixture(Activation::SiluGate);

/// Returns a mixture of experts of the normed stream, with its router.
pub const fn mixture(activation: Activation) -> [Op; 7] {
    [
        linear(Slot::Normed, Slot::Router, "ffn_gate_inp"),
        Op::Route { bias: "exp_probs_b" },
        experts(Slot::Normed, Slot::Gate, "ffn_gate_exps"),
        experts(Slot::Normed, Slot::Up, "ffn_up_exps"),
        Op::Activate(activation),
        experts(Slot::Gate, Slot::ExpertOut, "ffn_down_exps"),
        Op::Combine,
    ]
}

/// Returns a mixture of experts of two matrices each of the normed stream, with its router.
pub const fn mixture_of_two_matrices(activation: Activation) -> [Op; 6] {
    [
        linear(Slot::Normed, Slot::Router, "ffn_gate_inp"),
        Op::Route { bias: "exp_probs_b" },
        experts(Slot::Normed, Slot::Up, "ffn_up_exps"),
        Op::Activate(activation),
        experts(Slot::Up, Slot::ExpertOut, "ffn_down_exps"),
        Op::Combine,
    ]
}

/// A mixture of experts with SiLU in which the weights of experts multiply what they read, not what they give.
pub const SHARES_TO_EXPERTS: &[Op] = &[
    linear(Slot::Normed, Slot::Router, "ffn_gate_inp"),
    Op::Route { bias: "exp_probs_b" },
    Op::Share,
    experts(Slot::ExpertIn, Slot::Gate, "ffn_gate_exps"),
    experts(Slot::ExpertIn, Slot::Up, "ffn_up_exps"),
    Op::Activate(Activation::SiluGate),
    experts(Slot::Gate, Slot::ExpertOut, "ffn_down_exps"),
    Op::Combine,
];

/// Returns the gated feed-forward network of layer `number`: dense in the first layers, and from there on, if the keys say so, a
/// mixture of experts, with shared ones or without.
pub fn feed_forward(hyper: &Hyper, number: usize) -> &'static [Op] {
    match hyper.experts.as_ref().filter(|_| number >= hyper.dense_layers) {
        None => SILU,
        Some(experts) if experts.shared => SILU_AND_SHARED_EXPERTS,
        Some(_) => SILU_EXPERTS,
    }
}

const SILU_AND_SHARED_EXPERTS: &[Op] = &{
    let ([a, b, c, d, e, f, g], [h, i, j, k]) = (mixture(Activation::SiluGate), SHARED_EXPERT);
    [a, b, c, d, e, f, g, Op::Add, h, i, j, k]
};

/// The shared experts, which all tokens pass through: together they are one.
pub const SHARED_EXPERT: [Op; 4] = [
    linear(Slot::Normed, Slot::Gate, "ffn_gate_shexp"),
    linear(Slot::Normed, Slot::Up, "ffn_up_shexp"),
    Op::Activate(Activation::SiluGate),
    linear(Slot::Gate, Slot::Delta, "ffn_down_shexp"),
];

/// Returns shared experts of two matrices, which all tokens pass through.
pub const fn shared_of_two_matrices(activation: Activation) -> [Op; 3] {
    [
        linear(Slot::Normed, Slot::Up, "ffn_up_shexp"),
        Op::Activate(activation),
        linear(Slot::Up, Slot::Delta, "ffn_down_shexp"),
    ]
}

/// Shared experts of which each token gets a share.
pub const GATED_SHARED_EXPERTS: &[Op] = &{
    let [gate, up, activate, down] = SHARED_EXPERT;
    [gate, up, activate, down, linear(Slot::Normed, Slot::SharedGate, "ffn_gate_inp_shexp"), Op::ScaleShared]
};

/// A gated short convolution and its output projection: `C * conv(B * x)` with B, C and x from one projection.
pub const SHORT_CONVOLUTION: &[Op] = &[
    linear(Slot::Normed, Slot::Mixed, "shortconv.in_proj"),
    Op::Cut {
        input: Slot::Mixed,
        outputs: &[Slot::InputGate, Slot::OutputGate, Slot::Convolved],
        each: CutEach::Row,
    },
    Op::Gate { slot: Slot::Convolved, gate: Slot::InputGate, function: GateFunction::Same },
    Op::Convolve { name: "shortconv.conv", silu: false },
    Op::Gate { slot: Slot::Convolved, gate: Slot::OutputGate, function: GateFunction::Same },
    linear(Slot::Convolved, Slot::Delta, "shortconv.out_proj"),
];

/// A gated delta net with heads of values that take turns with those of keys, and its output projection.
pub const DELTA_NET: &[Op] = &[
    linear(Slot::Normed, Slot::Convolved, "attn_qkv"),
    linear(Slot::Normed, Slot::OutputGate, "attn_gate"),
    linear(Slot::Normed, Slot::Step, "ssm_alpha"),
    linear(Slot::Normed, Slot::Strength, "ssm_beta"),
    Op::Convolve { name: "ssm_conv1d", silu: true },
    Op::Scan(Recurrence::GatedDelta { tiled: true }),
    rms(Slot::Scanned, Slot::Scanned, "ssm_norm"),
    Op::Gate { slot: Slot::Scanned, gate: Slot::OutputGate, function: GateFunction::Silu },
    linear(Slot::Scanned, Slot::Delta, "ssm_out"),
];

/// A gated delta net as [`DELTA_NET`], whose neighbouring heads of values share queries and keys, with strengths and steps in one
/// projection.
pub const GROUPED_DELTA_NET: &[Op] = &[
    linear(Slot::Normed, Slot::Convolved, "attn_qkv"),
    linear(Slot::Normed, Slot::OutputGate, "attn_gate"),
    linear(Slot::Normed, Slot::Mixed, "ssm_ba"),
    Op::Cut { input: Slot::Mixed, outputs: &[Slot::Strength, Slot::Step], each: CutEach::Group },
    Op::Convolve { name: "ssm_conv1d", silu: true },
    Op::Scan(Recurrence::GatedDelta { tiled: false }),
    rms(Slot::Scanned, Slot::Scanned, "ssm_norm"),
    Op::Gate { slot: Slot::Scanned, gate: Slot::OutputGate, function: GateFunction::Silu },
    linear(Slot::Scanned, Slot::Delta, "ssm_out"),
];

/// Attention with norms of queries and keys and a gate of its output, which is projected with the queries, head by head.
pub const ATTEND_GATED: &[Op] = &[
    linear(Slot::Normed, Slot::WholeQuery, "attn_q"),
    linear(Slot::Normed, Slot::Key, "attn_k"),
    linear(Slot::Normed, Slot::Value, "attn_v"),
    Op::Cut { input: Slot::WholeQuery, outputs: &[Slot::Query, Slot::AttentionGate], each: CutEach::Head },
    rms(Slot::Query, Slot::Query, "attn_q_norm"),
    rms(Slot::Key, Slot::Key, "attn_k_norm"),
    Op::Rope { slot: Slot::Query },
    Op::Rope { slot: Slot::Key },
    Op::Attention { sinks: None },
    Op::Gate { slot: Slot::Attended, gate: Slot::AttentionGate, function: GateFunction::Sigmoid },
    linear(Slot::Attended, Slot::Delta, "attn_output"),
];

/// Mamba 2's mixer and its output projection: the gate comes before a norm of groups of heads.
pub const MAMBA: &[Op] = &[
    linear(Slot::Normed, Slot::Mixed, "ssm_in"),
    Op::Cut {
        input: Slot::Mixed,
        outputs: &[Slot::OutputGate, Slot::Convolved, Slot::Step],
        each: CutEach::Row,
    },
    Op::Convolve { name: "ssm_conv1d", silu: true },
    Op::Scan(Recurrence::StateSpace),
    Op::Gate { slot: Slot::Scanned, gate: Slot::OutputGate, function: GateFunction::Silu },
    rms(Slot::Scanned, Slot::Scanned, "ssm_norm"),
    linear(Slot::Scanned, Slot::Delta, "ssm_out"),
];
