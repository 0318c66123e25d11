//! Phi 3 and 4: Llama with queries, keys and values in one matrix and gate and up in another; long contexts by two sets of
//! frequency factors.

use crate::graph::parts::*;
use crate::graph::{Graph, Windows};

use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::dims::Sizes;
use crate::arch::table::entries::{ATTENTION_OUTPUT, CACHED, NORMS, OUTSIDE};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Computed, Family};
use crate::arch::table::keys::Keys;
use crate::arch::table::mapping::Table;
use crate::arch::table::rope::Rope;
use crate::arch::table::text;

const NAME: &str = "phi3";

/// The family.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["Phi3ForCausalLM"],
    model_types: &["phi3"],
    sizes: text::sizes,
    keys,
    table: &TABLE,
    computed,
    graph: &GRAPH,
};

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: CACHED,
    entries: &[OUTSIDE, NORMS, ATTENTION_OUTPUT, FUSED],
};

const FUSED: &[Entry] = &[
    Entry::new("layers.{}.self_attn.qkv_proj.weight", "blk.{}.attn_qkv.weight", &[Fused, Hidden]),
    Entry::new("layers.{}.mlp.gate_up_proj.weight", "blk.{}.ffn_up.weight", &[GateUp, Hidden]),
    Entry::new("layers.{}.mlp.down_proj.weight", "blk.{}.ffn_down.weight", &[Hidden, FeedForward]),
];

static GRAPH: Graph = Graph {
    layer: |_, _| {
        let attention = [ATTENTION_NORM, FUSED_QUERY_KEY_VALUE, TURN, ATTEND, ADD].concat();
        [&attention, FEED_FORWARD_NORM, FUSED_SILU, ADD].concat()
    },
    windows: Windows::Always,
    ..Graph::PLAIN
};

fn keys(config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let mut keys = Keys::new(NAME);
    let original = original_context(config, sizes)?;
    keys.count("context_length", sizes.positions);
    keys.count("rope.scaling.original_context_length", original);
    keys.count("embedding_length", sizes.hidden);
    keys.count("feed_forward_length", sizes.feed_forward);
    keys.count("block_count", sizes.layers);
    keys.count("attention.head_count", sizes.heads);
    keys.count("attention.head_count_kv", sizes.kv_heads);
    text::epsilon(config, &mut keys)?;
    keys.count("rope.dimension_count", sizes.rotary);
    match long_factors(config, sizes)? {
        None => {
            let rope = Rope::read(config, sizes.positions)?;
            keys.number("rope.freq_base", rope.theta);
        }
        Some(_) => {
            let rope = config.optional_section(&["rope_parameters"])?;
            let theta = rope.map(|rope| rope.optional_number(&["rope_theta"])).transpose()?.flatten();
            let theta = theta.or(config.optional_number(&["rope_theta"])?);
            keys.number("rope.freq_base", theta.unwrap_or(10000.0));
            // Source: LongRoPE (Ding et al., 2024), as the models' authors use it.
            let factor = f64::from(sizes.positions) / f64::from(original);
            let length =
                if factor > 1.0 { (1.0 + factor.ln() / f64::from(original).ln()).sqrt() } else { 1.0 };
            keys.number("rope.scaling.attn_factor", length as f32);
        }
    }
    let window = config.optional_count(&["sliding_window"])?.unwrap_or(0);
    keys.count("attention.sliding_window", window);
    Ok(keys)
}

fn original_context(config: &Config, sizes: &Sizes) -> Result<u32, ArchError> {
    Ok(config.optional_count(&["original_max_position_embeddings"])?.unwrap_or(sizes.positions))
}

/// Factors for long and for short contexts, `[rotary / 2]` each.
fn long_factors(config: &Config, sizes: &Sizes) -> Result<Option<[Vec<f32>; 2]>, ArchError> {
    let Some(rope) = config.optional_section(&["rope_parameters", "rope_scaling"])? else { return Ok(None) };
    let kind = rope.optional_text(&["rope_type", "type"])?;
    if !matches!(kind, Some("longrope" | "su")) {
        return Ok(None);
    }
    let pairs = sizes.rotary as usize / 2;
    let read = |key: &str| match rope.optional_numbers(key)? {
        Some(factors) if factors.len() == pairs => Ok(factors),
        Some(_) => Err(ArchError::from(rope.unusable(key, "as many numbers as pairs of a head turn"))),
        None => Err(rope.missing(&[key]).into()),
    };
    Ok(Some([read("long_factor")?, read("short_factor")?]))
}

fn computed(config: &Config, sizes: &Sizes) -> Result<Computed, ArchError> {
    let names = ["rope_factors_long.weight", "rope_factors_short.weight"];
    Ok(long_factors(config, sizes)?
        .map(|factors| names.into_iter().zip(factors).collect())
        .unwrap_or_default())
}
