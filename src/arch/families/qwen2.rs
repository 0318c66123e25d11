//! Qwen 1.5, 2 and 2.5: Llama with biases of queries, keys and values, and with rotary pairs across the halves of a head.

use crate::graph::Graph;
use crate::graph::parts::*;

use crate::arch::table::entries::{ATTENTION, ATTENTION_OUTPUT, CACHED, GATED, NORMS, OUTSIDE, VALUE};
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::Takes;
use crate::arch::table::text;
use crate::arch::table::windows::Window;

const NAME: &str = "qwen2";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["Qwen2ForCausalLM", "Qwen2Model"],
    model_types: &["qwen2"],
    sizes: |config| text::plain_sizes(config, NAME),
    keys: |config, sizes| text::keys(NAME, config, sizes),
    table: &TABLE,
    computed: nothing,
    takes: Takes { window: Window::LaterIfUsed, ..Takes::PLAIN },
    graph: &GRAPH,
};

static TABLE: Table = table(NAME);

/// Returns the table of tensors of families that differ from Qwen 2 only in keys.
pub(super) const fn table(family: &'static str) -> Table {
    Table {
        family,
        prefix: "model.",
        ignored: CACHED,
        entries: &[OUTSIDE, NORMS, ATTENTION, VALUE, ATTENTION_OUTPUT, GATED],
    }
}

/// The forward pass.
pub(super) static GRAPH: Graph = Graph {
    layer: |_, _| [ATTENTION_NORM, QUERY_KEY_VALUE, TURN, ATTEND, ADD, FEED_FORWARD_NORM, SILU, ADD].concat(),
    ..Graph::PLAIN
};
