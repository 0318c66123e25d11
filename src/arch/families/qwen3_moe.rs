//! Qwen 3 with a mixture of experts.

use crate::graph::Graph;
use crate::graph::parts::*;

use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Sizes;
use crate::arch::table::entries::{
    ATTENTION, ATTENTION_OUTPUT, CACHED, HALVES, HEAD_NORMS, MIXTURE, NORMS, OUTSIDE, VALUE, experts_in_one,
    optional,
};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Family, nothing, unsupported};
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{ATTENTION_BIAS, Takes};
use crate::arch::table::text;
use crate::arch::table::windows::Window;

const NAME: &str = "qwen3moe";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["Qwen3MoeForCausalLM"],
    model_types: &["qwen3_moe"],
    sizes: |config| sizes(config, NAME),
    keys: |config, sizes| {
        let mut keys = text::keys(NAME, config, sizes)?;
        keys.count("expert_feed_forward_length", sizes.expert_feed_forward);
        Ok(keys)
    },
    table: &TABLE,
    computed: nothing,
    takes: Takes { window: Window::AllIfUsed, biases: &[ATTENTION_BIAS], ..Takes::PLAIN },
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
        HEAD_NORMS,
        &[MIXTURE[0], MIXTURE[1].optional(), MIXTURE[2].optional(), MIXTURE[3].optional()],
        &EXPERTS_IN_ONE,
    ],
};

/// Entries of the experts in the layout that transformers 5 writes.
const EXPERTS_IN_ONE: [Entry; 3] =
    optional(experts_in_one("layers.{}.mlp.experts.down_proj", "layers.{}.mlp.experts.gate_up_proj", HALVES));

/// The forward pass.
pub(super) static GRAPH: Graph = Graph {
    layer: |_, _| {
        let attention = [ATTENTION_NORM, QUERY_KEY_VALUE, QUERY_KEY_NORM, TURN, ATTEND, ADD].concat();
        [&attention, FEED_FORWARD_NORM, SILU_EXPERTS, ADD].concat()
    },
    ..Graph::PLAIN
};

/// Returns the dimensions of a model of family `name` with experts in every layer and expert weights that sum to one, as readers of the
/// file assume.
pub(super) fn sizes(config: &Config, name: &'static str) -> Result<Sizes, ArchError> {
    experts_everywhere(config, name)?;
    // The default of transformers is false.
    if config.optional_flag("norm_topk_prob")? != Some(true) {
        let what = "expert weights that do not sum to one (`norm_topk_prob` is not true) are".to_owned();
        return Err(unsupported(config, name, what));
    }
    text::sizes_with_experts(config, &["moe_intermediate_size"])
}

/// Refuses models of family `name` in which some layers have no experts.
pub(super) fn experts_everywhere(config: &Config, name: &'static str) -> Result<(), ArchError> {
    let dense = config.optional_counts("mlp_only_layers")?.is_some_and(|layers| !layers.is_empty());
    if dense || config.optional_count(&["decoder_sparse_step"])?.is_some_and(|step| step != 1) {
        let what = "layers without experts (`mlp_only_layers`, `decoder_sparse_step`) are".to_owned();
        return Err(unsupported(config, name, what));
    }
    Ok(())
}
