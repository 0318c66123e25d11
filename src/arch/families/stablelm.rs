//! StableLM: Llama with layer norms, where RoPE rotates a part of each head. StableLM 2 12B also has norms of queries and
//! keys for each head, and its feed-forward network is parallel to attention.

use crate::graph::parts::*;
use crate::graph::{Graph, Hyper, NormKind, Op};

use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::dims::Sizes;
use crate::arch::table::entries::{
    ATTENTION, ATTENTION_OUTPUT, CACHED, GATED, NORM_BIASES, NORMS, OUTSIDE, VALUE,
};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::keys::Keys;
use crate::arch::table::mapping::Table;
use crate::arch::table::rope::Rope;
use crate::arch::table::takes::{Biases, HeadPlace, Takes};
use crate::arch::table::text;
use kquant_formats::gguf::Value;

const NAME: &str = "stablelm";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["StableLmForCausalLM", "StableLMEpochForCausalLM"],
    model_types: &["stablelm", "stablelm_epoch"],
    sizes,
    keys,
    table: &TABLE,
    computed: nothing,
    takes: Takes { biases: &[QUERY_KEY_VALUE_BIAS], head: HeadPlace::Own, ..Takes::PLAIN },
    graph: &GRAPH,
};

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: CACHED,
    entries: &[
        OUTSIDE,
        &[
            NORMS[0],
            NORMS[1].only(one_by_one),
            NORM_BIASES[0],
            NORM_BIASES[1],
            NORM_BIASES[2].only(one_by_one),
        ],
        EACH_HEADS_NORMS,
        ATTENTION,
        VALUE,
        ATTENTION_OUTPUT,
        GATED,
    ],
};

/// Biases of queries, keys and values.
const QUERY_KEY_VALUE_BIAS: Biases = Biases {
    flag: "use_qkv_bias",
    names: &[".self_attn.q_proj.bias", ".self_attn.k_proj.bias", ".self_attn.v_proj.bias"],
};

/// Norms of each head's queries and keys, which in GGUF are one tensor for a layer.
const EACH_HEADS_NORMS: &[Entry] = &[
    Entry::new("layers.{}.self_attn.q_layernorm.norms.{}.weight", "blk.{}.attn_q_norm.weight", &[Head])
        .stacked(Heads)
        .only(|sizes| sizes.query_key_norms),
    Entry::new("layers.{}.self_attn.k_layernorm.norms.{}.weight", "blk.{}.attn_k_norm.weight", &[Head])
        .stacked(KvHeads)
        .only(|sizes| sizes.query_key_norms),
];

fn one_by_one(sizes: &Sizes) -> bool {
    !sizes.side_by_side
}

static GRAPH: Graph = Graph {
    layer,
    // Whatever the keys, readers of the file go by the presence of these tensors. Without its own norm, the feed-forward
    // network reads attention's.
    optional: &["attn_q_norm", "attn_k_norm", "ffn_norm"],
    final_norm: NormKind::Layer,
    ..Graph::PLAIN
};

fn layer(_: &Hyper, _: usize) -> Vec<Op> {
    let attention = [ATTENTION_LAYER_NORM, QUERY_KEY_VALUE, QUERY_KEY_LAYER_NORM, TURN, ATTEND, ADD].concat();
    [&attention, FEED_FORWARD_LAYER_NORM, SILU, ADD].concat()
}

fn sizes(config: &Config) -> Result<Sizes, ArchError> {
    Ok(Sizes {
        // The key that is written has another default, which is the converter's.
        side_by_side: config.optional_flag("use_parallel_residual")?.unwrap_or(false),
        query_key_norms: config.optional_flag("qk_layernorm")?.unwrap_or(false),
        ..text::sizes(config)?
    })
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
