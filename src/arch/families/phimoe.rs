//! Phi 3.5 MoE: Phi 3's keys, layer norms, biases, and a mixture of experts that are chosen one after another.

use crate::graph::parts::*;
use crate::graph::{Graph, NormKind, Routing, Scores};

use super::{mixtral, phi3};
use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::dims::Sizes;
use crate::arch::table::entries::{ATTENTION, ATTENTION_OUTPUT, CACHED, NORM_BIASES, NORMS, OUTSIDE, VALUE};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::Family;
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{ATTENTION_BIAS, Biases, HeadPlace, Literal, Only, Takes};
use crate::arch::table::text;
use crate::arch::table::windows::Window;

const NAME: &str = "phimoe";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["PhiMoEForCausalLM", "PhimoeForCausalLM"],
    model_types: &["phimoe"],
    sizes,
    keys: |config, sizes| {
        let mut keys = phi3::keys(NAME, config, sizes)?;
        keys.count("expert_used_count", sizes.experts_used);
        keys.count("expert_count", sizes.experts);
        Ok(keys)
    },
    table: &TABLE,
    computed: phi3::computed,
    takes: Takes {
        scalings: &["default", "longrope"],
        window: Window::Ignored,
        biases: &[ATTENTION_BIAS, HEAD_BIAS],
        only: &[Only { key: "router_jitter_noise", value: Literal::Number(0.01) }],
        head: HeadPlace::Own,
        differs: |_, _| {
            Ok(Some(
                "llama.cpp's graph of this family has RMS norms in the place of layer norms, and weighs the two best experts by \
                 one softmax in the place of sparse mixer routing",
            ))
        },
        ..Takes::PLAIN
    },
    graph: &GRAPH,
};

/// The bias of the output projection.
const HEAD_BIAS: Biases = Biases { flag: "lm_head_bias", names: &["lm_head.bias"] };

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: CACHED,
    entries: &[
        OUTSIDE,
        &[Entry::new("lm_head.bias", "output.bias", &[Vocab]).optional()],
        NORMS,
        NORM_BIASES,
        ATTENTION,
        VALUE,
        ATTENTION_OUTPUT,
        mixtral::MIXTURE,
    ],
};

static GRAPH: Graph = Graph {
    layer: |_, _| {
        let attention = [ATTENTION_LAYER_NORM, QUERY_KEY_VALUE, TURN, ATTEND, ADD].concat();
        [&attention, FEED_FORWARD_LAYER_NORM, SILU_EXPERTS, ADD].concat()
    },
    final_norm: NormKind::Layer,
    routing: Routing { scores: Some(Scores::SparseMixer), normalized: false },
    ..Graph::PLAIN
};

fn sizes(config: &Config) -> Result<Sizes, ArchError> {
    let sizes = text::sizes_with_experts(config, &["intermediate_size"])?;
    text::whole_heads(config, NAME, &sizes)?;
    // Noise of training.
    config.optional_number(&["input_jitter_noise"])?;
    Ok(sizes)
}
