//! Qwen 3: Llama with norms of each head's queries and keys, and with rotary pairs across the halves of a head.

use crate::graph::Graph;
use crate::graph::parts::*;

use crate::arch::table::entries::{
    ATTENTION, ATTENTION_OUTPUT, CACHED, GATED, HEAD_NORMS, NORMS, OUTSIDE, VALUE,
};
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{ATTENTION_BIAS, Takes};
use crate::arch::table::text;
use crate::arch::table::windows::Window;

const NAME: &str = "qwen3";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["Qwen3ForCausalLM", "Qwen3Model"],
    model_types: &["qwen3"],
    sizes: |config| text::plain_sizes(config, NAME),
    keys: |config, sizes| text::keys(NAME, config, sizes),
    table: &TABLE,
    computed: nothing,
    takes: Takes { window: Window::LaterIfUsed, biases: &[ATTENTION_BIAS], ..Takes::PLAIN },
    graph: &GRAPH,
};

static TABLE: Table = table(NAME);

/// Returns the table of tensors of families that differ from Qwen 3 only in keys.
pub(super) const fn table(family: &'static str) -> Table {
    Table {
        family,
        prefix: "model.",
        ignored: CACHED,
        entries: &[OUTSIDE, NORMS, ATTENTION, VALUE, ATTENTION_OUTPUT, HEAD_NORMS, GATED],
    }
}

/// The forward pass.
pub(super) static GRAPH: Graph = Graph {
    layer: |_, _| {
        let attention = [ATTENTION_NORM, QUERY_KEY_VALUE, QUERY_KEY_NORM, TURN, ATTEND, ADD].concat();
        [&attention, FEED_FORWARD_NORM, SILU, ADD].concat()
    },
    ..Graph::PLAIN
};
