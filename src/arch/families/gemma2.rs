//! Gemma 2: Gemma 1 with bounded scores and logits, norms before and after each block, and a window in every other layer.

use crate::graph::parts::*;
use crate::graph::{Activation, Graph, Slot, Windows};

use super::gemma::{self, FOUR_NORMS, IGNORED, ONE_WAY, OUTSIDE};
use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Sizes;
use crate::arch::table::entries::{ATTENTION, ATTENTION_OUTPUT, GATED, VALUE};
use crate::arch::table::family::{Family, nothing, unsupported};
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{ATTENTION_BIAS, GELU, HeadPlace, Takes};
use crate::arch::table::text;
use crate::arch::table::windows::Window;

const NAME: &str = "gemma2";

/// Number of layers from one without a window to the next.
const PATTERN: usize = 2;

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["Gemma2ForCausalLM"],
    model_types: &["gemma2"],
    sizes,
    keys: |config, sizes| {
        let mut keys = gemma::keys(NAME, config, sizes)?;
        for (key, default) in BOUNDS {
            keys.number(key, config.optional_number(&[key])?.unwrap_or(default));
        }
        keys.count("attention.sliding_window", config.count(&["sliding_window"])?);
        Ok(keys)
    },
    table: &TABLE,
    computed: nothing,
    takes: Takes {
        activations: GELU,
        window: Window::Written { base: false },
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
    entries: &[OUTSIDE, FOUR_NORMS, ATTENTION, VALUE, ATTENTION_OUTPUT, GATED],
};

static GRAPH: Graph = Graph {
    scaled_embedding: true,
    layer: |_, _| {
        let gated = gated(Slot::Normed, Activation::GeluGate);
        let attention = [ATTENTION_NORM, QUERY_KEY_VALUE, TURN, ATTEND, POST_ATTENTION_NORM, ADD].concat();
        [&attention, FEED_FORWARD_NORM, &gated, POST_FEED_FORWARD_NORM, ADD].concat()
    },
    windows: Windows::Pattern(PATTERN),
    ..Graph::PLAIN
};

/// Bounds of scores and logits if the configuration lacks the key, as in transformers; null stands for no bound.
const BOUNDS: [(&str, f32); 2] = [("attn_logit_softcapping", 50.0), ("final_logit_softcapping", 30.0)];

fn sizes(config: &Config) -> Result<Sizes, ArchError> {
    for (key, default) in BOUNDS {
        // Without the key, readers of the file would take the default.
        if config.value(key).is_some_and(serde_json::Value::is_null) {
            let what = format!("no bound (`{key}` is null, readers of the file take {default}) is");
            return Err(unsupported(config, NAME, what));
        }
    }
    let sizes = text::plain_sizes(config, NAME)?;
    text::window_pattern(config, NAME, PATTERN)?;
    // The exception is the 27B model.
    gemma::score_scale(config, NAME, &sizes, 46)?;
    Ok(sizes)
}
