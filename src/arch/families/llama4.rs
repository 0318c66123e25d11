//! Llama 4 for text: three of four layers have positions and norms of the turned queries and keys, the fourth has queries that grow
//! with their position; each token's best expert reads a share of the stream, and a shared expert reads all of it.

use crate::graph::parts::*;
use crate::graph::{Graph, Hyper, Op, Routing, Scores, Slot};
use kquant_kernels::math::Pairs;

use super::{llama, smollm3};
use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::dims::Sizes;
use crate::arch::table::entries::{
    ATTENTION, ATTENTION_OUTPUT, CACHED, NORMS, OUTSIDE, VALUE, experts_by_input, shared,
};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Family, unsupported};
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{ATTENTION_BIAS, BY_FACTORS, Literal, Only, Takes};
use crate::arch::table::text;
use crate::arch::table::windows::Window;

const NAME: &str = "llama4";

/// Number of experts by which llama.cpp knows the models without norms of queries and keys.
const EXPERTS_WITHOUT_NORMS: usize = 128;

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["Llama4ForCausalLM", "Llama4ForConditionalGeneration"],
    model_types: &["llama4_text", "llama4"],
    sizes,
    keys: |config, sizes| {
        let mut keys = llama::keys(NAME, config, sizes)?;
        keys.count("interleave_moe_layer_step", 1);
        keys.count("expert_feed_forward_length", sizes.expert_feed_forward);
        Ok(keys)
    },
    table: &TABLE,
    computed: llama::computed,
    takes: Takes {
        scalings: BY_FACTORS,
        theta: Some(500_000.0),
        window: Window::Chunks,
        biases: &[ATTENTION_BIAS],
        only: &[
            // The graph has these numbers, whatever the configuration.
            Only { key: "attn_temperature_tuning", value: Literal::Flag(true) },
            Only { key: "attn_scale", value: Literal::Number(0.1) },
            Only { key: "floor_scale", value: Literal::Number(8192.0) },
            Only { key: "num_experts_per_tok", value: Literal::Number(1.0) },
            Only { key: "router_jitter_noise", value: Literal::Number(0.0) },
        ],
        ..Takes::PLAIN
    },
    graph: &GRAPH,
};

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: CACHED,
    entries: &[OUTSIDE, NORMS, ATTENTION, VALUE, ATTENTION_OUTPUT, ROUTER, &EXPERTS, &SHARED],
};

const ROUTER: &[Entry] =
    &[Entry::new("layers.{}.feed_forward.router.weight", "blk.{}.ffn_gate_inp.weight", &[Experts, Hidden])
        .always_f32()];

const EXPERTS: [Entry; 3] = experts_by_input(
    "layers.{}.feed_forward.experts.down_proj",
    "layers.{}.feed_forward.experts.gate_up_proj",
);

const SHARED: [Entry; 3] = shared(
    "layers.{}.feed_forward.shared_expert.gate_proj.weight",
    "layers.{}.feed_forward.shared_expert.up_proj.weight",
    "layers.{}.feed_forward.shared_expert.down_proj.weight",
);

static GRAPH: Graph = Graph {
    layer,
    pairs: Pairs::Adjacent,
    routing: Routing { scores: Some(Scores::Sigmoid), normalized: false },
    ..Graph::PLAIN
};

fn layer(hyper: &Hyper, number: usize) -> Vec<Op> {
    const NORMALIZE: &[Op] = &[Op::Normalize { slot: Slot::Query }, Op::Normalize { slot: Slot::Key }];
    let has_norms = hyper.experts.as_ref().is_none_or(|experts| experts.count != EXPERTS_WITHOUT_NORMS);
    let positions = match smollm3::has_positions(number) {
        true if has_norms => [TURN, NORMALIZE].concat(),
        true => TURN.to_vec(),
        false => vec![Op::Grow],
    };
    let attention = [ATTENTION_NORM, QUERY_KEY_VALUE, &positions, ATTEND, ADD].concat();
    [&attention, FEED_FORWARD_NORM, SHARES_TO_EXPERTS, ADD, &SHARED_EXPERT, ADD].concat()
}

fn sizes(config: &Config) -> Result<Sizes, ArchError> {
    smollm3::check_positions(config, NAME)?;
    if config.optional_count(&["interleave_moe_layer_step"])?.unwrap_or(1) != 1 {
        let what = "layers without experts between those with (`interleave_moe_layer_step`) are".to_owned();
        return Err(unsupported(config, NAME, what));
    }
    let sizes = text::sizes_with_experts(config, &["intermediate_size"])?;
    text::whole_heads(config, NAME, &sizes)?;
    let has_norms = config.optional_flag("use_qk_norm")?.unwrap_or(true);
    if has_norms != (sizes.experts as usize != EXPERTS_WITHOUT_NORMS) {
        let what = format!(
            "norms of queries and keys in other models than those without {EXPERTS_WITHOUT_NORMS} experts (`use_qk_norm`) are"
        );
        return Err(unsupported(config, NAME, what));
    }
    // A list that repeats the interval.
    config.optional_counts("moe_layers")?;
    config.optional_flag("for_llm_compressor")?;
    Ok(Sizes {
        feed_forward: config.count(&["intermediate_size_mlp"])?,
        shared_feed_forward: sizes.expert_feed_forward,
        ..sizes
    })
}
