//! ERNIE 4.5 with a mixture of experts, of which a correction bias chooses and shared ones serve all tokens; the first layers
//! are dense.

use super::ernie4_5::USE_BIAS;
use super::llama;
use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::dims::Sizes;
use crate::arch::table::entries::{
    ATTENTION, ATTENTION_OUTPUT, CACHED, GATED, MIXTURE, NORMS, OUTSIDE, SHARED, VALUE,
};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Family, nothing, unsupported};
use crate::arch::table::keys::Keys;
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::Takes;
use crate::arch::table::text;

const NAME: &str = "ernie4_5-moe";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["Ernie4_5_MoeForCausalLM"],
    model_types: &["ernie4_5_moe"],
    sizes,
    keys,
    table: &TABLE,
    computed: nothing,
    takes: Takes { theta: Some(500_000.0), biases: &[USE_BIAS], tied: true, ..Takes::PLAIN },
    graph: &llama::GRAPH,
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
        GATED,
        // The converter writes the experts in this order.
        &[MIXTURE[0], MIXTURE[2], MIXTURE[3], MIXTURE[1], STATISTICS],
        SHARED,
    ],
};

/// The correction of the router's scores, which both formats store with a dimension of 1.
const STATISTICS: Entry = Entry::new(
    "layers.{}.mlp.moe_statics.e_score_correction_bias",
    "blk.{}.exp_probs_b.bias",
    &[One, Experts],
)
.mixture();

fn sizes(config: &Config) -> Result<Sizes, ArchError> {
    let sizes = text::sizes(config)?;
    let last = config.optional_integer(&["moe_layer_end_index"])?.filter(|&last| last >= 0);
    let interval = config.optional_count(&["moe_layer_interval"])?.unwrap_or(1);
    if last.is_some_and(|last| i64::from(last) + 1 < i64::from(sizes.layers)) || interval != 1 {
        let what = "dense layers after those with experts (`moe_layer_end_index`, `moe_layer_interval`) are";
        return Err(unsupported(config, NAME, what.to_owned()));
    }
    text::whole_heads(config, NAME, &sizes)?;
    let width = config.count(&["moe_intermediate_size"])?;
    let shared = config.count(&["moe_num_shared_experts"])?;
    Ok(Sizes {
        experts: config.count(&["moe_num_experts"])?,
        experts_used: config.count(&["moe_k"])?,
        expert_feed_forward: width,
        shared_feed_forward: width.saturating_mul(shared),
        dense_layers: config.optional_integer(&["moe_layer_start_index"])?.map_or(1, |n| n.max(0) as u32),
        ..sizes
    })
}

fn keys(config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let mut keys = text::keys(NAME, config, sizes)?;
    keys.count("interleave_moe_layer_step", 1);
    keys.count("leading_dense_block_count", sizes.dense_layers);
    keys.count("expert_feed_forward_length", sizes.expert_feed_forward);
    keys.count("expert_shared_count", config.count(&["moe_num_shared_experts"])?);
    keys.count("expert_shared_feed_forward_length", sizes.shared_feed_forward);
    // The number is smaller than what f32 can add to the sum of the weights.
    config.optional_number(&["moe_norm_min"])?;
    Ok(keys)
}
