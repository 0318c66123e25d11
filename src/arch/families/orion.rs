//! Orion: Llama with layer norms and with rotary pairs across the halves of a head.

use crate::graph::parts::*;
use crate::graph::{Graph, NormKind};

use crate::arch::table::entries::{
    ATTENTION, ATTENTION_OUTPUT, CACHED, GATED, NORM_BIASES, NORMS, OUTSIDE, VALUE,
};
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::keys::Keys;
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{HeadPlace, Takes};
use crate::arch::table::text;

const NAME: &str = "orion";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["OrionForCausalLM"],
    model_types: &["orion"],
    sizes: |config| text::plain_sizes(config, NAME),
    keys: |config, sizes| {
        let mut keys = Keys::new(NAME);
        keys.add("tensor_data_layout", "Meta AI original pth".into());
        keys.count("context_length", sizes.positions);
        keys.count("embedding_length", sizes.hidden);
        keys.count("block_count", sizes.layers);
        keys.count("feed_forward_length", sizes.feed_forward);
        keys.count("attention.head_count", sizes.heads);
        keys.count("attention.head_count_kv", sizes.kv_heads);
        // The configuration calls it that of another kind of norm.
        keys.number("attention.layer_norm_epsilon", config.number(&["rms_norm_eps"])?);
        Ok(keys)
    },
    table: &TABLE,
    computed: nothing,
    takes: Takes { scalings: &["default"], head: HeadPlace::Own, ..Takes::PLAIN },
    graph: &GRAPH,
};

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: CACHED,
    entries: &[OUTSIDE, NORMS, NORM_BIASES, ATTENTION, VALUE, ATTENTION_OUTPUT, GATED],
};

static GRAPH: Graph = Graph {
    layer: |_, _| {
        let attention = [ATTENTION_LAYER_NORM, QUERY_KEY_VALUE, TURN, ATTEND, ADD].concat();
        [&attention, FEED_FORWARD_LAYER_NORM, SILU, ADD].concat()
    },
    final_norm: NormKind::Layer,
    ..Graph::PLAIN
};
