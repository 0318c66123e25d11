//! Arcee's AFM: Llama with a feed-forward network of two matrices and the square of ReLU between them.

use crate::graph::parts::*;
use crate::graph::{Activation, Graph, Slot};
use kquant_kernels::math::Pairs;

use super::llama;
use crate::arch::table::entries::{
    ATTENTION_OUTPUT, CACHED, NORMS, OUTSIDE, ROTARY_ATTENTION, UP_DOWN, VALUE,
};
use crate::arch::table::family::Family;
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{ATTENTION_BIAS, BY_FACTORS, RELU_SQUARED, TWO_MATRICES_BIAS, Takes};
use crate::arch::table::text;

const NAME: &str = "arcee";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["ArceeForCausalLM"],
    model_types: &["arcee"],
    sizes: |config| text::plain_sizes(config, NAME),
    keys: |config, sizes| llama::keys(NAME, config, sizes),
    table: &TABLE,
    computed: llama::computed,
    takes: Takes {
        activations: RELU_SQUARED,
        scalings: BY_FACTORS,
        biases: &[ATTENTION_BIAS, TWO_MATRICES_BIAS],
        ..Takes::PLAIN
    },
    graph: &GRAPH,
};

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: CACHED,
    entries: &[OUTSIDE, NORMS, ROTARY_ATTENTION, VALUE, ATTENTION_OUTPUT, UP_DOWN],
};

static GRAPH: Graph = Graph {
    layer: |_, _| {
        let attention = [ATTENTION_NORM, QUERY_KEY_VALUE, TURN, ATTEND, ADD].concat();
        let feed_forward = two_matrices(Slot::Normed, Activation::ReluSquared);
        [&attention, FEED_FORWARD_NORM, &feed_forward, ADD].concat()
    },
    pairs: Pairs::Adjacent,
    ..Graph::PLAIN
};
