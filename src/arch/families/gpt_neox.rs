//! GPT-NeoX and Pythia: queries, keys and values are in one matrix, head by head; attention and the feed-forward network
//! are parallel; RoPE rotates a part of each head.

use crate::graph::parts::*;
use crate::graph::{Activation, Graph, Hyper, NormKind, Op, Slot};
use crate::tensor::RowOrder;
use kquant_formats::gguf::Value;

use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::dims::Sizes;
use crate::arch::table::entries::CACHED;
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::keys::Keys;
use crate::arch::table::mapping::Table;
use crate::arch::table::rope::Rope;
use crate::arch::table::takes::{Biases, GELU, HeadPlace, Takes};
use crate::arch::table::text;

const NAME: &str = "gptneox";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["GPTNeoXForCausalLM"],
    model_types: &["gpt_neox"],
    sizes: text::sizes,
    keys,
    table: &TABLE,
    computed: nothing,
    takes: Takes {
        activations: GELU,
        biases: &[Biases {
            flag: "attention_bias",
            names: &[".attention.query_key_value.bias", ".attention.dense.bias"],
        }],
        head: HeadPlace::Own,
        ..Takes::PLAIN
    },
    graph: &GRAPH,
};

static TABLE: Table = Table { family: NAME, prefix: "gpt_neox.", ignored: CACHED, entries: &[OWN] };

const OWN: &[Entry] = &[
    Entry::new("embed_in.weight", "token_embd.weight", &[Vocab, Hidden]),
    Entry::new("embed_out.weight", "output.weight", &[Vocab, Hidden]).optional(),
    Entry::new("final_layer_norm.weight", "output_norm.weight", &[Hidden]),
    Entry::new("final_layer_norm.bias", "output_norm.bias", &[Hidden]),
    Entry::new("layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight", &[Hidden]),
    Entry::new("layers.{}.input_layernorm.bias", "blk.{}.attn_norm.bias", &[Hidden]),
    Entry::new("layers.{}.post_attention_layernorm.weight", "blk.{}.ffn_norm.weight", &[Hidden]),
    Entry::new("layers.{}.post_attention_layernorm.bias", "blk.{}.ffn_norm.bias", &[Hidden]),
    Entry::new("layers.{}.attention.query_key_value.weight", "blk.{}.attn_qkv.weight", &[Fused, Hidden])
        .part(&[Fused, Hidden], apart),
    Entry::new("layers.{}.attention.query_key_value.bias", "blk.{}.attn_qkv.bias", &[Fused])
        .part(&[Fused], apart)
        .optional(),
    Entry::new("layers.{}.attention.dense.weight", "blk.{}.attn_output.weight", &[Hidden, Query]),
    Entry::new("layers.{}.attention.dense.bias", "blk.{}.attn_output.bias", &[Hidden]).optional(),
    Entry::new("layers.{}.mlp.dense_h_to_4h.weight", "blk.{}.ffn_up.weight", &[FeedForward, Hidden]),
    Entry::new("layers.{}.mlp.dense_h_to_4h.bias", "blk.{}.ffn_up.bias", &[FeedForward]),
    Entry::new("layers.{}.mlp.dense_4h_to_h.weight", "blk.{}.ffn_down.weight", &[Hidden, FeedForward]),
    Entry::new("layers.{}.mlp.dense_4h_to_h.bias", "blk.{}.ffn_down.bias", &[Hidden]),
];

/// Returns the order of rows in which each head's query, key and value become all queries, all keys and all values.
fn apart(sizes: &Sizes) -> RowOrder {
    RowOrder::Regrouped { queries: 1, groups: sizes.heads.into() }
}

static GRAPH: Graph = Graph { layer, final_norm: NormKind::Layer, ..Graph::PLAIN };

fn layer(hyper: &Hyper, _: usize) -> Vec<Op> {
    let attention = [FUSED_QUERY_KEY_VALUE, TURN, ATTEND, ADD].concat();
    let side_by_side = hyper.parallel.unwrap_or(true);
    let input = if side_by_side { Slot::NormedParallel } else { Slot::Normed };
    let norm = [layer_norm(Slot::Stream, input, "ffn_norm")];
    let feed_forward = two_matrices(input, Activation::GeluErf);
    if side_by_side {
        // Both norms read the stream before attention adds to it.
        [ATTENTION_LAYER_NORM, &norm, &attention, &feed_forward, ADD].concat()
    } else {
        [ATTENTION_LAYER_NORM, &attention, &norm, &feed_forward, ADD].concat()
    }
}

fn keys(config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let mut keys = Keys::new(NAME);
    keys.count("context_length", sizes.positions);
    keys.count("embedding_length", sizes.hidden);
    keys.count("block_count", sizes.layers);
    keys.count("feed_forward_length", sizes.feed_forward);
    keys.count("rope.dimension_count", sizes.rotary);
    keys.count("attention.head_count", sizes.heads);
    keys.add(
        "use_parallel_residual",
        Value::Bool(config.optional_flag("use_parallel_residual")?.unwrap_or(true)),
    );
    text::epsilon(config, &mut keys)?;
    Rope::read(config, sizes.positions)?.write_unusual(&mut keys);
    Ok(keys)
}
