//! Maincoder: Llama with norms of each head's queries and keys after these have turned.

use crate::graph::Graph;
use crate::graph::parts::*;
use kquant_kernels::math::Pairs;

use crate::arch::table::entries::{
    ATTENTION, ATTENTION_OUTPUT, CACHED, GATED, HEAD_NORMS, NORMS, OUTSIDE, VALUE,
};
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::Takes;
use crate::arch::table::text;

const NAME: &str = "maincoder";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["MaincoderForCausalLM"],
    model_types: &["maincoder"],
    sizes: |config| text::plain_sizes(config, NAME),
    keys: |config, sizes| {
        let mut keys = text::keys(NAME, config, sizes)?;
        if config.optional_count(&["head_dim"])?.is_some() {
            keys.count("rope.dimension_count", sizes.head_dim);
        }
        Ok(keys)
    },
    table: &TABLE,
    computed: nothing,
    takes: Takes::PLAIN,
    graph: &GRAPH,
};

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: CACHED,
    entries: &[OUTSIDE, NORMS, ATTENTION, VALUE, ATTENTION_OUTPUT, HEAD_NORMS, GATED],
};

static GRAPH: Graph = Graph {
    layer: |_, _| {
        let attention = [ATTENTION_NORM, QUERY_KEY_VALUE, TURN, QUERY_KEY_NORM, ATTEND, ADD].concat();
        [&attention, FEED_FORWARD_NORM, SILU, ADD].concat()
    },
    pairs: Pairs::Adjacent,
    ..Graph::PLAIN
};
