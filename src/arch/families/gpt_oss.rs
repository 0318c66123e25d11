//! The family gpt-oss: experts have biases and a bounded gate, attention has sinks, and every other layer has a window.
//! The experts are in bf16 or, as published, in MXFP4.

use crate::graph::parts::*;
use crate::graph::{Activation, GATE_LIMIT, Graph, Hyper, Op, Routing, Scores, Slot, Windows};

use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::dims::Sizes;
use crate::arch::table::entries::{
    ATTENTION, ATTENTION_OUTPUT, CACHED, NORMS, OUTSIDE, SECOND_NORM, TURNS, VALUE, experts_in_one, optional,
    turned,
};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Family, nothing, unsupported};
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{ATTENTION_BIAS, HeadPlace, Literal, Only, Takes};
use crate::arch::table::text;
use crate::arch::table::windows::Window;

const NAME: &str = "gpt-oss";

/// Number of layers from one without a window to the next.
const PATTERN: usize = 2;

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["GptOssForCausalLM"],
    model_types: &["gpt_oss"],
    sizes,
    keys: |config, sizes| {
        let mut keys = text::keys(NAME, config, sizes)?;
        keys.count("attention.sliding_window", config.count(&["sliding_window"])?);
        keys.count("expert_feed_forward_length", sizes.expert_feed_forward);
        Ok(keys)
    },
    table: &TABLE,
    computed: nothing,
    takes: Takes {
        theta: Some(150_000.0),
        window: Window::Written { base: false },
        biases: &[ATTENTION_BIAS],
        only: &[Only { key: "swiglu_alpha", value: Literal::Number(1.702) }],
        head: HeadPlace::Own,
        ..Takes::PLAIN
    },
    graph: &GRAPH,
};

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: CACHED,
    entries: &[OUTSIDE, OWN, ATTENTION, VALUE, ATTENTION_OUTPUT, EXPERTS, &PUBLISHED_EXPERTS],
};

const OWN: &[Entry] = &[
    NORMS[0],
    SECOND_NORM,
    Entry::new("layers.{}.self_attn.sinks", "blk.{}.attn_sinks.weight", &[Heads]),
    Entry::new("layers.{}.mlp.router.weight", "blk.{}.ffn_gate_inp.weight", &[Experts, Hidden]).always_f32(),
    Entry::new("layers.{}.mlp.router.bias", "blk.{}.ffn_gate_inp.bias", &[Experts]),
    Entry::new("layers.{}.mlp.experts.down_proj_bias", "blk.{}.ffn_down_exps.bias", &[Experts, Hidden]),
    Entry::new(
        "layers.{}.mlp.experts.gate_up_proj_bias",
        "blk.{}.ffn_gate_exps.bias",
        &[Experts, ExpertGateUp],
    )
    .part(&[Experts, ExpertFeedForward], TURNS[0]),
    Entry::new(
        "layers.{}.mlp.experts.gate_up_proj_bias",
        "blk.{}.ffn_up_exps.bias",
        &[Experts, ExpertGateUp],
    )
    .part(&[Experts, ExpertFeedForward], TURNS[1]),
];

/// Experts in bf16: `[experts][inputs][outputs]`, with gate and up in alternate columns.
const EXPERTS: &[Entry] = &[
    Entry::new(
        "layers.{}.mlp.experts.down_proj",
        "blk.{}.ffn_down_exps.weight",
        &[Experts, ExpertFeedForward, Hidden],
    )
    .part(&[Experts, Hidden, ExpertFeedForward], |sizes| turned(sizes.expert_feed_forward, 0, 1))
    .optional(),
    Entry::new(
        "layers.{}.mlp.experts.gate_up_proj",
        "blk.{}.ffn_gate_exps.weight",
        &[Experts, Hidden, ExpertGateUp],
    )
    .part(&[Experts, ExpertFeedForward, Hidden], |sizes| turned(sizes.hidden, 0, 2))
    .optional(),
    Entry::new(
        "layers.{}.mlp.experts.gate_up_proj",
        "blk.{}.ffn_up_exps.weight",
        &[Experts, Hidden, ExpertGateUp],
    )
    .part(&[Experts, ExpertFeedForward, Hidden], |sizes| turned(sizes.hidden, 1, 2))
    .optional(),
];

/// Experts in MXFP4: `[experts][outputs][inputs]`, with gate and up in alternate rows.
const PUBLISHED_EXPERTS: [Entry; 3] = optional(experts_in_one(
    "layers.{}.mlp.experts.down_proj_blocks",
    "layers.{}.mlp.experts.gate_up_proj_blocks",
    TURNS,
));

static GRAPH: Graph = Graph {
    layer,
    windows: Windows::Pattern(PATTERN),
    yarn_truncated: false,
    routing: Routing { scores: Some(Scores::SoftmaxOfChosen), normalized: false },
    ..Graph::PLAIN
};

fn layer(_: &Hyper, _: usize) -> Vec<Op> {
    let attend = [
        Op::Attention { sinks: Some("attn_sinks") },
        linear(Slot::Attended, Slot::Delta, "attn_output"),
        Op::Add,
        rms(Slot::Stream, Slot::Normed, "post_attention_norm"),
    ];
    let experts = mixture(Activation::ClampedGate);
    [ATTENTION_NORM, QUERY_KEY_VALUE, TURN, &attend, &experts, ADD].concat()
}

fn sizes(config: &Config) -> Result<Sizes, ArchError> {
    let sizes = text::sizes_with_experts(config, &["intermediate_size"])?;
    text::window_pattern(config, NAME, PATTERN)?;
    if let Some(limit) = config.optional_number(&["swiglu_limit"])?.filter(|&limit| limit != GATE_LIMIT) {
        return Err(unsupported(config, NAME, format!("a gate bounded by {limit} (`swiglu_limit`) is")));
    }
    text::whole_heads(config, NAME, &sizes)?;
    Ok(sizes)
}
