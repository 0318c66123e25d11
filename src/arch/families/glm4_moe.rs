//! GLM 4.5 to 4.7: experts of DeepSeek V3, with shared ones, after dense layers; rotary positions on a part of each head, and in
//! some models norms of each head's queries and keys.

use crate::graph::parts::*;
use crate::graph::{Graph, Slot};
use kquant_formats::gguf::Value;

use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Sizes;
use crate::arch::table::entries::{
    ATTENTION, ATTENTION_OUTPUT, CACHED, CORRECTION, GATED, HEAD_NORMS, MIXTURE, NORMS, OUTSIDE, SECOND_NORM,
    SHARED, VALUE,
};
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::keys::Keys;
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{ATTENTION_BIAS, Takes};
use crate::arch::table::text;

const NAME: &str = "glm4moe";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["Glm4MoeForCausalLM"],
    model_types: &["glm4_moe"],
    sizes: |config| {
        Ok(Sizes {
            further_layers: text::further_layers(config)?,
            query_key_norms: config.optional_flag("use_qk_norm")?.unwrap_or(false),
            ..text::sizes_with_shared_experts(config, NAME)?
        })
    },
    keys,
    table: &TABLE,
    computed: nothing,
    takes: Takes { biases: &[ATTENTION_BIAS], ..Takes::PLAIN },
    graph: &GRAPH,
};

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: CACHED,
    entries: &[
        OUTSIDE,
        &[NORMS[0], SECOND_NORM],
        ATTENTION,
        VALUE,
        ATTENTION_OUTPUT,
        &[HEAD_NORMS[0].only(has_norms), HEAD_NORMS[1].only(has_norms)],
        GATED,
        MIXTURE,
        &[CORRECTION],
        SHARED,
    ],
};

fn has_norms(sizes: &Sizes) -> bool {
    sizes.query_key_norms
}

static GRAPH: Graph = Graph {
    layer: |hyper, number| {
        let attention = [ATTENTION_NORM, QUERY_KEY_VALUE, QUERY_KEY_NORM, TURN, ATTEND, ADD].concat();
        let norm = [rms(Slot::Stream, Slot::Normed, "post_attention_norm")];
        [&attention, &norm[..], feed_forward(hyper, number), ADD].concat()
    },
    optional: &["attn_q_norm", "attn_k_norm"],
    ..Graph::PLAIN
};

fn keys(config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let mut keys = text::keys(NAME, config, sizes)?;
    keys.count("rope.dimension_count", sizes.rotary);
    keys.count("expert_feed_forward_length", sizes.expert_feed_forward);
    keys.count("expert_shared_count", text::shared_experts(config)?);
    keys.count("leading_dense_block_count", sizes.dense_layers);
    keys.count("expert_gating_func", 2);
    keys.optional_number("expert_weights_scale", config.optional_number(&["routed_scaling_factor"])?);
    keys.add("expert_weights_norm", Value::Bool(config.optional_flag("norm_topk_prob")?.unwrap_or(true)));
    // Layers that predict further tokens are left out.
    keys.count("nextn_predict_layers", 0);
    Ok(keys)
}
