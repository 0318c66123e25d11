//! Falcon: attention and the feed-forward network read norms of the same stream; in the first models one norm, and all queries
//! share one head of keys and values.

use crate::graph::parts::*;
use crate::graph::{Activation, Graph, NormKind, Slot};
use crate::tensor::RowOrder;
use kquant_formats::gguf::Value;

use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::dims::Sizes;
use crate::arch::table::entries::{CACHED, OUTPUT};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Family, nothing, unsupported};
use crate::arch::table::keys::Keys;
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{GELU, Literal, Only, Takes};
use crate::arch::table::text;

const NAME: &str = "falcon";

/// The context length of all models of the family, which configurations do not give.
const CONTEXT: u32 = 2048;

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["FalconForCausalLM", "RWForCausalLM"],
    model_types: &["falcon", "RefinedWeb", "RefinedWebModel"],
    sizes,
    keys,
    table: &TABLE,
    computed: nothing,
    takes: Takes {
        activations: GELU,
        scalings: &["default"],
        only: &[
            Only { key: "alibi", value: Literal::Flag(false) },
            Only { key: "bias", value: Literal::Flag(false) },
            Only { key: "parallel_attn", value: Literal::Flag(true) },
            Only { key: "rope_theta", value: Literal::Number(10000.0) },
        ],
        tied: true,
        ..Takes::PLAIN
    },
    graph: &GRAPH,
};

static TABLE: Table =
    Table { family: NAME, prefix: "transformer.", ignored: CACHED, entries: &[OWN, &[OUTPUT]] };

const OWN: &[Entry] = &[
    Entry::new("word_embeddings.weight", "token_embd.weight", &[Vocab, Hidden]),
    Entry::new("ln_f.weight", "output_norm.weight", &[Hidden]),
    Entry::new("ln_f.bias", "output_norm.bias", &[Hidden]),
    Entry::new("h.{}.input_layernorm.weight", "blk.{}.attn_norm.weight", &[Hidden]).only(one_norm),
    Entry::new("h.{}.input_layernorm.bias", "blk.{}.attn_norm.bias", &[Hidden]).only(one_norm),
    Entry::new("h.{}.ln_mlp.weight", "blk.{}.attn_norm.weight", &[Hidden]).only(two_norms),
    Entry::new("h.{}.ln_mlp.bias", "blk.{}.attn_norm.bias", &[Hidden]).only(two_norms),
    Entry::new("h.{}.ln_attn.weight", "blk.{}.attn_norm_2.weight", &[Hidden]).only(two_norms),
    Entry::new("h.{}.ln_attn.bias", "blk.{}.attn_norm_2.bias", &[Hidden]).only(two_norms),
    Entry::new("h.{}.self_attention.query_key_value.weight", "blk.{}.attn_qkv.weight", &[Fused, Hidden])
        .part(&[Fused, Hidden], |sizes| RowOrder::Regrouped {
            queries: (sizes.heads / sizes.kv_heads).into(),
            groups: sizes.kv_heads.into(),
        }),
    Entry::new("h.{}.self_attention.dense.weight", "blk.{}.attn_output.weight", &[Hidden, Query]),
    Entry::new("h.{}.mlp.dense_h_to_4h.weight", "blk.{}.ffn_up.weight", &[FeedForward, Hidden]),
    Entry::new("h.{}.mlp.dense_4h_to_h.weight", "blk.{}.ffn_down.weight", &[Hidden, FeedForward]),
];

fn one_norm(sizes: &Sizes) -> bool {
    !sizes.norms_apart
}

fn two_norms(sizes: &Sizes) -> bool {
    sizes.norms_apart
}

static GRAPH: Graph = Graph {
    layer: |_, _| {
        // Both norms read the stream before anything is added to it. Without its own norm, attention reads the other.
        let norms = [
            layer_norm(Slot::Stream, Slot::Normed, "attn_norm"),
            layer_norm(Slot::Stream, Slot::NormedParallel, "attn_norm_2"),
        ];
        let attention = [&fused_query_key_value(Slot::NormedParallel), TURN, ATTEND, ADD].concat();
        let feed_forward = two_matrices(Slot::Normed, Activation::GeluErf);
        [&norms, &attention[..], &feed_forward, ADD].concat()
    },
    optional: &["attn_norm_2"],
    final_norm: NormKind::Layer,
    ..Graph::PLAIN
};

fn sizes(config: &Config) -> Result<Sizes, ArchError> {
    let heads = config.count(&["num_attention_heads", "n_head"])?;
    let new = config.optional_flag("new_decoder_architecture")?.unwrap_or(false);
    let multi_query = config.optional_flag("multi_query")?.unwrap_or(true);
    // In the first models, transformers ignores the number of heads of keys.
    let listed = config.optional_count(&["num_kv_heads", "n_head_kv"])?;
    let kv_heads = if new { listed.unwrap_or(heads) } else { 1 };
    if !new && !multi_query {
        let what = "a head of keys and values for each of queries (`multi_query` is false) are".to_owned();
        return Err(unsupported(config, NAME, what));
    }
    let norms = config.optional_count(&["num_ln_in_parallel_attn"])?.unwrap_or(if new { 2 } else { 1 });
    let hidden = config.count(&["hidden_size"])?;
    let width = config.optional_count(&["ffn_hidden_size"])?.unwrap_or(hidden.saturating_mul(4));
    let config = config.or(serde_json::json!({
        "max_position_embeddings": CONTEXT,
        "intermediate_size": width,
        "num_hidden_layers": config.optional_count(&["n_layer"])?,
        "num_attention_heads": heads,
    }));
    let sizes = text::sizes(&config)?;
    text::whole_heads(&config, NAME, &sizes)?;
    if !heads.is_multiple_of(kv_heads) {
        return Err(config.unusable("num_kv_heads", "a divisor of `num_attention_heads`").into());
    }
    Ok(Sizes { kv_heads, positions: CONTEXT, norms_apart: new && norms == 2, ..sizes })
}

fn keys(config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let mut keys = Keys::new(NAME);
    keys.count("context_length", sizes.positions);
    keys.add("tensor_data_layout", Value::from("jploski"));
    keys.count("embedding_length", sizes.hidden);
    keys.count("feed_forward_length", sizes.feed_forward);
    keys.count("block_count", sizes.layers);
    keys.count("attention.head_count", sizes.heads);
    keys.count("attention.head_count_kv", sizes.kv_heads);
    text::epsilon(config, &mut keys)?;
    // The length of texts counts for nothing in the computation.
    config.optional_count(&["max_position_embeddings"])?;
    Ok(keys)
}
