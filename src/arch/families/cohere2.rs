//! Cohere's Command R7B and A: attention and the feed-forward network read one layer norm without a bias, three of four layers
//! have a window and positions, and the fourth has neither.

use crate::graph::parts::*;
use crate::graph::{Graph, NormKind, Windows};
use kquant_kernels::math::Pairs;

use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Sizes;
use crate::arch::table::entries::{ATTENTION, ATTENTION_OUTPUT, CACHED, GATED, NORMS, OUTSIDE, VALUE};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Family, nothing, unsupported};
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{HeadPlace, Literal, Only, Takes};
use crate::arch::table::text;
use crate::arch::table::windows::Window;

const NAME: &str = "cohere2";

/// Number of layers from one without a window to the next.
const PATTERN: usize = 4;

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["Cohere2ForCausalLM"],
    model_types: &["cohere2"],
    sizes,
    keys: |config, sizes| {
        let mut keys = text::keys(NAME, config, sizes)?;
        keys.number("logit_scale", config.optional_number(&["logit_scale"])?.unwrap_or(0.0625));
        keys.count("attention.sliding_window", config.count(&["sliding_window"])?);
        keys.count("vocab_size", sizes.vocab);
        keys.count("rope.dimension_count", sizes.rotary);
        keys.add("rope.scaling.type", "none".into());
        Ok(keys)
    },
    table: &TABLE,
    computed: nothing,
    takes: Takes {
        scalings: &["default"],
        window: Window::Written { base: false },
        only: &[
            Only { key: "attention_bias", value: Literal::Flag(false) },
            Only { key: "use_gated_activation", value: Literal::Flag(true) },
            Only { key: "use_parallel_block", value: Literal::Flag(true) },
            Only { key: "use_parallel_embedding", value: Literal::Flag(true) },
            Only { key: "use_qk_norm", value: Literal::Flag(false) },
            Only { key: "sliding_window_pattern", value: Literal::Number(PATTERN as f64) },
        ],
        head: HeadPlace::Embedding,
        tied: true,
        ..Takes::PLAIN
    },
    graph: &GRAPH,
};

static TABLE: Table = table(NAME);

const OWN: &[Entry] = &[OUTSIDE[0], OUTSIDE[1], NORMS[0]];

/// Returns the table of tensors of the family called `family`: Llama's with one norm for each layer and no output projection.
pub(super) const fn table(family: &'static str) -> Table {
    Table {
        family,
        prefix: "model.",
        ignored: CACHED,
        entries: &[OWN, ATTENTION, VALUE, ATTENTION_OUTPUT, GATED],
    }
}

static GRAPH: Graph = Graph {
    layer: |hyper, number| {
        let turn = if hyper.has_window(number) { TURN } else { &[] };
        let attention = [ATTENTION_LAYER_NORM, QUERY_KEY_VALUE, turn, ATTEND, ADD].concat();
        [&attention, SILU, ADD].concat()
    },
    final_norm: NormKind::Layer,
    pairs: Pairs::Adjacent,
    windows: Windows::Pattern(PATTERN),
    multiplied_logits: true,
    ..Graph::PLAIN
};

fn sizes(config: &Config) -> Result<Sizes, ArchError> {
    let sizes = text::plain_sizes(config, NAME)?;
    text::window_pattern(config, NAME, PATTERN)?;
    // Which kind of layer comes first, and that neighbours turn together, are names of what the graph computes.
    for (key, usual) in
        [("order_of_interleaved_layers", "local_attn_first"), ("position_embedding_type", "rope_gptj")]
    {
        if let Some(other) = config.optional_text(&[key])?.filter(|&found| found != usual) {
            return Err(unsupported(config, NAME, format!("`{key}` of {other} is")));
        }
    }
    Ok(sizes)
}
