//! Apertus: Llama with norms of each head's queries and keys, and with xIELU between two matrices, whose numbers are learned.

use crate::graph::parts::*;
use crate::graph::{Activation, Graph, Slot};

use super::llama;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::entries::{ATTENTION, ATTENTION_OUTPUT, CACHED, HEAD_NORMS, OUTSIDE, UP_DOWN, VALUE};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::Family;
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{ATTENTION_BIAS, BY_FACTORS, TWO_MATRICES_BIAS, Takes};
use crate::arch::table::text;

const NAME: &str = "apertus";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["ApertusForCausalLM"],
    model_types: &["apertus"],
    sizes: |config| text::plain_sizes(config, NAME),
    keys: |config, sizes| llama::keys(NAME, config, sizes),
    table: &TABLE,
    computed: llama::computed,
    takes: Takes {
        activations: &["xielu"],
        scalings: BY_FACTORS,
        theta: Some(12_000_000.0),
        biases: &[ATTENTION_BIAS, TWO_MATRICES_BIAS],
        ..Takes::PLAIN
    },
    graph: &GRAPH,
};

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: CACHED,
    entries: &[OUTSIDE, OWN, ATTENTION, VALUE, ATTENTION_OUTPUT, HEAD_NORMS, UP_DOWN],
};

const OWN: &[Entry] = &[
    Entry::new("layers.{}.attention_layernorm.weight", "blk.{}.attn_norm.weight", &[Hidden]),
    Entry::new("layers.{}.feedforward_layernorm.weight", "blk.{}.ffn_norm.weight", &[Hidden]),
    Entry::new("layers.{}.mlp.act_fn.alpha_n", "xielu.alpha_n", &[One]).key(),
    Entry::new("layers.{}.mlp.act_fn.alpha_p", "xielu.alpha_p", &[One]).key(),
    Entry::new("layers.{}.mlp.act_fn.beta", "xielu.beta", &[]).key(),
    Entry::new("layers.{}.mlp.act_fn.eps", "xielu.eps", &[]).key(),
];

static GRAPH: Graph = Graph {
    layer: |_, _| {
        let attention = [ATTENTION_NORM, QUERY_KEY_VALUE, QUERY_KEY_NORM, TURN, ATTEND, ADD].concat();
        let feed_forward = two_matrices(Slot::Normed, Activation::Xielu);
        [&attention, FEED_FORWARD_NORM, &feed_forward, ADD].concat()
    },
    ..Graph::PLAIN
};
