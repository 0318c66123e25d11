//! Qwen 1.5 and 2 with a mixture of experts, whose weights do not sum to one, and a shared expert with a gate of its own.

use crate::graph::parts::*;
use crate::graph::{Graph, Routing, Scores};

use super::qwen3_moe;
use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::dims::Sizes;
use crate::arch::table::entries::{
    ATTENTION, ATTENTION_OUTPUT, CACHED, MIXTURE, NORMS, OUTSIDE, VALUE, shared,
};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{Biases, Literal, Only, Takes};
use crate::arch::table::text;
use crate::arch::table::windows::Window;

const NAME: &str = "qwen2moe";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["Qwen2MoeForCausalLM"],
    model_types: &["qwen2_moe"],
    sizes,
    keys: |config, sizes| {
        let mut keys = text::keys(NAME, config, sizes)?;
        keys.count("expert_feed_forward_length", sizes.expert_feed_forward);
        keys.count("expert_shared_feed_forward_length", sizes.shared_feed_forward);
        Ok(keys)
    },
    table: &TABLE,
    computed: nothing,
    takes: Takes {
        window: Window::LaterIfUsed,
        biases: &[QKV_BIAS],
        only: &[Only { key: "norm_topk_prob", value: Literal::Flag(false) }],
        ..Takes::PLAIN
    },
    graph: &GRAPH,
};

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: CACHED,
    entries: &[OUTSIDE, NORMS, ATTENTION, VALUE, ATTENTION_OUTPUT, MIXTURE, &SHARED, &[SHARED_GATE]],
};

/// The shared expert.
pub(super) const SHARED: [Entry; 3] = shared(
    "layers.{}.mlp.shared_expert.gate_proj.weight",
    "layers.{}.mlp.shared_expert.up_proj.weight",
    "layers.{}.mlp.shared_expert.down_proj.weight",
);

/// The row whose product with the stream says how much of the shared expert a token gets.
pub(super) const SHARED_GATE: Entry =
    Entry::new("layers.{}.mlp.shared_expert_gate.weight", "blk.{}.ffn_gate_inp_shexp.weight", &[One, Hidden])
        .always_f32();

/// Biases of queries, keys and values.
const QKV_BIAS: Biases = Biases {
    flag: "qkv_bias",
    names: &[".self_attn.q_proj.bias", ".self_attn.k_proj.bias", ".self_attn.v_proj.bias"],
};

static GRAPH: Graph = Graph {
    layer: |_, _| {
        let attention = [ATTENTION_NORM, QUERY_KEY_VALUE, TURN, ATTEND, ADD].concat();
        let experts = [SILU_EXPERTS, ADD, GATED_SHARED_EXPERTS, ADD].concat();
        [&attention, FEED_FORWARD_NORM, &experts].concat()
    },
    routing: Routing { scores: Some(Scores::Softmax), normalized: false },
    ..Graph::PLAIN
};

fn sizes(config: &Config) -> Result<Sizes, ArchError> {
    qwen3_moe::experts_everywhere(config, NAME)?;
    let sizes = text::sizes_with_experts(config, &["moe_intermediate_size"])?;
    text::whole_heads(config, NAME, &sizes)?;
    Ok(Sizes { shared_feed_forward: config.count(&["shared_expert_intermediate_size"])?, ..sizes })
}
