//! Phi 1 to 2: attention and the feed-forward network read one norm of the stream, and RoPE rotates a part of each head.

use crate::graph::parts::*;
use crate::graph::{Activation, Graph, NormKind, Slot};
use kquant_formats::gguf::Value;

use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::dims::Sizes;
use crate::arch::table::entries::{ATTENTION, CACHED, VALUE};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Family, nothing, unsupported};
use crate::arch::table::keys::Keys;
use crate::arch::table::mapping::Table;
use crate::arch::table::rope::Rope;
use crate::arch::table::takes::{GELU, HeadPlace, Takes};
use crate::arch::table::text;

const NAME: &str = "phi2";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["PhiForCausalLM"],
    model_types: &["phi"],
    sizes,
    keys,
    table: &TABLE,
    computed: nothing,
    takes: Takes { activations: GELU, head: HeadPlace::Own, ..Takes::PLAIN },
    graph: &GRAPH,
};

static TABLE: Table =
    Table { family: NAME, prefix: "model.", ignored: CACHED, entries: &[OWN, ATTENTION, VALUE] };

const OWN: &[Entry] = &[
    Entry::new("embed_tokens.weight", "token_embd.weight", &[Vocab, Hidden]),
    Entry::new("final_layernorm.weight", "output_norm.weight", &[Hidden]),
    Entry::new("final_layernorm.bias", "output_norm.bias", &[Hidden]),
    Entry::new("lm_head.weight", "output.weight", &[Vocab, Hidden]),
    Entry::new("lm_head.bias", "output.bias", &[Vocab]),
    Entry::new("layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight", &[Hidden]),
    Entry::new("layers.{}.input_layernorm.bias", "blk.{}.attn_norm.bias", &[Hidden]),
    Entry::new("layers.{}.self_attn.dense.weight", "blk.{}.attn_output.weight", &[Hidden, Query]),
    Entry::new("layers.{}.self_attn.dense.bias", "blk.{}.attn_output.bias", &[Hidden]),
    Entry::new("layers.{}.mlp.fc1.weight", "blk.{}.ffn_up.weight", &[FeedForward, Hidden]),
    Entry::new("layers.{}.mlp.fc1.bias", "blk.{}.ffn_up.bias", &[FeedForward]),
    Entry::new("layers.{}.mlp.fc2.weight", "blk.{}.ffn_down.weight", &[Hidden, FeedForward]),
    Entry::new("layers.{}.mlp.fc2.bias", "blk.{}.ffn_down.bias", &[Hidden]),
];

static GRAPH: Graph = Graph {
    layer: |_, _| {
        let feed_forward = two_matrices(Slot::Normed, Activation::Gelu);
        let attention = [ATTENTION_LAYER_NORM, QUERY_KEY_VALUE, TURN, ATTEND, ADD].concat();
        [&attention, &feed_forward[..], ADD].concat()
    },
    final_norm: NormKind::Layer,
    ..Graph::PLAIN
};

fn sizes(config: &Config) -> Result<Sizes, ArchError> {
    if config.optional_flag("qk_layernorm")? == Some(true) {
        return Err(unsupported(
            config,
            NAME,
            "norms of queries and keys (`qk_layernorm` is true) are".to_owned(),
        ));
    }
    let sizes = text::sizes(config)?;
    if sizes.kv_heads != sizes.heads {
        let what = "fewer heads of keys and values than of queries (`num_key_value_heads`) are".to_owned();
        return Err(unsupported(config, NAME, what));
    }
    Ok(sizes)
}

fn keys(config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let mut keys = Keys::new(NAME);
    keys.count("context_length", sizes.positions);
    keys.count("embedding_length", sizes.hidden);
    // The factor is the converter's, for every value of `intermediate_size`.
    keys.count("feed_forward_length", sizes.hidden.saturating_mul(4));
    keys.count("block_count", sizes.layers);
    keys.count("attention.head_count", sizes.heads);
    keys.count("attention.head_count_kv", sizes.heads);
    text::epsilon(config, &mut keys)?;
    keys.count("rope.dimension_count", sizes.rotary);
    Rope::read(config, sizes.positions)?.write_unusual(&mut keys);
    keys.set("tokenizer.ggml.add_bos_token".to_owned(), Value::Bool(false));
    Ok(keys)
}
