//! Seed-OSS: Llama with biases of queries, keys and values, and with rotary pairs across the halves of a head.

use crate::graph::parts::*;
use crate::graph::{Graph, Slot};

use crate::arch::table::entries::{
    ATTENTION, ATTENTION_OUTPUT, CACHED, GATED, NORMS, OUTSIDE, SECOND_NORM, VALUE,
};
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{Biases, MLP_BIAS, Takes};
use crate::arch::table::text;

const NAME: &str = "seed_oss";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["SeedOssForCausalLM"],
    model_types: &["seed_oss"],
    sizes: |config| text::plain_sizes(config, NAME),
    keys: |config, sizes| text::keys(NAME, config, sizes),
    table: &TABLE,
    computed: nothing,
    takes: Takes { biases: &[INPUT_BIASES, OUTPUT_BIAS, MLP_BIAS], ..Takes::PLAIN },
    graph: &GRAPH,
};

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: CACHED,
    entries: &[OUTSIDE, &[NORMS[0], SECOND_NORM], ATTENTION, VALUE, ATTENTION_OUTPUT, GATED],
};

/// Biases of queries, keys and values.
const INPUT_BIASES: Biases = Biases {
    flag: "attention_bias",
    names: &[".self_attn.q_proj.bias", ".self_attn.k_proj.bias", ".self_attn.v_proj.bias"],
};

/// The bias of the output of attention.
const OUTPUT_BIAS: Biases = Biases { flag: "attention_out_bias", names: &[".self_attn.o_proj.bias"] };

static GRAPH: Graph = Graph {
    layer: |_, _| {
        let attention = [ATTENTION_NORM, QUERY_KEY_VALUE, TURN, ATTEND, ADD].concat();
        let norm = [rms(Slot::Stream, Slot::Normed, "post_attention_norm")];
        [&attention, &norm[..], SILU, ADD].concat()
    },
    ..Graph::PLAIN
};
