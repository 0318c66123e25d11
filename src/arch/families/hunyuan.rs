//! Tencent's Hunyuan: Llama with norms of each head's queries and keys after the rotation, and with a base of the rotary
//! frequencies that a factor raises.

use crate::graph::Graph;
use crate::graph::parts::*;

use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::dims::Sizes;
use crate::arch::table::entries::{ATTENTION, ATTENTION_OUTPUT, CACHED, GATED, NORMS, OUTSIDE, VALUE};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::keys::Keys;
use crate::arch::table::mapping::Table;
use crate::arch::table::rope::section;
use crate::arch::table::takes::{ATTENTION_BIAS, Literal, Only, Takes};
use crate::arch::table::text;

const NAME: &str = "hunyuan-dense";

/// The context length that the converter writes wherever a factor raises the base: configurations say less than the factor is for.
const CONTEXT: u32 = 256 * 1024;

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["HunYuanDenseV1ForCausalLM"],
    model_types: &["hunyuan_v1_dense"],
    sizes: |config| text::plain_sizes(config, NAME),
    keys: |config, sizes| {
        let mut keys = text::keys(NAME, config, sizes)?;
        raised_base(config, sizes, &mut keys)?;
        Ok(keys)
    },
    table: &TABLE,
    computed: nothing,
    takes: TAKES,
    graph: &GRAPH,
};

/// The values that both families of Hunyuan take.
pub(super) const TAKES: Takes = Takes {
    scalings: &["default", "dynamic"],
    raised_base: true,
    biases: &[ATTENTION_BIAS],
    only: &[
        Only { key: "use_qk_norm", value: Literal::Flag(true) },
        Only { key: "use_cla", value: Literal::Flag(false) },
    ],
    ..Takes::PLAIN
};

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: CACHED,
    entries: &[OUTSIDE, NORMS, ATTENTION, VALUE, ATTENTION_OUTPUT, LATE_NORMS, GATED],
};

/// Norms of each head's queries and keys.
pub(super) const LATE_NORMS: &[Entry] = &[
    Entry::new("layers.{}.self_attn.query_layernorm.weight", "blk.{}.attn_q_norm.weight", &[Head]),
    Entry::new("layers.{}.self_attn.key_layernorm.weight", "blk.{}.attn_k_norm.weight", &[Head]),
];

/// The forward pass of both families, with experts or without.
pub(super) static GRAPH: Graph = Graph {
    layer: |hyper, number| {
        let attention = [ATTENTION_NORM, QUERY_KEY_VALUE, TURN, QUERY_KEY_NORM, ATTEND, ADD].concat();
        [&attention, FEED_FORWARD_NORM, feed_forward(hyper, number), ADD].concat()
    },
    ..Graph::PLAIN
};

/// Sets the base of the rotary frequencies to `theta * alpha^(d / (d - 2))` for heads of width d, if the configuration has an alpha,
/// and adds the keys that the converter writes with it.
///
/// Source: transformers, `HunYuanDenseV1RotaryEmbedding`.
pub(super) fn raised_base(config: &Config, sizes: &Sizes, keys: &mut Keys) -> Result<(), ArchError> {
    // The config names the width of a head twice.
    config.optional_count(&["attention_head_dim"])?;
    let Some(params) = section(config)? else { return Ok(()) };
    // Factors that only other types of scaling read stand beside alpha.
    for key in ["factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim"] {
        params.optional_double(&[key])?;
    }
    let Some(alpha) = params.optional_double(&["alpha"])? else { return Ok(()) };
    let theta = params.optional_double(&["rope_theta"])?.or(config.optional_double(&["rope_theta"])?);
    let width = f64::from(sizes.head_dim);
    let base = theta.unwrap_or(10000.0) * alpha.powf(width / (width - 2.0));
    keys.number("rope.freq_base", base as f32);
    keys.add("rope.scaling.type", "none".into());
    keys.number("rope.scaling.factor", 1.0);
    keys.count("rope.scaling.original_context_length", CONTEXT);
    keys.count("context_length", CONTEXT);
    Ok(())
}
