//! BitNet b1.58: Llama with a norm before each output projection and with the square of ReLU as the function of the gate.

use crate::graph::parts::*;
use crate::graph::{Activation, Graph, Op, Slot};

use crate::arch::table::dims::Dim::*;
use crate::arch::table::entries::{ATTENTION, ATTENTION_OUTPUT, CACHED, GATED, NORMS, OUTSIDE, VALUE};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{ATTENTION_BIAS, HeadPlace, RELU_SQUARED, Takes};
use crate::arch::table::text;

const NAME: &str = "bitnet";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["BitNetForCausalLM"],
    model_types: &["bitnet"],
    sizes: |config| text::plain_sizes(config, NAME),
    keys: |config, sizes| {
        let mut keys = text::keys(NAME, config, sizes)?;
        keys.add("rope.scaling.type", "linear".into());
        keys.number("rope.scaling.factor", 1.0);
        Ok(keys)
    },
    table: &TABLE,
    computed: nothing,
    takes: Takes {
        activations: RELU_SQUARED,
        scalings: &["default"],
        biases: &[ATTENTION_BIAS],
        head: HeadPlace::Embedding,
        tied: true,
        differs: |_, _| {
            Ok(Some("llama.cpp's graph of this family has SiLU in the place of the square of ReLU"))
        },
        ..Takes::PLAIN
    },
    graph: &GRAPH,
};

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: CACHED,
    entries: &[OUTSIDE, NORMS, ATTENTION, VALUE, ATTENTION_OUTPUT, GATED, SUB_NORMS],
};

/// Norms before the output projections of attention and of the feed-forward network.
const SUB_NORMS: &[Entry] = &[
    Entry::new("layers.{}.self_attn.attn_sub_norm.weight", "blk.{}.attn_sub_norm.weight", &[Query]),
    Entry::new("layers.{}.mlp.ffn_sub_norm.weight", "blk.{}.ffn_sub_norm.weight", &[FeedForward]),
];

static GRAPH: Graph = Graph {
    layer: |_, _| {
        let attend = [
            Op::Attention { sinks: None },
            rms(Slot::Attended, Slot::Attended, "attn_sub_norm"),
            linear(Slot::Attended, Slot::Delta, "attn_output"),
        ];
        let [gate, up, activate, down] = gated(Slot::Normed, Activation::ReluSquaredGate);
        let feed_forward = [gate, up, activate, rms(Slot::Gate, Slot::Gate, "ffn_sub_norm"), down];
        let attention = [ATTENTION_NORM, QUERY_KEY_VALUE, TURN, &attend, ADD].concat();
        [&attention, FEED_FORWARD_NORM, &feed_forward, ADD].concat()
    },
    ..Graph::PLAIN
};
