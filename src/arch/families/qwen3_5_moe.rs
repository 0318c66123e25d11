//! Qwen 3.5 with a mixture of experts, and Qwen 3 Next: gated delta nets as in Qwen 3.5, and shared experts with a gate.

use crate::graph::parts::*;
use crate::graph::{Graph, Hyper, Op, Slot};
use crate::tensor::{RowOrder, Selection};

use super::qwen2_moe::{SHARED, SHARED_GATE};
use super::qwen3_5::{
    DELTA, GATED_ATTENTION, OUTSIDE, PROJECTIONS, TAKES, complete, delta_keys, delta_sizes, sections,
    with_further,
};
use super::qwen3_moe;
use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::dims::{ScanSizes, Sizes};
use crate::arch::table::entries::{CACHED, HALVES, MIXTURE, experts_in_one};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Family, nothing, unsupported};
use crate::arch::table::keys::Keys;
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::Takes;
use crate::arch::table::text;

const NAME: &str = "qwen35moe";
const NEXT_NAME: &str = "qwen3next";

/// Qwen 3.5 with experts, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["Qwen3_5MoeForCausalLM", "Qwen3_5MoeForConditionalGeneration"],
    model_types: &["qwen3_5_moe_text", "qwen3_5_moe"],
    sizes: |config| sizes(config, NAME),
    keys: |config, sizes| {
        let mut keys = text::keys(NAME, config, &with_further(sizes))?;
        sections(config, &mut keys)?;
        expert_keys(sizes, &mut keys);
        delta_keys(config, sizes, &mut keys)?;
        Ok(keys)
    },
    table: &Table {
        family: NAME,
        prefix: "model.",
        ignored: CACHED,
        entries: &[
            OUTSIDE,
            GATED_ATTENTION,
            DELTA,
            PROJECTIONS,
            EXPERTS,
            &SHARED,
            &[SHARED_GATE],
            super::qwen3_5::FURTHER,
            FURTHER,
        ],
    },
    computed: nothing,
    takes: TAKES,
    graph: &Graph { layer: |hyper, number| layer(hyper, number, DELTA_NET), further: true, ..Graph::PLAIN },
};

/// Qwen 3 Next: heads of values stay in the checkpoint's order.
pub(super) static NEXT_FAMILY: Family = Family {
    name: NEXT_NAME,
    classes: &["Qwen3NextForCausalLM"],
    model_types: &["qwen3_next"],
    sizes: |config| {
        if config.optional_flag("norm_topk_prob")? == Some(false) {
            let what = "expert weights that do not sum to one (`norm_topk_prob` is false) are".to_owned();
            return Err(unsupported(config, NEXT_NAME, what));
        }
        sizes(config, NEXT_NAME)
    },
    keys: |config, sizes| {
        let mut keys = text::keys(NEXT_NAME, config, &with_further(sizes))?;
        expert_keys(sizes, &mut keys);
        delta_keys(config, sizes, &mut keys)?;
        // Transformers makes the list of layers of the interval, and the converter writes what is left: the default.
        keys.count("full_attention_interval", 4);
        Ok(keys)
    },
    table: &Table {
        family: NEXT_NAME,
        prefix: "model.",
        ignored: CACHED,
        entries: &[OUTSIDE, GATED_ATTENTION, NEXT_DELTA, EXPERTS, &SHARED, &[SHARED_GATE]],
    },
    computed: nothing,
    takes: Takes { theta: None, ..TAKES },
    graph: &Graph {
        layer: |hyper, number| layer(hyper, number, GROUPED_DELTA_NET),
        further: true,
        ..Graph::PLAIN
    },
};

/// The router and the experts, one by one or, as transformers 5 writes them, all in two tensors.
const EXPERTS: &[Entry] = &{
    let [down, gate, up] =
        experts_in_one("layers.{}.mlp.experts.down_proj", "layers.{}.mlp.experts.gate_up_proj", HALVES);
    [
        MIXTURE[0],
        MIXTURE[1].optional(),
        MIXTURE[2].optional(),
        MIXTURE[3].optional(),
        down.optional(),
        gate.optional(),
        up.optional(),
    ]
};

/// Experts of the block that predicts a further token.
const FURTHER: &[Entry] = &{
    let [down, gate, up] = experts_in_one(
        "mtp.layers.{}.mlp.experts.down_proj",
        "mtp.layers.{}.mlp.experts.gate_up_proj",
        HALVES,
    );
    [
        down.further(),
        gate.further(),
        up.further(),
        Entry::new("mtp.layers.{}.mlp.gate.weight", "blk.{}.ffn_gate_inp.weight", &[Experts, Hidden])
            .always_f32()
            .further(),
        Entry::new(
            "mtp.layers.{}.mlp.shared_expert.gate_proj.weight",
            "blk.{}.ffn_gate_shexp.weight",
            &[SharedFeedForward, Hidden],
        )
        .further(),
        Entry::new(
            "mtp.layers.{}.mlp.shared_expert.up_proj.weight",
            "blk.{}.ffn_up_shexp.weight",
            &[SharedFeedForward, Hidden],
        )
        .further(),
        Entry::new(
            "mtp.layers.{}.mlp.shared_expert.down_proj.weight",
            "blk.{}.ffn_down_shexp.weight",
            &[Hidden, SharedFeedForward],
        )
        .further(),
        Entry::new(
            "mtp.layers.{}.mlp.shared_expert_gate.weight",
            "blk.{}.ffn_gate_inp_shexp.weight",
            &[One, Hidden],
        )
        .always_f32()
        .further(),
    ]
};

/// Gated delta nets of Qwen 3 Next: one projection to queries, keys, values and gates of each head of keys, and one to strengths
/// and steps.
const NEXT_DELTA: &[Entry] = &[
    Entry::new("layers.{}.linear_attn.A_log", "blk.{}.ssm_a", &[StateHeads])
        .rates(&[StateHeads], |_| RowOrder::Same)
        .recurrent(),
    Entry::new("layers.{}.linear_attn.dt_bias", "blk.{}.ssm_dt.bias", &[StateHeads]).recurrent(),
    Entry::new("layers.{}.linear_attn.conv1d.weight", "blk.{}.ssm_conv1d.weight", &[Channels, One, Kernel])
        .part(&[Channels, Kernel], |_| RowOrder::Same)
        .recurrent()
        .always_f32(),
    Entry::new("layers.{}.linear_attn.norm.weight", "blk.{}.ssm_norm.weight", &[StateValue]).recurrent(),
    Entry::new("layers.{}.linear_attn.out_proj.weight", "blk.{}.ssm_out.weight", &[Hidden, Inner])
        .recurrent(),
    Entry::new("layers.{}.linear_attn.in_proj_ba.weight", "blk.{}.ssm_ba.weight", &[TwoStateHeads, Hidden])
        .recurrent(),
    Entry::new(
        "layers.{}.linear_attn.in_proj_qkvz.weight",
        "blk.{}.attn_qkv.weight",
        &[ChannelsAndGate, Hidden],
    )
    .selected(|sizes| Selection::of_rows(rows_of_parts(sizes, 0..3)))
    .recurrent(),
    Entry::new(
        "layers.{}.linear_attn.in_proj_qkvz.weight",
        "blk.{}.attn_gate.weight",
        &[ChannelsAndGate, Hidden],
    )
    .selected(|sizes| Selection::of_rows(rows_of_parts(sizes, 3..4)))
    .recurrent(),
];

/// Returns the rows of some of query, key, value and gate, part by part, where each head of keys has all four side by side.
fn rows_of_parts(sizes: &Sizes, wanted: std::ops::Range<usize>) -> Vec<u32> {
    let ScanSizes { heads, groups, state, value } = sizes.scan;
    let values = heads / groups.max(1) * value;
    let widths = [state, state, values, values];
    let whole: u32 = widths.iter().sum();
    let rows = |part: usize| {
        let first: u32 = widths[..part].iter().sum();
        (0..groups).flat_map(move |group| (0..widths[part]).map(move |row| group * whole + first + row))
    };
    wanted.flat_map(rows).collect()
}

fn layer(hyper: &Hyper, number: usize, delta_net: &[Op]) -> Vec<Op> {
    let mixer = if hyper.is_recurrent(number) { delta_net } else { ATTEND_GATED };
    let norm = [rms(Slot::Stream, Slot::Normed, "post_attention_norm")];
    [ATTENTION_NORM, mixer, ADD, &norm, SILU_EXPERTS, ADD, GATED_SHARED_EXPERTS, ADD].concat()
}

fn sizes(config: &Config, name: &'static str) -> Result<Sizes, ArchError> {
    qwen3_moe::experts_everywhere(config, name)?;
    let sizes = text::sizes_with_experts(&complete(config)?, &["moe_intermediate_size"])?;
    let shared_feed_forward = config.count(&["shared_expert_intermediate_size"])?;
    delta_sizes(config, Sizes { shared_feed_forward, ..sizes })
}

fn expert_keys(sizes: &Sizes, keys: &mut Keys) {
    keys.count("expert_feed_forward_length", sizes.expert_feed_forward);
    keys.count("expert_shared_feed_forward_length", sizes.shared_feed_forward);
}
