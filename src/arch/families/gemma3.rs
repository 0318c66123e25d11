//! Gemma 3 for text: Gemma 2 with norms of each head's queries and keys in place of bounds, and with a window and other
//! rotary frequencies in five of six layers.

use crate::graph::parts::*;
use crate::graph::{Activation, Graph, Slot, Windows};

use super::gemma::{self, FOUR_NORMS, NO_BOUND, ONE_WAY, OUTSIDE};
use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::dims::Sizes;
use crate::arch::table::entries::{ATTENTION, ATTENTION_OUTPUT, CACHED, GATED, OUTPUT, VALUE};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::keys::Keys;
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{ATTENTION_BIAS, GELU, Takes};
use crate::arch::table::text;
use crate::arch::table::windows::Window;

const NAME: &str = "gemma3";

/// Number of layers from one without a window to the next.
const PATTERN: usize = 6;

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"],
    model_types: &["gemma3_text", "gemma3"],
    sizes: |config| sizes(config, NAME),
    keys: |config, sizes| keys(config, sizes, NAME),
    table: &TABLE,
    computed: nothing,
    takes: Takes {
        activations: GELU,
        window: Window::Written { base: true },
        biases: &[ATTENTION_BIAS],
        only: &[ONE_WAY, NO_BOUND],
        tied: true,
        ..Takes::PLAIN
    },
    graph: &GRAPH,
};

/// The tensors, which EmbeddingGemma has as well.
pub(super) static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: CACHED,
    entries: &[OUTSIDE, &[OUTPUT], FOUR_NORMS, HEAD_NORMS, ATTENTION, VALUE, ATTENTION_OUTPUT, GATED],
};

const HEAD_NORMS: &[Entry] = &[
    Entry::new("layers.{}.self_attn.q_norm.weight", "blk.{}.attn_q_norm.weight", &[Head]).plus_one(),
    Entry::new("layers.{}.self_attn.k_norm.weight", "blk.{}.attn_k_norm.weight", &[Head]).plus_one(),
];

static GRAPH: Graph = LAYERS;

/// The forward pass, which EmbeddingGemma has as well, but for what tokens see.
pub(super) const LAYERS: Graph = Graph {
    scaled_embedding: true,
    layer: |_, _| {
        let gated = gated(Slot::Normed, Activation::GeluGate);
        let query_key_value = [ATTENTION_NORM, QUERY_KEY_VALUE, QUERY_KEY_NORM, TURN].concat();
        let attention = [&query_key_value, ATTEND, POST_ATTENTION_NORM, ADD].concat();
        [&attention, FEED_FORWARD_NORM, &gated, POST_FEED_FORWARD_NORM, ADD].concat()
    },
    windows: Windows::Pattern(PATTERN),
    window_base: Some(10000.0),
    ..Graph::PLAIN
};

/// Returns the configuration with transformers' defaults: published configurations of models that handle images as well
/// omit most values.
fn complete(config: &Config) -> Config {
    config.or(serde_json::json!({
        "vocab_size": 262_208,
        "max_position_embeddings": 131_072,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0,
        "sliding_window": 4096,
    }))
}

/// Returns the keys of the family called `name` in GGUF.
pub(super) fn keys(config: &Config, sizes: &Sizes, name: &'static str) -> Result<Keys, ArchError> {
    let config = &complete(config);
    let mut keys = text::keys(name, config, sizes)?;
    text::head_widths(&mut keys, sizes);
    let bound = config.optional_number(&["final_logit_softcapping"])?;
    keys.optional_number("final_logit_softcapping", bound);
    keys.count("attention.sliding_window", config.count(&["sliding_window"])?);
    Ok(keys)
}

/// Returns the dimensions of a model of the family called `name` in GGUF.
pub(super) fn sizes(config: &Config, name: &'static str) -> Result<Sizes, ArchError> {
    let config = &complete(config);
    let sizes = text::plain_sizes(config, name)?;
    text::window_pattern(config, name, PATTERN)?;
    // The exception is the 27B model.
    gemma::score_scale(config, name, &sizes, 62)?;
    Ok(sizes)
}
