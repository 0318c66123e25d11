//! MiniMax M2: a mixture of experts in every layer, chosen by corrected sigmoids; norms of queries and keys over all heads
//! together, and rotary positions on a part of each head.

use crate::graph::parts::*;
use crate::graph::{Graph, Routing, Scores};

use super::mixtral;
use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::dims::Sizes;
use crate::arch::table::entries::{ATTENTION, ATTENTION_OUTPUT, CACHED, NORMS, OUTSIDE, VALUE, WHOLE_NORMS};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Family, nothing, unsupported};
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{Literal, Only, Takes};
use crate::arch::table::text;

const NAME: &str = "minimax-m2";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["MiniMaxM2ForCausalLM"],
    model_types: &["minimax_m2", "minimax"],
    sizes,
    keys: |config, sizes| {
        let mut keys = text::keys(NAME, &text::with_sigmoid(config), sizes)?;
        keys.count("expert_feed_forward_length", sizes.expert_feed_forward);
        keys.count("rope.dimension_count", sizes.rotary);
        Ok(keys)
    },
    table: &TABLE,
    computed: nothing,
    takes: Takes {
        theta: Some(5e6),
        only: &[
            Only { key: "use_qk_norm", value: Literal::Flag(true) },
            Only { key: "use_routing_bias", value: Literal::Flag(true) },
            Only { key: "use_mtp", value: Literal::Flag(false) },
        ],
        ..Takes::PLAIN
    },
    graph: &GRAPH,
};

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: CACHED,
    entries: &[
        OUTSIDE,
        NORMS,
        ATTENTION,
        VALUE,
        ATTENTION_OUTPUT,
        WHOLE_NORMS,
        mixtral::MIXTURE,
        &[CORRECTION],
    ],
};

/// The correction of the router's scores, for the choice alone.
const CORRECTION: Entry =
    Entry::new("layers.{}.block_sparse_moe.e_score_correction_bias", "blk.{}.exp_probs_b.bias", &[Experts]);

static GRAPH: Graph = Graph {
    layer: |_, _| {
        let attention = [ATTENTION_NORM, QUERY_KEY_VALUE, QUERY_KEY_NORM, TURN, ATTEND, ADD].concat();
        [&attention, FEED_FORWARD_NORM, SILU_EXPERTS, ADD].concat()
    },
    routing: Routing { scores: Some(Scores::Sigmoid), normalized: true },
    ..Graph::PLAIN
};

fn sizes(config: &Config) -> Result<Sizes, ArchError> {
    let kinds = config.optional_counts("attn_type_list")?.unwrap_or_default();
    if kinds.iter().any(|&kind| kind != 1) {
        return Err(unsupported(config, NAME, "linear attention (0 in `attn_type_list`) is".to_owned()));
    }
    let norms = config.optional_text(&["qk_norm_type"])?.unwrap_or("per_layer");
    if norms != "per_layer" {
        return Err(unsupported(config, NAME, format!("`qk_norm_type` of {norms} is")));
    }
    // The layout before transformers 5 gives the number of dimensions, the one since their part of the head.
    let sizes = text::sizes_with_experts(config, &["intermediate_size"])?;
    match config.optional_count(&["rotary_dim"])? {
        Some(rotary) if rotary <= sizes.head_dim && rotary.is_multiple_of(2) => Ok(Sizes { rotary, ..sizes }),
        Some(_) => Err(config.unusable("rotary_dim", "an even number of at most `head_dim`").into()),
        None => Ok(sizes),
    }
}
