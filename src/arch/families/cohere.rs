//! Cohere's Command R and Aya: Cohere 2 with positions and no window in every layer.

use crate::graph::parts::*;
use crate::graph::{Graph, NormKind};
use kquant_kernels::math::Pairs;

use super::cohere2;
use crate::arch::table::dims::Sizes;
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{HeadPlace, Literal, Only, Takes};
use crate::arch::table::text;

const NAME: &str = "command-r";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["CohereForCausalLM"],
    model_types: &["cohere"],
    sizes: |config| {
        let sizes = text::plain_sizes(config, NAME)?;
        // Command R was trained on longer texts than the usual key says.
        let positions = config.optional_count(&["model_max_length"])?.unwrap_or(sizes.positions);
        Ok(Sizes { positions, ..sizes })
    },
    keys: |config, sizes| {
        let mut keys = text::keys(NAME, config, sizes)?;
        keys.number("logit_scale", config.optional_number(&["logit_scale"])?.unwrap_or(0.0625));
        keys.add("rope.scaling.type", "none".into());
        Ok(keys)
    },
    table: &TABLE,
    computed: nothing,
    takes: Takes {
        scalings: &["default"],
        only: &[
            Only { key: "attention_bias", value: Literal::Flag(false) },
            // Command R+ has norms of each head's queries and keys.
            Only { key: "use_qk_norm", value: Literal::Flag(false) },
        ],
        head: HeadPlace::Embedding,
        tied: true,
        ..Takes::PLAIN
    },
    graph: &GRAPH,
};

static TABLE: Table = cohere2::table(NAME);

static GRAPH: Graph = Graph {
    layer: |_, _| [ATTENTION_LAYER_NORM, QUERY_KEY_VALUE, TURN, ATTEND, ADD, SILU, ADD].concat(),
    final_norm: NormKind::Layer,
    pairs: Pairs::Adjacent,
    multiplied_logits: true,
    ..Graph::PLAIN
};
