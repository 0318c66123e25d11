//! SmolLM 3: Llama without positions in every fourth layer.

use crate::graph::parts::*;
use crate::graph::{Graph, Op};
use kquant_kernels::math::Pairs;

use super::llama;
use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Sizes;
use crate::arch::table::family::{Family, unsupported};
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{ATTENTION_BIAS, MLP_BIAS, Takes};
use crate::arch::table::text;
use crate::arch::table::windows::Window;

const NAME: &str = "smollm3";

/// Number of layers from one without positions to the next.
const INTERVAL: usize = 4;

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["SmolLM3ForCausalLM"],
    model_types: &["smollm3"],
    sizes,
    keys: |config, sizes| llama::keys(NAME, config, sizes),
    table: &TABLE,
    computed: llama::computed,
    takes: Takes {
        theta: Some(2e6),
        window: Window::UnturnedIfUsed,
        biases: &[ATTENTION_BIAS, MLP_BIAS],
        tied: true,
        ..Takes::PLAIN
    },
    graph: &GRAPH,
};

static TABLE: Table = llama::table(NAME);

static GRAPH: Graph = Graph {
    layer: |_, number| {
        let turn: &[Op] = if has_positions(number) { TURN } else { &[] };
        [ATTENTION_NORM, QUERY_KEY_VALUE, turn, ATTEND, ADD, FEED_FORWARD_NORM, SILU, ADD].concat()
    },
    pairs: Pairs::Adjacent,
    ..Graph::PLAIN
};

/// Returns true if queries and keys of layer `layer` are turned by their positions.
pub(super) fn has_positions(layer: usize) -> bool {
    !(layer + 1).is_multiple_of(INTERVAL)
}

fn sizes(config: &Config) -> Result<Sizes, ArchError> {
    check_positions(config, NAME)?;
    text::plain_sizes(config, NAME)
}

/// Refuses models of family `name` without positions in other layers than the graph's, which no key can express.
pub(super) fn check_positions(config: &Config, name: &'static str) -> Result<(), ArchError> {
    let flags = config.optional_counts("no_rope_layers")?.unwrap_or_default();
    let interval = config.optional_count(&["no_rope_layer_interval"])?.unwrap_or(INTERVAL as u32);
    let other = flags.iter().enumerate().any(|(layer, &flag)| (flag != 0) != has_positions(layer));
    if other || (flags.is_empty() && interval as usize != INTERVAL) {
        let what = "positions in other layers than three of four (`no_rope_layers`) are".to_owned();
        return Err(unsupported(config, name, what));
    }
    Ok(())
}
