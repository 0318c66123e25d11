//! OLMo 2: norms come after attention and the feed-forward network instead of before, and queries and keys have norms
//! over all heads together.

use crate::graph::parts::*;
use crate::graph::{Activation, Graph, Slot, Windows};

use crate::arch::table::dims::Dim::*;
use crate::arch::table::entries::{
    ATTENTION, ATTENTION_OUTPUT, CACHED, GATED, OUTSIDE, SECOND_NORM, VALUE, WHOLE_NORMS,
};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{ATTENTION_BIAS, HeadPlace, Takes};
use crate::arch::table::text;

const NAME: &str = "olmo2";

/// Number of layers from one without a window to the next where no list says otherwise.
pub(super) const PATTERN: usize = 4;

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["Olmo2ForCausalLM"],
    model_types: &["olmo2"],
    sizes: |config| text::plain_sizes(config, NAME),
    keys: |config, sizes| text::keys(NAME, config, sizes),
    table: &TABLE,
    computed: nothing,
    takes: Takes { biases: &[ATTENTION_BIAS], head: HeadPlace::Own, ..Takes::PLAIN },
    graph: &GRAPH,
};

/// The table of tensors, which OLMo 3 shares.
pub(super) static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: CACHED,
    entries: &[OUTSIDE, POST_NORMS, WHOLE_NORMS, ATTENTION, VALUE, ATTENTION_OUTPUT, GATED],
};

/// Norms after attention and the feed-forward network.
pub(super) const POST_NORMS: &[Entry] = &[
    SECOND_NORM,
    Entry::new("layers.{}.post_feedforward_layernorm.weight", "blk.{}.post_ffw_norm.weight", &[Hidden]),
];

/// The forward pass, which OLMo 3 shares: without a window in the keys, no layer has one.
pub(super) static GRAPH: Graph = Graph {
    layer: |_, _| {
        let query_key_value = query_key_value(Slot::Stream);
        let gated = gated(Slot::Stream, Activation::SiluGate);
        let attention = [&query_key_value, QUERY_KEY_NORM, TURN, ATTEND, POST_ATTENTION_NORM, ADD].concat();
        [&attention, &gated[..], POST_FEED_FORWARD_NORM, ADD].concat()
    },
    windows: Windows::Pattern(PATTERN),
    // The base of all layers of the models with windows.
    window_base: Some(500_000.0),
    ..Graph::PLAIN
};
