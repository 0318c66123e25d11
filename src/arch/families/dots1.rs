//! dots.llm1: attention of Qwen 3 and experts of DeepSeek V3, with shared ones, after dense layers.

use crate::graph::Graph;
use crate::graph::parts::*;
use kquant_formats::gguf::Value;

use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Sizes;
use crate::arch::table::entries::{
    ATTENTION, ATTENTION_OUTPUT, CACHED, CORRECTION, GATED, HEAD_NORMS, MIXTURE, NORMS, OUTSIDE, SHARED,
    VALUE,
};
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::keys::Keys;
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{ATTENTION_BIAS, Literal, Only, Takes};
use crate::arch::table::text;
use crate::arch::table::windows::Window;

const NAME: &str = "dots1";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["Dots1ForCausalLM"],
    model_types: &["dots1"],
    sizes: |config| {
        let sizes = text::sizes_with_shared_experts(config, NAME)?;
        text::whole_heads(config, NAME, &sizes)?;
        Ok(sizes)
    },
    keys,
    table: &TABLE,
    computed: nothing,
    takes: Takes {
        window: Window::Later,
        biases: &[ATTENTION_BIAS],
        only: &[Only { key: "moe_layer_freq", value: Literal::Number(1.0) }],
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
        HEAD_NORMS,
        GATED,
        MIXTURE,
        &[CORRECTION],
        SHARED,
    ],
};

static GRAPH: Graph = Graph {
    layer: |hyper, number| {
        let attention = [ATTENTION_NORM, QUERY_KEY_VALUE, QUERY_KEY_NORM, TURN, ATTEND, ADD].concat();
        [&attention, FEED_FORWARD_NORM, feed_forward(hyper, number), ADD].concat()
    },
    ..Graph::PLAIN
};

fn keys(config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let config = &text::with_sigmoid(config);
    let mut keys = text::keys(NAME, config, sizes)?;
    keys.count("expert_feed_forward_length", sizes.expert_feed_forward);
    keys.count("leading_dense_block_count", sizes.dense_layers);
    keys.count("expert_shared_count", text::shared_experts(config)?);
    keys.optional_number("expert_weights_scale", config.optional_number(&["routed_scaling_factor"])?);
    let normalized = config.optional_flag("norm_topk_prob")?.unwrap_or(false);
    keys.add("expert_weights_norm", Value::Bool(normalized));
    Ok(keys)
}
