//! ERNIE 4.5 without experts: Llama's computation under another name.

use super::llama;
use crate::arch::table::entries::{ATTENTION, ATTENTION_OUTPUT, CACHED, GATED, NORMS, OUTSIDE, VALUE};
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{Biases, Takes};
use crate::arch::table::text;

const NAME: &str = "ernie4_5";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM"],
    model_types: &["ernie4_5"],
    sizes: |config| text::plain_sizes(config, NAME),
    keys: |config, sizes| text::keys(NAME, config, sizes),
    table: &TABLE,
    computed: nothing,
    takes: Takes { theta: Some(500_000.0), biases: &[USE_BIAS], tied: true, ..Takes::PLAIN },
    graph: &llama::GRAPH,
};

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: CACHED,
    // Neighbours turn together in the checkpoint as well.
    entries: &[OUTSIDE, NORMS, ATTENTION, VALUE, ATTENTION_OUTPUT, GATED],
};

/// Biases of all linear maps.
pub(super) const USE_BIAS: Biases = Biases {
    flag: "use_bias",
    names: &[
        ".self_attn.q_proj.bias",
        ".self_attn.k_proj.bias",
        ".self_attn.v_proj.bias",
        ".self_attn.o_proj.bias",
        ".mlp.gate_proj.bias",
        ".mlp.up_proj.bias",
        ".mlp.down_proj.bias",
    ],
};
