//! StarCoder 2: norms are layer norms, linear maps have biases, and the feed-forward network has two matrices.

use crate::graph::parts::*;
use crate::graph::{Activation, Graph, NormKind, Slot};

use crate::arch::table::dims::Dim::*;
use crate::arch::table::entries::{ATTENTION, ATTENTION_OUTPUT, CACHED, NORM_BIASES, NORMS, OUTSIDE, VALUE};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{Biases, GELU, Takes};
use crate::arch::table::text;
use crate::arch::table::windows::Window;

const NAME: &str = "starcoder2";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["Starcoder2ForCausalLM"],
    model_types: &["starcoder2"],
    sizes: |config| text::plain_sizes(config, NAME),
    keys: |config, sizes| text::keys(NAME, config, sizes),
    table: &TABLE,
    computed: nothing,
    takes: Takes {
        activations: GELU,
        window: Window::All(None),
        biases: &[USE_BIAS],
        tied: true,
        ..Takes::PLAIN
    },
    graph: &GRAPH,
};

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: CACHED,
    entries: &[OUTSIDE, NORMS, NORM_BIASES, ATTENTION, VALUE, ATTENTION_OUTPUT, FEED_FORWARD],
};

/// Biases of all linear maps.
const USE_BIAS: Biases = Biases {
    flag: "use_bias",
    names: &[
        ".self_attn.q_proj.bias",
        ".self_attn.k_proj.bias",
        ".self_attn.v_proj.bias",
        ".self_attn.o_proj.bias",
        ".mlp.c_fc.bias",
        ".mlp.c_proj.bias",
    ],
};

const FEED_FORWARD: &[Entry] = &[
    Entry::new("layers.{}.mlp.c_fc.weight", "blk.{}.ffn_up.weight", &[FeedForward, Hidden]),
    Entry::new("layers.{}.mlp.c_fc.bias", "blk.{}.ffn_up.bias", &[FeedForward]).optional(),
    Entry::new("layers.{}.mlp.c_proj.weight", "blk.{}.ffn_down.weight", &[Hidden, FeedForward]),
    Entry::new("layers.{}.mlp.c_proj.bias", "blk.{}.ffn_down.bias", &[Hidden]).optional(),
];

static GRAPH: Graph = Graph {
    layer: |_, _| {
        let attention = [ATTENTION_LAYER_NORM, QUERY_KEY_VALUE, TURN, ATTEND, ADD].concat();
        let feed_forward = two_matrices(Slot::Normed, Activation::Gelu);
        [&attention, FEED_FORWARD_LAYER_NORM, &feed_forward, ADD].concat()
    },
    final_norm: NormKind::Layer,
    ..Graph::PLAIN
};
