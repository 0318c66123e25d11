//! EmbeddingGemma: Gemma 3 whose tokens see both ways, with linear maps after the pooling.

use crate::graph::Graph;

use super::gemma;
use super::gemma3;
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::takes::{ATTENTION_BIAS, GELU, Literal, Only, Takes};
use crate::arch::table::windows::Window;

const NAME: &str = "gemma-embedding";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["Gemma3TextModel"],
    model_types: &[],
    sizes: |config| gemma3::sizes(config, NAME),
    keys: |config, sizes| gemma3::keys(config, sizes, NAME),
    table: &gemma3::TABLE,
    computed: nothing,
    takes: Takes {
        activations: GELU,
        window: Window::Written { base: true },
        biases: &[ATTENTION_BIAS],
        only: &[gemma::NO_BOUND, Only { key: "final_logit_softcapping", value: Literal::Null }],
        tied: true,
        dense: true,
        models: |config| matches!(config.optional_flag("use_bidirectional_attention"), Ok(Some(true))),
        ..Takes::PLAIN
    },
    graph: &GRAPH,
};

static GRAPH: Graph = Graph { causal: false, ..gemma3::LAYERS };
