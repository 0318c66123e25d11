//! OLMoE: a mixture of experts in every layer, whose weights do not sum to one, and norms of queries and keys over all heads
//! together.

use crate::graph::parts::*;
use crate::graph::{Graph, Routing, Scores};

use crate::arch::table::entries::{
    ATTENTION, ATTENTION_OUTPUT, CACHED, MIXTURE, NORMS, OUTSIDE, VALUE, WHOLE_NORMS,
};
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{ATTENTION_BIAS, HeadPlace, Literal, Only, Takes};
use crate::arch::table::text;

const NAME: &str = "olmoe";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["OlmoeForCausalLM"],
    model_types: &["olmoe"],
    sizes: |config| text::sizes_with_experts(config, &["intermediate_size"]),
    keys: |config, sizes| text::keys(NAME, config, sizes),
    table: &TABLE,
    computed: nothing,
    takes: Takes {
        biases: &[ATTENTION_BIAS],
        only: &[
            Only { key: "clip_qkv", value: Literal::Null },
            Only { key: "norm_topk_prob", value: Literal::Flag(false) },
        ],
        head: HeadPlace::Own,
        ..Takes::PLAIN
    },
    graph: &GRAPH,
};

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: CACHED,
    entries: &[OUTSIDE, NORMS, ATTENTION, VALUE, ATTENTION_OUTPUT, WHOLE_NORMS, MIXTURE],
};

static GRAPH: Graph = Graph {
    layer: |_, _| {
        let attention = [ATTENTION_NORM, QUERY_KEY_VALUE, QUERY_KEY_NORM, TURN, ATTEND, ADD].concat();
        [&attention, FEED_FORWARD_NORM, SILU_EXPERTS, ADD].concat()
    },
    routing: Routing { scores: Some(Scores::Softmax), normalized: false },
    ..Graph::PLAIN
};
