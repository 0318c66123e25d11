//! Nemotron 3 and 4 and Minitron: layer norms whose weights are stored as differences from one, the square of ReLU between two
//! matrices, and rotary positions on a part of each head.

use crate::graph::parts::*;
use crate::graph::{Activation, Graph, NormKind, Slot};

use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Sizes;
use crate::arch::table::entries::{
    ATTENTION, ATTENTION_OUTPUT, CACHED, NORM_BIASES, NORMS, OUTSIDE, UP_DOWN, VALUE,
};
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::keys::Keys;
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{ATTENTION_BIAS, HeadPlace, RELU_SQUARED, TWO_MATRICES_BIAS, Takes};
use crate::arch::table::text;

const NAME: &str = "nemotron";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["NemotronForCausalLM"],
    model_types: &["nemotron"],
    sizes: text::sizes,
    keys,
    table: &TABLE,
    computed: nothing,
    takes: Takes {
        activations: RELU_SQUARED,
        scalings: &["default", "linear"],
        biases: &[ATTENTION_BIAS, TWO_MATRICES_BIAS],
        head: HeadPlace::Own,
        ..Takes::PLAIN
    },
    graph: &GRAPH,
};

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: CACHED,
    entries: &[
        &[OUTSIDE[0], OUTSIDE[1].plus_one(), OUTSIDE[2], NORMS[0].plus_one(), NORMS[1].plus_one()],
        NORM_BIASES,
        ATTENTION,
        VALUE,
        ATTENTION_OUTPUT,
        UP_DOWN,
    ],
};

static GRAPH: Graph = Graph {
    layer: |_, _| {
        let attention = [ATTENTION_LAYER_NORM, QUERY_KEY_VALUE, TURN, ATTEND, ADD].concat();
        let feed_forward = two_matrices(Slot::Normed, Activation::ReluSquared);
        [&attention, FEED_FORWARD_LAYER_NORM, &feed_forward, ADD].concat()
    },
    final_norm: NormKind::Layer,
    ..Graph::PLAIN
};

fn keys(config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let epsilon = config.optional_number(&["norm_eps", "layer_norm_eps"])?.unwrap_or(1e-5);
    // The converter writes the epsilon under the names of both kinds of norms.
    let mut keys = text::keys(NAME, &config.or(serde_json::json!({ "rms_norm_eps": epsilon })), sizes)?;
    let factor = config.optional_number(&["rope_scaling_factor"])?;
    keys.count("vocab_size", sizes.vocab);
    keys.number("attention.layer_norm_epsilon", epsilon);
    keys.count("rope.dimension_count", sizes.rotary);
    match factor {
        None => keys.add("rope.scaling.type", "none".into()),
        Some(factor) => {
            keys.add("rope.scaling.type", "linear".into());
            keys.number("rope.scaling.factor", factor);
        }
    }
    Ok(keys)
}
