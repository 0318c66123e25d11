//! GPT-2: positions are learned, and matrices are stored transposed.

use crate::graph::parts::*;
use crate::graph::{Activation, Graph, NormKind, Slot};

use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::dims::Sizes;
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Family, nothing, unsupported};
use crate::arch::table::keys::Keys;
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{GELU, Literal, Only, Takes};

const NAME: &str = "gpt2";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["GPT2LMHeadModel", "GPT2Model"],
    model_types: &["gpt2"],
    sizes,
    keys,
    table: &TABLE,
    computed: nothing,
    takes: Takes {
        activations: GELU,
        scalings: &[],
        only: &[
            Only { key: "scale_attn_weights", value: Literal::Flag(true) },
            Only { key: "add_cross_attention", value: Literal::Flag(false) },
        ],
        tied: true,
        ..Takes::PLAIN
    },
    graph: &GRAPH,
};

static TABLE: Table = Table {
    family: NAME,
    prefix: "transformer.",
    // Early checkpoints contain the causal mask.
    ignored: &[".attn.bias", ".attn.masked_bias"],
    entries: &[&[
        Entry::new("wte.weight", "token_embd.weight", &[Vocab, Hidden]),
        Entry::new("wpe.weight", "position_embd.weight", &[Positions, Hidden]).always_f32(),
        Entry::new("ln_f.weight", "output_norm.weight", &[Hidden]),
        Entry::new("ln_f.bias", "output_norm.bias", &[Hidden]),
        Entry::new("lm_head.weight", "output.weight", &[Vocab, Hidden]).optional(),
        Entry::new("h.{}.ln_1.weight", "blk.{}.attn_norm.weight", &[Hidden]),
        Entry::new("h.{}.ln_1.bias", "blk.{}.attn_norm.bias", &[Hidden]),
        Entry::new("h.{}.attn.c_attn.weight", "blk.{}.attn_qkv.weight", &[Hidden, Fused]).transposed(),
        Entry::new("h.{}.attn.c_attn.bias", "blk.{}.attn_qkv.bias", &[Fused]),
        Entry::new("h.{}.attn.c_proj.weight", "blk.{}.attn_output.weight", &[Query, Hidden]).transposed(),
        Entry::new("h.{}.attn.c_proj.bias", "blk.{}.attn_output.bias", &[Hidden]),
        Entry::new("h.{}.ln_2.weight", "blk.{}.ffn_norm.weight", &[Hidden]),
        Entry::new("h.{}.ln_2.bias", "blk.{}.ffn_norm.bias", &[Hidden]),
        Entry::new("h.{}.mlp.c_fc.weight", "blk.{}.ffn_up.weight", &[Hidden, FeedForward]).transposed(),
        Entry::new("h.{}.mlp.c_fc.bias", "blk.{}.ffn_up.bias", &[FeedForward]),
        Entry::new("h.{}.mlp.c_proj.weight", "blk.{}.ffn_down.weight", &[FeedForward, Hidden]).transposed(),
        Entry::new("h.{}.mlp.c_proj.bias", "blk.{}.ffn_down.bias", &[Hidden]),
    ]],
};

static GRAPH: Graph = Graph {
    learned_positions: true,
    layer: |_, _| {
        let attention = [ATTENTION_LAYER_NORM, FUSED_QUERY_KEY_VALUE, ATTEND, ADD].concat();
        let feed_forward = two_matrices(Slot::Normed, Activation::Gelu);
        [&attention, FEED_FORWARD_LAYER_NORM, &feed_forward, ADD].concat()
    },
    final_norm: NormKind::Layer,
    ..Graph::PLAIN
};

fn keys(config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let mut keys = Keys::new(NAME);
    keys.count("block_count", sizes.layers);
    keys.count("context_length", sizes.positions);
    keys.count("embedding_length", sizes.hidden);
    keys.count("feed_forward_length", sizes.feed_forward);
    keys.count("attention.head_count", sizes.heads);
    keys.number("attention.layer_norm_epsilon", config.number(&["layer_norm_epsilon"])?);
    Ok(keys)
}

fn sizes(config: &Config) -> Result<Sizes, ArchError> {
    if config.optional_flag("scale_attn_by_inverse_layer_idx")? == Some(true) {
        let what = "attention scaled by layer (`scale_attn_by_inverse_layer_idx` is true) is".to_owned();
        return Err(unsupported(config, NAME, what));
    }
    let hidden = config.count(&["n_embd"])?;
    let heads = config.count(&["n_head"])?;
    if !hidden.is_multiple_of(heads) {
        return Err(config.unusable("n_embd", "a multiple of `n_head`").into());
    }
    let feed_forward = match config.optional_count(&["n_inner"])? {
        Some(width) => width,
        None => {
            hidden.checked_mul(4).ok_or_else(|| config.unusable("n_embd", "at most a quarter of 2^32"))?
        }
    };
    Ok(Sizes {
        layers: config.count(&["n_layer"])?,
        vocab: config.count(&["vocab_size"])?,
        // The number of positions is the position table's length; the second name is the older one.
        positions: config.count(&["n_positions", "n_ctx"])?,
        hidden,
        feed_forward,
        heads,
        kv_heads: heads,
        head_dim: hidden / heads,
        ..Sizes::default()
    })
}
