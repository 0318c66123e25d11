//! Ministral 3: Llama with YaRN, whose queries grow with the logarithm of their position.

use crate::graph::parts::*;
use crate::graph::{Graph, Op};
use kquant_kernels::math::Pairs;

use super::llama;
use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Sizes;
use crate::arch::table::family::Family;
use crate::arch::table::keys::Keys;
use crate::arch::table::mapping::Table;
use crate::arch::table::rope::{Rope, Scaling, section};
use crate::arch::table::takes::{BY_FACTORS, Takes};
use crate::arch::table::text;
use crate::arch::table::windows::Window;

const NAME: &str = "mistral3";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["Ministral3ForCausalLM", "Mistral3ForConditionalGeneration"],
    model_types: &["ministral3", "mistral3"],
    sizes: |config| text::plain_sizes(config, NAME),
    keys,
    table: &TABLE,
    computed: llama::computed,
    takes: Takes { scalings: BY_FACTORS, window: Window::All(None), ..Takes::PLAIN },
    graph: &GRAPH,
};

static TABLE: Table = llama::table(NAME);

static GRAPH: Graph = Graph {
    layer: |hyper, _| {
        let grow: &[Op] = if hyper.growth.is_some() { &[Op::Grow] } else { &[] };
        let attention = [ATTENTION_NORM, QUERY_KEY_VALUE, TURN, grow, ATTEND, ADD].concat();
        [&attention, FEED_FORWARD_NORM, SILU, ADD].concat()
    },
    pairs: Pairs::Adjacent,
    ..Graph::PLAIN
};

fn keys(config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let mut keys = llama::keys(NAME, config, sizes)?;
    let Scaling::Yarn(yarn) = Rope::read(config, sizes.positions)?.scaling else { return Ok(keys) };
    let Some(params) = section(config)? else { return Ok(keys) };
    // The context is there twice.
    params.optional_count(&["max_position_embeddings"])?;
    if let Some(all) = params.optional_number(&["mscale_all_dim"])?.filter(|&all| all != 0.0) {
        keys.remove("rope.scaling.attn_factor");
        keys.number("rope.scaling.yarn_log_multiplier", all);
        let rest = yarn.multiplier() / yarn.quotient(f64::from(all));
        if rest as f32 != 1.0 {
            keys.number("rope.scaling.attn_factor", rest as f32);
        }
    }
    keys.optional_number("attention.temperature_scale", params.optional_number(&["llama_4_scaling_beta"])?);
    Ok(keys)
}
