//! Mixtral: Llama with experts. Its name in GGUF is Llama's.

use super::llama;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::entries::{ATTENTION_OUTPUT, CACHED, NORMS, OUTSIDE, ROTARY_ATTENTION, VALUE};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::Family;
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{BY_FACTORS, Takes};
use crate::arch::table::text;
use crate::arch::table::windows::Window;

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: "llama",
    classes: &["MixtralForCausalLM"],
    model_types: &["mixtral"],
    sizes: |config| text::sizes_with_experts(config, &["intermediate_size"]),
    keys: |config, sizes| llama::keys("llama", config, sizes),
    table: &TABLE,
    computed: llama::computed,
    takes: Takes { scalings: BY_FACTORS, theta: Some(1e6), window: Window::All(None), ..Takes::PLAIN },
    graph: &llama::GRAPH,
};

static TABLE: Table = Table {
    family: "llama",
    prefix: "model.",
    ignored: CACHED,
    entries: &[OUTSIDE, NORMS, ROTARY_ATTENTION, VALUE, ATTENTION_OUTPUT, MIXTURE],
};

/// The router and the experts.
pub(super) const MIXTURE: &[Entry] = &[
    Entry::new("layers.{}.block_sparse_moe.gate.weight", "blk.{}.ffn_gate_inp.weight", &[Experts, Hidden])
        .always_f32(),
    Entry::new(
        "layers.{}.block_sparse_moe.experts.{}.w1.weight",
        "blk.{}.ffn_gate_exps.weight",
        &[ExpertFeedForward, Hidden],
    )
    .stacked(Experts),
    Entry::new(
        "layers.{}.block_sparse_moe.experts.{}.w2.weight",
        "blk.{}.ffn_down_exps.weight",
        &[Hidden, ExpertFeedForward],
    )
    .stacked(Experts),
    Entry::new(
        "layers.{}.block_sparse_moe.experts.{}.w3.weight",
        "blk.{}.ffn_up_exps.weight",
        &[ExpertFeedForward, Hidden],
    )
    .stacked(Experts),
];
