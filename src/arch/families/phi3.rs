//! Phi 3 and 4: Llama with queries, keys and values in one matrix and with gate and up in another; long contexts have a
//! second set of frequency factors.

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
use crate::arch::table::rope::{Rope, Scaling, section};
use crate::arch::table::takes::Takes;
use crate::arch::table::text;
use crate::arch::table::windows::Window;

const NAME: &str = "phi3";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["Phi3ForCausalLM"],
    model_types: &["phi3"],
    sizes: text::sizes,
    keys: |config, sizes| keys(NAME, config, sizes),
    table: &TABLE,
    computed,
    takes: Takes {
        scalings: &["default", "dynamic", "linear", "yarn", "longrope"],
        window: Window::Ignored,
        ..Takes::PLAIN
    },
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

/// Returns the keys of the family called `name`.
pub(super) fn keys(name: &'static str, config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let mut keys = Keys::new(name);
    // The call finds factors that do not fit before any tensor is mapped.
    computed(config, sizes)?;
    let rope = Rope::read(config, sizes.positions)?;
    let original = match &rope.scaling {
        Scaling::Long(long) => long.original,
        _ => config.optional_count(&["original_max_position_embeddings"])?.unwrap_or(sizes.positions),
    };
    keys.count("context_length", sizes.positions);
    keys.count("rope.scaling.original_context_length", original);
    keys.count("embedding_length", sizes.hidden);
    keys.count("feed_forward_length", sizes.feed_forward);
    keys.count("block_count", sizes.layers);
    keys.count("attention.head_count", sizes.heads);
    keys.count("attention.head_count_kv", sizes.kv_heads);
    text::epsilon(config, &mut keys)?;
    keys.count("rope.dimension_count", sizes.rotary);
    keys.number("rope.freq_base", rope.theta);
    match &rope.scaling {
        Scaling::Long(long) => keys.number("rope.scaling.attn_factor", long.multiplier as f32),
        _ => rope.write_scaling(&mut keys, false),
    }
    let window = config.optional_count(&["sliding_window"])?.unwrap_or(0);
    keys.count("attention.sliding_window", window);
    Ok(keys)
}

/// Returns the factors for long and for short contexts, `[rotary / 2]` each.
pub(super) fn computed(config: &Config, sizes: &Sizes) -> Result<Computed, ArchError> {
    let Scaling::Long(long) = Rope::read(config, sizes.positions)?.scaling else { return Ok(Vec::new()) };
    let pairs = sizes.rotary as usize / 2;
    let names = [("rope_factors_long.weight", "long_factor"), ("rope_factors_short.weight", "short_factor")];
    let factors = names.into_iter().zip([long.long, long.short]);
    factors
        .map(|((name, key), factors)| match factors.len() == pairs {
            true => Ok((name, factors)),
            false => {
                let params = section(config)?.unwrap_or_else(|| config.clone());
                Err(params.unusable(key, "as many numbers as pairs of a head turn").into())
            }
        })
        .collect()
}
