//! GLM 4: norms before and after attention and the feed-forward network, gate and up in one matrix, and rotary positions on a
//! part of each head, whose neighbours turn together in the checkpoint as well.

use crate::graph::Graph;
use crate::graph::parts::*;
use kquant_kernels::math::Pairs;

use crate::arch::table::dims::Dim::*;
use crate::arch::table::entries::{ATTENTION, ATTENTION_OUTPUT, CACHED, NORMS, OUTSIDE, VALUE};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{ATTENTION_BIAS, Takes};
use crate::arch::table::text;

const NAME: &str = "glm4";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["Glm4ForCausalLM"],
    model_types: &["glm4"],
    sizes: text::sizes,
    keys: |config, sizes| {
        let mut keys = text::keys(NAME, config, sizes)?;
        keys.count("rope.dimension_count", sizes.rotary);
        Ok(keys)
    },
    table: &TABLE,
    computed: nothing,
    takes: Takes { biases: &[ATTENTION_BIAS], ..Takes::PLAIN },
    graph: &GRAPH,
};

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: CACHED,
    entries: &[OUTSIDE, NORMS, OWN, ATTENTION, VALUE, ATTENTION_OUTPUT],
};

const OWN: &[Entry] = &[
    Entry::new("layers.{}.post_self_attn_layernorm.weight", "blk.{}.post_attention_norm.weight", &[Hidden]),
    Entry::new("layers.{}.post_mlp_layernorm.weight", "blk.{}.post_ffw_norm.weight", &[Hidden]),
    Entry::new("layers.{}.mlp.gate_up_proj.weight", "blk.{}.ffn_up.weight", &[GateUp, Hidden]),
    Entry::new("layers.{}.mlp.down_proj.weight", "blk.{}.ffn_down.weight", &[Hidden, FeedForward]),
];

static GRAPH: Graph = Graph {
    layer: |_, _| {
        let attention = [ATTENTION_NORM, QUERY_KEY_VALUE, TURN, ATTEND, POST_ATTENTION_NORM, ADD].concat();
        [&attention, FEED_FORWARD_NORM, FUSED_SILU, POST_FEED_FORWARD_NORM, ADD].concat()
    },
    pairs: Pairs::Adjacent,
    ..Graph::PLAIN
};
