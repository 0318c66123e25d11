//! Bamba: Mamba 2's state space in most layers, attention with rotary positions on half of each head in the others, and a dense network.
//!
//! llama.cpp's converter rearranges queries and keys as if all of a head turned, and llama.cpp then turns the wrong pairs. Here the half
//! that turns is rearranged, so that llama.cpp's logits are those of transformers.

use serde_json::json;

use super::granite_hybrid;
use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::dims::{ScanSizes, Sizes};
use crate::arch::table::entries::{CACHED, OUTPUT};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::keys::Keys;
use crate::arch::table::layers::LayerSet;
use crate::arch::table::mapping::Table;
use crate::arch::table::state_space::{scan_keys, state_space, with_scan};
use crate::arch::table::takes::{ATTENTION_BIAS, Literal, Only, Takes};
use crate::arch::table::text;
use kquant_formats::gguf::Value;

const NAME: &str = granite_hybrid::NAME;

/// The part of a head that turns, in all models (transformers).
const TURNED: f64 = 0.5;

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["BambaForCausalLM"],
    model_types: &["bamba"],
    sizes,
    keys,
    table: &Table {
        family: NAME,
        prefix: "model.",
        ignored: CACHED,
        entries: &[OUTSIDE, granite_hybrid::ATTENTION_LAYERS, state_space!("layers.{}.mamba."), FEED_FORWARD],
    },
    computed: nothing,
    takes: Takes {
        scalings: &["default"],
        biases: &[ATTENTION_BIAS],
        only: &[
            Only { key: "mamba_proj_bias", value: Literal::Flag(false) },
            Only { key: "mlp_bias", value: Literal::Flag(false) },
        ],
        ..Takes::PLAIN
    },
    graph: &granite_hybrid::GRAPH,
};

const OUTSIDE: &[Entry] = &[
    Entry::new("embed_tokens.weight", "token_embd.weight", &[Vocab, Hidden]),
    Entry::new("final_layernorm.weight", "output_norm.weight", &[Hidden]),
    OUTPUT,
    Entry::new("layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight", &[Hidden]),
    Entry::new("layers.{}.pre_ff_layernorm.weight", "blk.{}.ffn_norm.weight", &[Hidden]),
];

const FEED_FORWARD: &[Entry] = &[
    Entry::new("layers.{}.feed_forward.gate_proj.weight", "blk.{}.ffn_gate.weight", &[FeedForward, Hidden]),
    Entry::new("layers.{}.feed_forward.up_proj.weight", "blk.{}.ffn_up.weight", &[FeedForward, Hidden]),
    Entry::new("layers.{}.feed_forward.down_proj.weight", "blk.{}.ffn_down.weight", &[Hidden, FeedForward]),
];

fn sizes(config: &Config) -> Result<Sizes, ArchError> {
    for key in ["mamba_conv_bias", "num_logits_to_keep", "z_loss_coefficient"] {
        config.value(key);
    }
    let sizes = text::sizes(&config.or(json!({ "partial_rotary_factor": TURNED })))?;
    if config.optional_count(&["attn_rotary_emb"])?.is_some_and(|turned| turned != sizes.rotary) {
        return Err(config
            .unusable("attn_rotary_emb", "half of the width of a head, as transformers takes it")
            .into());
    }
    let attention = config.optional_counts("attn_layer_indices")?;
    let attention = attention.filter(|layers| !layers.is_empty());
    let Some(attention) = attention else { return Err(config.missing(&["attn_layer_indices"]).into()) };
    let scan = ScanSizes {
        heads: config.count(&["mamba_n_heads"])?,
        groups: config.count(&["mamba_n_groups"])?,
        state: config.count(&["mamba_d_state"])?,
        value: config.count(&["mamba_d_head"])?,
    };
    let sizes = Sizes {
        kernel: config.count(&["mamba_d_conv"])?,
        recurrent: LayerSet::of(|layer| !attention.contains(&(layer as u64))),
        ..sizes
    };
    with_scan(config, sizes, scan, (config.count(&["mamba_expand"])?, "mamba_expand"))
}

fn keys(config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let mut keys = text::keys(NAME, config, sizes)?;
    text::heads_by_layer(&mut keys, sizes);
    keys.count("vocab_size", sizes.vocab);
    keys.count("rope.dimension_count", sizes.rotary);
    scan_keys(sizes, &mut keys);
    // Readers of the file turn queries and keys only if this is true.
    keys.add("rope.scaling.finetuned", Value::Bool(true));
    Ok(keys)
}
