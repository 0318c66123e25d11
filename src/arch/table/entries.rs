//! Entries of tables that families share.

use super::dims::{Dim::*, Sizes};
use super::entry::{Entry, Heads};
use crate::tensor::RowOrder;

/// The embedding, the last norm and, if the embedding does not serve as it, the output projection.
pub(in crate::arch) const OUTSIDE: &[Entry] = &[
    Entry::new("embed_tokens.weight", "token_embd.weight", &[Vocab, Hidden]),
    Entry::new("norm.weight", "output_norm.weight", &[Hidden]),
    OUTPUT,
];

/// The output projection.
pub(in crate::arch) const OUTPUT: Entry =
    Entry::new("lm_head.weight", "output.weight", &[Vocab, Hidden]).optional();

/// Norms before attention and before the feed-forward network.
pub(in crate::arch) const NORMS: &[Entry] = &[
    Entry::new("layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight", &[Hidden]),
    Entry::new("layers.{}.post_attention_layernorm.weight", "blk.{}.ffn_norm.weight", &[Hidden]),
];

/// The norm before the feed-forward network, under a name in GGUF that says where it comes.
pub(in crate::arch) const SECOND_NORM: Entry =
    Entry::new("layers.{}.post_attention_layernorm.weight", "blk.{}.post_attention_norm.weight", &[Hidden]);

/// Biases of the norms before attention, before the feed-forward network and of the last norm.
pub(in crate::arch) const NORM_BIASES: &[Entry] = &[
    Entry::new("norm.bias", "output_norm.bias", &[Hidden]),
    Entry::new("layers.{}.input_layernorm.bias", "blk.{}.attn_norm.bias", &[Hidden]),
    Entry::new("layers.{}.post_attention_layernorm.bias", "blk.{}.ffn_norm.bias", &[Hidden]),
];

/// Queries, keys, values and the output of attention, if rotary pairs are across the halves of a head in GGUF as well.
pub(in crate::arch) const ATTENTION: &[Entry] = &[QUERY, KEY, QUERY_BIAS, KEY_BIAS];

/// Queries, keys, values and the output of attention, if rotary pairs are neighbours in GGUF.
pub(in crate::arch) const ROTARY_ATTENTION: &[Entry] = &[
    QUERY.rotary(Heads::Query),
    KEY.rotary(Heads::KeyValue),
    QUERY_BIAS.rotary(Heads::Query),
    KEY_BIAS.rotary(Heads::KeyValue),
];

const QUERY: Entry =
    Entry::new("layers.{}.self_attn.q_proj.weight", "blk.{}.attn_q.weight", &[Query, Hidden]);
/// The projection to keys.
pub(in crate::arch) const KEY: Entry =
    Entry::new("layers.{}.self_attn.k_proj.weight", "blk.{}.attn_k.weight", &[KeyValue, Hidden]);
const QUERY_BIAS: Entry =
    Entry::new("layers.{}.self_attn.q_proj.bias", "blk.{}.attn_q.bias", &[Query]).optional();
const KEY_BIAS: Entry =
    Entry::new("layers.{}.self_attn.k_proj.bias", "blk.{}.attn_k.bias", &[KeyValue]).optional();

/// The projection to values, with its bias.
pub(in crate::arch) const VALUE: &[Entry] = &[
    Entry::new("layers.{}.self_attn.v_proj.weight", "blk.{}.attn_v.weight", &[KeyValue, Hidden]),
    Entry::new("layers.{}.self_attn.v_proj.bias", "blk.{}.attn_v.bias", &[KeyValue]).optional(),
];

/// The output projection of attention, with its bias.
pub(in crate::arch) const ATTENTION_OUTPUT: &[Entry] = &[
    Entry::new("layers.{}.self_attn.o_proj.weight", "blk.{}.attn_output.weight", &[Hidden, Query]),
    Entry::new("layers.{}.self_attn.o_proj.bias", "blk.{}.attn_output.bias", &[Hidden]).optional(),
];

/// Norms of queries and keys over each head.
pub(in crate::arch) const HEAD_NORMS: &[Entry] = &[
    Entry::new("layers.{}.self_attn.q_norm.weight", "blk.{}.attn_q_norm.weight", &[Head]),
    Entry::new("layers.{}.self_attn.k_norm.weight", "blk.{}.attn_k_norm.weight", &[Head]),
];

/// A gated feed-forward network.
pub(in crate::arch) const GATED: &[Entry] = &[
    Entry::new("layers.{}.mlp.gate_proj.weight", "blk.{}.ffn_gate.weight", &[FeedForward, Hidden]).dense(),
    Entry::new("layers.{}.mlp.up_proj.weight", "blk.{}.ffn_up.weight", &[FeedForward, Hidden]).dense(),
    Entry::new("layers.{}.mlp.down_proj.weight", "blk.{}.ffn_down.weight", &[Hidden, FeedForward]).dense(),
    Entry::new("layers.{}.mlp.gate_proj.bias", "blk.{}.ffn_gate.bias", &[FeedForward]).dense().optional(),
    Entry::new("layers.{}.mlp.up_proj.bias", "blk.{}.ffn_up.bias", &[FeedForward]).dense().optional(),
    Entry::new("layers.{}.mlp.down_proj.bias", "blk.{}.ffn_down.bias", &[Hidden]).dense().optional(),
];

/// The router and the experts of a mixture, in the order in which the converter writes them.
pub(in crate::arch) const MIXTURE: &[Entry] = &[
    Entry::new("layers.{}.mlp.gate.weight", "blk.{}.ffn_gate_inp.weight", &[Experts, Hidden])
        .mixture()
        .always_f32(),
    Entry::new(
        "layers.{}.mlp.experts.{}.down_proj.weight",
        "blk.{}.ffn_down_exps.weight",
        &[Hidden, ExpertFeedForward],
    )
    .stacked(Experts)
    .mixture(),
    Entry::new(
        "layers.{}.mlp.experts.{}.gate_proj.weight",
        "blk.{}.ffn_gate_exps.weight",
        &[ExpertFeedForward, Hidden],
    )
    .stacked(Experts)
    .mixture(),
    Entry::new(
        "layers.{}.mlp.experts.{}.up_proj.weight",
        "blk.{}.ffn_up_exps.weight",
        &[ExpertFeedForward, Hidden],
    )
    .stacked(Experts)
    .mixture(),
];

/// Two matrices, which are a feed-forward network without a gate.
pub(in crate::arch) const UP_DOWN: &[Entry] = &[
    Entry::new("layers.{}.mlp.up_proj.weight", "blk.{}.ffn_up.weight", &[FeedForward, Hidden]),
    Entry::new("layers.{}.mlp.down_proj.weight", "blk.{}.ffn_down.weight", &[Hidden, FeedForward]),
    Entry::new("layers.{}.mlp.up_proj.bias", "blk.{}.ffn_up.bias", &[FeedForward]).optional(),
    Entry::new("layers.{}.mlp.down_proj.bias", "blk.{}.ffn_down.bias", &[Hidden]).optional(),
];

/// Norms of queries and keys over all heads together.
pub(in crate::arch) const WHOLE_NORMS: &[Entry] = &[
    Entry::new("layers.{}.self_attn.q_norm.weight", "blk.{}.attn_q_norm.weight", &[Query]),
    Entry::new("layers.{}.self_attn.k_norm.weight", "blk.{}.attn_k_norm.weight", &[KeyValue]),
];

/// The correction of a router's scores, for the choice of experts alone.
pub(in crate::arch) const CORRECTION: Entry =
    Entry::new("layers.{}.mlp.gate.e_score_correction_bias", "blk.{}.exp_probs_b.bias", &[Experts]).mixture();

/// Shared experts, which all tokens pass through.
pub(in crate::arch) const SHARED: &[Entry] = &shared(
    "layers.{}.mlp.shared_experts.gate_proj.weight",
    "layers.{}.mlp.shared_experts.up_proj.weight",
    "layers.{}.mlp.shared_experts.down_proj.weight",
);

/// Returns entries of shared experts whose matrices are called `gate`, `up` and `down`.
pub(in crate::arch) const fn shared(gate: &'static str, up: &'static str, down: &'static str) -> [Entry; 3] {
    [
        Entry::new(gate, "blk.{}.ffn_gate_shexp.weight", &[SharedFeedForward, Hidden]).mixture(),
        Entry::new(up, "blk.{}.ffn_up_shexp.weight", &[SharedFeedForward, Hidden]).mixture(),
        Entry::new(down, "blk.{}.ffn_down_shexp.weight", &[Hidden, SharedFeedForward]).mixture(),
    ]
}

/// Returns entries of experts with all experts of a layer in one tensor `down` and one tensor `gate_up`, where `rows` gives
/// the rows of gate and upward projection.
pub(in crate::arch) const fn experts_in_one(
    down: &'static str,
    gate_up: &'static str,
    [gate_rows, up_rows]: [fn(&Sizes) -> RowOrder; 2],
) -> [Entry; 3] {
    [
        Entry::new(gate_up, "blk.{}.ffn_gate_exps.weight", &[Experts, ExpertGateUp, Hidden])
            .part(&[Experts, ExpertFeedForward, Hidden], gate_rows),
        Entry::new(gate_up, "blk.{}.ffn_up_exps.weight", &[Experts, ExpertGateUp, Hidden])
            .part(&[Experts, ExpertFeedForward, Hidden], up_rows),
        Entry::new(down, "blk.{}.ffn_down_exps.weight", &[Experts, Hidden, ExpertFeedForward]),
    ]
}

/// Returns entries of experts with all experts of a layer in one tensor `down` and one tensor `gate_up`, both
/// `[experts][inputs][outputs]`, with the gate before the upward projection.
pub(in crate::arch) const fn experts_by_input(down: &'static str, gate_up: &'static str) -> [Entry; 3] {
    [
        Entry::new(down, "blk.{}.ffn_down_exps.weight", &[Experts, ExpertFeedForward, Hidden])
            .part(&[Experts, Hidden, ExpertFeedForward], |sizes| turned(sizes.expert_feed_forward, 0, 1)),
        Entry::new(gate_up, "blk.{}.ffn_gate_exps.weight", &[Experts, Hidden, ExpertGateUp])
            .part(&[Experts, ExpertFeedForward, Hidden], |sizes| turned(sizes.hidden, 0, 1)),
        Entry::new(gate_up, "blk.{}.ffn_up_exps.weight", &[Experts, Hidden, ExpertGateUp])
            .part(&[Experts, ExpertFeedForward, Hidden], |sizes| {
                turned(sizes.hidden, sizes.expert_feed_forward.into(), 1)
            }),
    ]
}

/// Returns the entries as optional ones, for checkpoints that may have another layout of experts.
pub(in crate::arch) const fn optional([a, b, c]: [Entry; 3]) -> [Entry; 3] {
    [a.optional(), b.optional(), c.optional()]
}

/// Row orders of the gate and the upward projection in each expert if one follows the other.
pub(in crate::arch) const HALVES: [fn(&Sizes) -> RowOrder; 2] =
    [|sizes| gate_up_rows(sizes, 0, 1), |sizes| gate_up_rows(sizes, sizes.expert_feed_forward, 1)];

/// Row orders of the gate and the upward projection in each expert if they alternate.
pub(in crate::arch) const TURNS: [fn(&Sizes) -> RowOrder; 2] =
    [|sizes| gate_up_rows(sizes, 0, 2), |sizes| gate_up_rows(sizes, 1, 2)];

/// Returns every `step`-th row of each expert from its row `first` on, as many as one of the two projections has.
fn gate_up_rows(sizes: &Sizes, first: u32, step: u64) -> RowOrder {
    let length = u64::from(sizes.expert_feed_forward);
    RowOrder::Picked { length, stride: 2 * length, first: first.into(), step }
}

/// Returns the transposition of matrices of `inputs` rows, restricted to every `step`-th column from `first` on.
pub(in crate::arch) fn turned(inputs: u32, first: u64, step: u64) -> RowOrder {
    RowOrder::Transposed { stride: inputs.into(), skip: 0, first, step }
}

/// Ends of the names of cached tables and masks, which are no weights.
pub(in crate::arch) const CACHED: &[&str] =
    &[".rotary_emb.inv_freq", ".attention.masked_bias", ".attention.bias"];
