//! StableLM: Llama with layer norms and heads of which a part turns.

use crate::model::Hyper;
use crate::model::graph::{Graph, Op};
use crate::model::parts::*;

use super::config::Config;
use super::dims::Sizes;
use super::entries::{ATTENTION, ATTENTION_OUTPUT, CACHED, GATED, NORM_BIASES, NORMS, OUTSIDE, VALUE};
use super::error::ArchError;
use super::family::{Family, nothing, unsupported};
use super::keys::Keys;
use super::mapping::Table;
use super::rope::Rope;
use super::text;
use crate::model::graph::NormKind;
use kquant_formats::gguf::Value;

const NAME: &str = "stablelm";

/// The family.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["StableLmForCausalLM", "StableLMEpochForCausalLM"],
    model_types: &["stablelm", "stablelm_epoch"],
    sizes,
    keys,
    table: &TABLE,
    computed: nothing,
    graph: &GRAPH,
};

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: CACHED,
    entries: &[OUTSIDE, NORMS, NORM_BIASES, ATTENTION, VALUE, ATTENTION_OUTPUT, GATED],
};

static GRAPH: Graph = Graph { layer, final_norm: NormKind::Layer, ..Graph::PLAIN };

fn layer(_: &Hyper, _: usize) -> Vec<Op> {
    let attention = [ATTENTION_LAYER_NORM, QUERY_KEY_VALUE, TURN, ATTEND, ADD].concat();
    [&attention, FEED_FORWARD_LAYER_NORM, SILU, ADD].concat()
}

fn sizes(config: &Config) -> Result<Sizes, ArchError> {
    for key in ["qk_layernorm", "use_parallel_residual"] {
        if config.optional_flag(key)? == Some(true) {
            return Err(unsupported(config, NAME, format!("`{key}` is true, which is")));
        }
    }
    text::sizes(config)
}

fn keys(config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let mut keys = Keys::new(NAME);
    keys.count("context_length", sizes.positions);
    keys.count("embedding_length", sizes.hidden);
    keys.count("block_count", sizes.layers);
    keys.count("feed_forward_length", sizes.feed_forward);
    keys.count("rope.dimension_count", sizes.rotary);
    keys.count("attention.head_count", sizes.heads);
    keys.count("attention.head_count_kv", sizes.kv_heads);
    keys.add(
        "use_parallel_residual",
        Value::Bool(config.optional_flag("use_parallel_residual")?.unwrap_or(true)),
    );
    text::epsilon(config, &mut keys)?;
    Rope::read(config, sizes.positions)?.write_unusual(&mut keys);
    Ok(keys)
}
