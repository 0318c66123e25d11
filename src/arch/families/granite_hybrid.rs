//! Granite 4 hybrid: Mamba 2's state space in most layers, attention without positions in the others, Granite's multipliers, and
//! a dense network or a mixture beside one that all tokens pass through.

use crate::graph::parts::*;
use crate::graph::{Graph, Hyper, Op};
use kquant_formats::gguf::Value;
use kquant_kernels::math::Pairs;
use serde_json::json;

use super::granite::multipliers;
use super::granite_moe::{EXPERTS, ROUTER, SHARED, half};
use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::dims::{ScanSizes, Sizes};
use crate::arch::table::entries::{ATTENTION_OUTPUT, CACHED, NORMS, OUTSIDE, ROTARY_ATTENTION, VALUE};
use crate::arch::table::entry::{Entry, in_attention};
use crate::arch::table::family::{Family, nothing, unsupported};
use crate::arch::table::keys::Keys;
use crate::arch::table::layers::of_kind;
use crate::arch::table::mapping::Table;
use crate::arch::table::state_space::{scan_keys, state_space, with_scan};
use crate::arch::table::takes::{ATTENTION_BIAS, Literal, Only, Takes};
use crate::arch::table::text;

/// Name of the family in GGUF.
pub(super) const NAME: &str = "granitehybrid";

/// The context that the converter writes: without positions, the model has no bound.
const CONTEXT: u32 = 1 << 20;

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["GraniteMoeHybridForCausalLM"],
    model_types: &["granitemoehybrid"],
    sizes,
    keys,
    table: &Table {
        family: NAME,
        prefix: "model.",
        ignored: CACHED,
        entries: &[OUTSIDE, NORMS, ATTENTION_LAYERS, state_space!("layers.{}.mamba."), DENSE, MIXTURE],
    },
    computed: nothing,
    takes: Takes {
        biases: &[ATTENTION_BIAS],
        only: &[Only { key: "mamba_proj_bias", value: Literal::Flag(false) }],
        ..Takes::PLAIN
    },
    graph: &GRAPH,
};

/// The forward pass, which is Bamba's, too.
pub(super) static GRAPH: Graph = Graph { layer, pairs: Pairs::Adjacent, ..Graph::PLAIN };

/// Attention in the layers that have it.
pub(super) const ATTENTION_LAYERS: &[Entry] = &{
    let [query, key] = in_attention::<2>(ROTARY_ATTENTION);
    let [value] = in_attention::<1>(VALUE);
    let [output] = in_attention::<1>(ATTENTION_OUTPUT);
    [query, key, value, output]
};

/// The network that all tokens pass through, which is all of it in dense models.
const DENSE: &[Entry] = &{
    const IN: &str = "layers.{}.shared_mlp.input_linear.weight";
    const OUT: &str = "layers.{}.shared_mlp.output_linear.weight";
    let gate = Entry::new(IN, "blk.{}.ffn_gate.weight", &[SharedGateUp, Hidden]);
    let up = Entry::new(IN, "blk.{}.ffn_up.weight", &[SharedGateUp, Hidden]);
    let down = Entry::new(OUT, "blk.{}.ffn_down.weight", &[Hidden, SharedFeedForward]);
    [
        gate.part(&[SharedFeedForward, Hidden], |sizes| half(sizes, 0)).only(is_dense),
        up.part(&[SharedFeedForward, Hidden], |sizes| half(sizes, sizes.shared_feed_forward)).only(is_dense),
        down.only(is_dense),
    ]
};

const MIXTURE: &[Entry] = &{
    let [down, gate, up] = EXPERTS;
    [
        ROUTER.only(has_experts),
        down.only(has_experts),
        gate.only(has_experts),
        up.only(has_experts),
        SHARED[0].only(has_experts),
        SHARED[1].only(has_experts),
        SHARED[2].only(has_experts),
    ]
};

fn has_experts(sizes: &Sizes) -> bool {
    sizes.experts > 0
}

fn is_dense(sizes: &Sizes) -> bool {
    sizes.experts == 0
}

fn layer(hyper: &Hyper, number: usize) -> Vec<Op> {
    let mixer = match hyper.is_recurrent(number) {
        true => MAMBA.to_vec(),
        false if hyper.turns => [QUERY_KEY_VALUE, TURN, ATTEND].concat(),
        false => [QUERY_KEY_VALUE, ATTEND].concat(),
    };
    let feed_forward = match hyper.experts {
        Some(_) => [SILU_EXPERTS, ADD, &SHARED_EXPERT].concat(),
        None => SILU.to_vec(),
    };
    [ATTENTION_NORM, &mixer, ADD, FEED_FORWARD_NORM, &feed_forward, ADD].concat()
}

fn sizes(config: &Config) -> Result<Sizes, ArchError> {
    let refuse = |what: &str| Err(unsupported(config, NAME, what.to_owned()));
    if config.optional_text(&["position_embedding_type"])?.is_some_and(|kind| kind != "nope") {
        return refuse("positions (`position_embedding_type` is not nope) are");
    }
    if config.optional_text(&["normalization_function"])?.is_some_and(|kind| kind != "rmsnorm") {
        return refuse("other norms than RMS norms (`normalization_function`) are");
    }
    config.optional_flag("mamba_conv_bias")?;
    let shared = config.count(&["shared_intermediate_size"])?;
    let experts = config.optional_integer(&["num_local_experts"])?.is_some_and(|n| n > 0);
    let config = &config.or(json!({ "intermediate_size": shared }));
    let sizes = match experts {
        true => text::sizes_with_experts(config, &["intermediate_size"])?,
        false => text::sizes(config)?,
    };
    config.optional_integer(&["num_experts_per_tok"])?;
    let kinds = (&["mamba", "linear_attention"][..], &["attention", "full_attention"][..]);
    let Some(recurrent) = of_kind(config, sizes.layers, kinds)? else {
        return Err(config.missing(&["layer_types"]).into());
    };
    if !recurrent.list(sizes.layers).any(|recurrent| recurrent) {
        return refuse("layers that all have attention (`layer_types`) are");
    }
    let scan = ScanSizes {
        heads: config.count(&["mamba_n_heads"])?,
        groups: config.count(&["mamba_n_groups"])?,
        state: config.count(&["mamba_d_state"])?,
        value: config.count(&["mamba_d_head"])?,
    };
    let sizes = Sizes {
        positions: CONTEXT,
        shared_feed_forward: shared,
        dense_layers: sizes.layers,
        kernel: config.count(&["mamba_d_conv"])?,
        recurrent,
        ..sizes
    };
    with_scan(config, sizes, scan, (config.count(&["mamba_expand"])?, "mamba_expand"))
}

fn keys(config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let mut keys = text::keys(NAME, config, sizes)?;
    text::heads_by_layer(&mut keys, sizes);
    // The numbers are written for dense models, too.
    keys.count("expert_count", sizes.experts);
    keys.count("expert_used_count", sizes.experts_used);
    keys.count("vocab_size", sizes.vocab);
    keys.count("rope.dimension_count", sizes.rotary);
    multipliers(config, &mut keys)?;
    keys.count("expert_shared_feed_forward_length", sizes.shared_feed_forward);
    scan_keys(sizes, &mut keys);
    keys.add("rope.scaling.finetuned", Value::Bool(false));
    Ok(keys)
}
