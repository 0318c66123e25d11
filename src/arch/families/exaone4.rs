//! EXAONE 4: OLMo 2's places of norms, with norms of each head's queries and keys. In the hybrid form, layers with a window have
//! positions and the others have none; in the other form, no layer has a window and all have positions.

use crate::graph::parts::*;
use crate::graph::{Activation, Graph, Hyper, Op, Slot, Windows};

use super::{llama, olmo2};
use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Sizes;
use crate::arch::table::entries::{ATTENTION, ATTENTION_OUTPUT, CACHED, GATED, HEAD_NORMS, OUTSIDE, VALUE};
use crate::arch::table::family::Family;
use crate::arch::table::keys::Keys;
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{ATTENTION_BIAS, BY_FACTORS, Takes};
use crate::arch::table::text;
use crate::arch::table::windows::{Window, layers_with_windows};

const NAME: &str = "exaone4";

/// Number of layers from one without a window to the next where no list says otherwise.
const PATTERN: usize = 4;

/// Number of layers by which llama.cpp knows the hybrid form.
const HYBRID_LAYERS: u32 = 64;

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["Exaone4ForCausalLM"],
    model_types: &["exaone4"],
    sizes: |config| text::plain_sizes(config, NAME),
    keys,
    table: &TABLE,
    computed: llama::computed,
    takes: Takes {
        scalings: BY_FACTORS,
        window: Window::Written { base: false },
        biases: &[ATTENTION_BIAS],
        differs: |config, sizes| {
            let hybrid = config.optional_count(&["sliding_window"])?.is_some();
            Ok((hybrid && sizes.layers != HYBRID_LAYERS).then_some(
                "llama.cpp takes models of this family for hybrids of layers with a window and layers without positions \
                 only if they have 64 layers",
            ))
        },
        ..Takes::PLAIN
    },
    graph: &GRAPH,
};

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: CACHED,
    entries: &[OUTSIDE, olmo2::POST_NORMS, HEAD_NORMS, ATTENTION, VALUE, ATTENTION_OUTPUT, GATED],
};

static GRAPH: Graph = Graph { layer, windows: Windows::Pattern(PATTERN), ..Graph::PLAIN };

fn layer(hyper: &Hyper, number: usize) -> Vec<Op> {
    let has_positions = hyper.window.is_none() || hyper.has_window(number);
    let turn = if has_positions { TURN } else { &[] };
    let query_key_value = query_key_value(Slot::Stream);
    let gated = gated(Slot::Stream, Activation::SiluGate);
    let attention = [&query_key_value, QUERY_KEY_NORM, turn, ATTEND, POST_ATTENTION_NORM, ADD].concat();
    [&attention, &gated[..], POST_FEED_FORWARD_NORM, ADD].concat()
}

fn keys(config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let mut keys = text::keys(NAME, config, sizes)?;
    keys.count("vocab_size", sizes.vocab);
    let every = config.value("sliding_window_pattern").and_then(|value| value.as_u64());
    if let Some(window) = config.optional_count(&["sliding_window"])? {
        keys.count("attention.sliding_window", window);
        let pattern = every.filter(|&every| every > 0).unwrap_or(PATTERN as u64);
        keys.flags("attention.sliding_window_pattern", layers_with_windows(config, sizes, pattern)?);
    }
    Ok(keys)
}
