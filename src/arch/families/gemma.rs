//! Gemma 1: embeddings are scaled, norms are stored as differences from one, and the gate uses GELU.

use crate::graph::parts::*;
use crate::graph::{Activation, Graph, Slot};

use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::dims::Sizes;
use crate::arch::table::entries::{ATTENTION, ATTENTION_OUTPUT, GATED, VALUE};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Family, nothing, unsupported};
use crate::arch::table::keys::Keys;
use crate::arch::table::mapping::Table;
use crate::arch::table::rope::Rope;
use crate::arch::table::takes::{ATTENTION_BIAS, GELU, HeadPlace, Literal, Only, Takes};
use crate::arch::table::text;

const NAME: &str = "gemma";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["GemmaForCausalLM"],
    model_types: &["gemma"],
    sizes: |config| text::plain_sizes(config, NAME),
    keys: |config, sizes| keys(NAME, config, sizes),
    table: &TABLE,
    computed: nothing,
    takes: Takes {
        activations: GELU,
        biases: &[ATTENTION_BIAS],
        only: &[ONE_WAY],
        head: HeadPlace::Embedding,
        tied: true,
        ..Takes::PLAIN
    },
    graph: &GRAPH,
};

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: IGNORED,
    entries: &[OUTSIDE, NORMS, ATTENTION, VALUE, ATTENTION_OUTPUT, GATED],
};

/// The only value that the key may have: attention to later tokens belongs to another model.
pub(super) const ONE_WAY: Only = Only { key: "use_bidirectional_attention", value: Literal::Flag(false) };

/// The only value that the key may have in families whose attention scores have no bound.
pub(super) const NO_BOUND: Only = Only { key: "attn_logit_softcapping", value: Literal::Null };

/// Names that are ignored; the output is the embedding, even if the checkpoint repeats it.
pub(super) const IGNORED: &[&str] = &["lm_head.weight", ".rotary_emb.inv_freq"];

/// The embedding and the last norm.
pub(super) const OUTSIDE: &[Entry] = &[
    Entry::new("embed_tokens.weight", "token_embd.weight", &[Vocab, Hidden]),
    Entry::new("norm.weight", "output_norm.weight", &[Hidden]).plus_one(),
];

const NORMS: &[Entry] = &[
    Entry::new("layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight", &[Hidden]).plus_one(),
    Entry::new("layers.{}.post_attention_layernorm.weight", "blk.{}.ffn_norm.weight", &[Hidden]).plus_one(),
];

/// Norms before and after attention and the feed-forward network, in Gemma 2 and 3.
pub(super) const FOUR_NORMS: &[Entry] = &[
    Entry::new("layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight", &[Hidden]).plus_one(),
    Entry::new("layers.{}.post_attention_layernorm.weight", "blk.{}.post_attention_norm.weight", &[Hidden])
        .plus_one(),
    Entry::new("layers.{}.pre_feedforward_layernorm.weight", "blk.{}.ffn_norm.weight", &[Hidden]).plus_one(),
    Entry::new("layers.{}.post_feedforward_layernorm.weight", "blk.{}.post_ffw_norm.weight", &[Hidden])
        .plus_one(),
];

static GRAPH: Graph = Graph {
    scaled_embedding: true,
    layer: |_, _| {
        let gated = gated(Slot::Normed, Activation::GeluGate);
        let attention = [ATTENTION_NORM, QUERY_KEY_VALUE, TURN, ATTEND, ADD].concat();
        [&attention, FEED_FORWARD_NORM, &gated, ADD].concat()
    },
    ..Graph::PLAIN
};

/// Returns the keys of the first two generations.
pub(super) fn keys(name: &'static str, config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let mut keys = Keys::new(name);
    keys.count("context_length", sizes.positions);
    keys.count("embedding_length", sizes.hidden);
    keys.count("block_count", sizes.layers);
    keys.count("feed_forward_length", sizes.feed_forward);
    keys.count("attention.head_count", sizes.heads);
    keys.count("attention.head_count_kv", sizes.kv_heads);
    text::epsilon(config, &mut keys)?;
    text::head_widths(&mut keys, sizes);
    Rope::read(config, sizes.positions)?.write_unusual(&mut keys);
    Ok(keys)
}

/// Refuses attention scores that are scaled by other than the root of the head's width or, in a model of `exception`
/// layers, of the hidden width over the number of heads: no key can express it.
pub(super) fn score_scale(
    config: &Config,
    name: &'static str,
    sizes: &Sizes,
    exception: u32,
) -> Result<(), ArchError> {
    let expected = if sizes.layers == exception { sizes.hidden / sizes.heads } else { sizes.head_dim };
    // The default is transformers', for every width of a head.
    match config.optional_number(&["query_pre_attn_scalar"])?.unwrap_or(256.0) {
        scalar if scalar != expected as f32 => {
            let what =
                format!("attention scores divided by the root of {scalar} (`query_pre_attn_scalar`) are");
            Err(unsupported(config, name, what))
        }
        _ => Ok(()),
    }
}
