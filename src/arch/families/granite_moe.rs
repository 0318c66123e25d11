//! Granite's mixtures of experts, also with a shared one.

use super::{granite, llama};
use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::dims::Sizes;
use crate::arch::table::entries::{
    ATTENTION_OUTPUT, CACHED, HALVES, NORMS, OUTSIDE, ROTARY_ATTENTION, VALUE, experts_in_one,
};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::Family;
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{ATTENTION_BIAS, BY_FACTORS, Takes};
use crate::arch::table::text;
use crate::tensor::RowOrder;

const NAME: &str = "granitemoe";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM"],
    model_types: &["granitemoe", "granitemoeshared"],
    sizes,
    keys: |config, sizes| {
        let mut keys = granite::keys(NAME, config, sizes)?;
        if sizes.shared_feed_forward > 0 {
            keys.count("expert_shared_feed_forward_length", sizes.shared_feed_forward);
        }
        Ok(keys)
    },
    table: &TABLE,
    computed: llama::computed,
    takes: Takes { scalings: BY_FACTORS, biases: &[ATTENTION_BIAS], ..Takes::PLAIN },
    graph: &llama::GRAPH,
};

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: CACHED,
    entries: &[OUTSIDE, NORMS, ROTARY_ATTENTION, VALUE, ATTENTION_OUTPUT, &EXPERTS, &[ROUTER], SHARED],
};

/// The experts, all in two tensors.
pub(super) const EXPERTS: [Entry; 3] = experts_in_one(
    "layers.{}.block_sparse_moe.output_linear.weight",
    "layers.{}.block_sparse_moe.input_linear.weight",
    HALVES,
);

/// The router.
pub(super) const ROUTER: Entry = Entry::new(
    "layers.{}.block_sparse_moe.router.layer.weight",
    "blk.{}.ffn_gate_inp.weight",
    &[Experts, Hidden],
)
.always_f32();

/// The shared expert, whose gate and upward projection are one tensor in the checkpoint.
pub(super) const SHARED: &[Entry] = &[
    Entry::new(
        "layers.{}.shared_mlp.input_linear.weight",
        "blk.{}.ffn_gate_shexp.weight",
        &[SharedGateUp, Hidden],
    )
    .part(&[SharedFeedForward, Hidden], |sizes| half(sizes, 0))
    .only(has_shared),
    Entry::new(
        "layers.{}.shared_mlp.input_linear.weight",
        "blk.{}.ffn_up_shexp.weight",
        &[SharedGateUp, Hidden],
    )
    .part(&[SharedFeedForward, Hidden], |sizes| half(sizes, sizes.shared_feed_forward))
    .only(has_shared),
    Entry::new(
        "layers.{}.shared_mlp.output_linear.weight",
        "blk.{}.ffn_down_shexp.weight",
        &[Hidden, SharedFeedForward],
    )
    .only(has_shared),
];

fn has_shared(sizes: &Sizes) -> bool {
    sizes.shared_feed_forward > 0
}

/// Returns the rows of one of two projections in one tensor, from row `first` on.
pub(super) fn half(sizes: &Sizes, first: u32) -> RowOrder {
    let length = u64::from(sizes.shared_feed_forward);
    RowOrder::Picked { length, stride: 2 * length, first: first.into(), step: 1 }
}

fn sizes(config: &Config) -> Result<Sizes, ArchError> {
    let sizes = text::sizes_with_experts(config, &["intermediate_size"])?;
    text::whole_heads(config, NAME, &sizes)?;
    let shared =
        config.optional_integer(&["shared_intermediate_size"])?.map_or(0, |width| width.max(0) as u32);
    Ok(Sizes { shared_feed_forward: shared, ..sizes })
}
