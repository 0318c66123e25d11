//! LFM 2: gated short convolutions in most layers and attention in the others, dense or with a mixture of experts.

use kquant_kernels::math::Pairs;
use serde_json::json;

use crate::graph::parts::*;
use crate::graph::{Graph, Hyper, Op, Routing, Scores};
use crate::tensor::RowOrder;

use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::dims::Sizes;
use crate::arch::table::entries::{ATTENTION, CACHED, VALUE};
use crate::arch::table::entry::{Entry, in_attention};
use crate::arch::table::family::{Family, nothing};
use crate::arch::table::keys::Keys;
use crate::arch::table::layers::{LayerSet, of_kind};
use crate::arch::table::mapping::Table;
use crate::arch::table::takes::{Literal, Only, Takes};
use crate::arch::table::text;

const NAME: &str = "lfm2";
const MIXTURE_NAME: &str = "lfm2moe";

/// The dense family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["Lfm2ForCausalLM", "LFM2ForCausalLM"],
    model_types: &["lfm2"],
    sizes: dense_sizes,
    keys: |config, sizes| {
        let mut keys = keys(NAME, config, sizes)?;
        last_keys(&mut keys, sizes);
        Ok(keys)
    },
    table: &Table {
        family: NAME,
        prefix: "model.",
        ignored: CACHED,
        entries: &[COMMON, ATTENTION_LAYERS, FEED_FORWARD],
    },
    computed: nothing,
    takes: TAKES,
    graph: &GRAPH,
};

/// The family with a mixture of experts.
pub(super) static MIXTURE_FAMILY: Family = Family {
    name: MIXTURE_NAME,
    classes: &["Lfm2MoeForCausalLM"],
    model_types: &["lfm2_moe"],
    sizes: mixture_sizes,
    keys: |config, sizes| {
        let mut keys = keys(MIXTURE_NAME, config, sizes)?;
        keys.count("expert_feed_forward_length", sizes.expert_feed_forward);
        keys.count("leading_dense_block_count", sizes.dense_layers);
        keys.count("expert_gating_func", 2);
        last_keys(&mut keys, sizes);
        Ok(keys)
    },
    table: &Table {
        family: MIXTURE_NAME,
        prefix: "model.",
        ignored: CACHED,
        entries: &[COMMON, ATTENTION_LAYERS, FEED_FORWARD, EXPERTS],
    },
    computed: nothing,
    takes: Takes {
        only: &[
            NO_BIAS,
            Only { key: "norm_topk_prob", value: Literal::Flag(true) },
            Only { key: "routed_scaling_factor", value: Literal::Number(1.0) },
        ],
        ..TAKES
    },
    graph: &GRAPH,
};

const TAKES: Takes = Takes { theta: Some(1e6), tied: true, only: &[NO_BIAS], ..Takes::PLAIN };

/// Readers of the file have no bias of the convolution.
const NO_BIAS: Only = Only { key: "conv_bias", value: Literal::Flag(false) };

/// Keys of published configurations that say again what others say.
const REPEATED: [&str; 8] = [
    "block_dim",
    "block_norm_eps",
    "conv_dim",
    "conv_dim_out",
    "num_heads",
    "theta",
    "tie_embedding",
    "use_expert_bias",
];

const COMMON: &[Entry] = &[
    Entry::new("embed_tokens.weight", "token_embd.weight", &[Vocab, Hidden]),
    // Readers of the file look for the last norm under this name.
    Entry::new("embedding_norm.weight", "token_embd_norm.weight", &[Hidden]),
    Entry::new("lm_head.weight", "output.weight", &[Vocab, Hidden]).optional(),
    Entry::new("layers.{}.operator_norm.weight", "blk.{}.attn_norm.weight", &[Hidden]),
    Entry::new("layers.{}.ffn_norm.weight", "blk.{}.ffn_norm.weight", &[Hidden]),
    Entry::new("layers.{}.conv.conv.weight", "blk.{}.shortconv.conv.weight", &[Hidden, One, Kernel])
        .part(&[Hidden, Kernel], |_| RowOrder::Same)
        .recurrent()
        .always_f32(),
    Entry::new(
        "layers.{}.conv.in_proj.weight",
        "blk.{}.shortconv.in_proj.weight",
        &[ShortProjection, Hidden],
    )
    .recurrent(),
    Entry::new("layers.{}.conv.out_proj.weight", "blk.{}.shortconv.out_proj.weight", &[Hidden, Hidden])
        .recurrent(),
];

const ATTENTION_LAYERS: &[Entry] = &{
    let [query, key, ..] = in_attention::<4>(ATTENTION);
    let [value] = in_attention::<1>(VALUE);
    [
        query,
        key,
        value,
        Entry::new("layers.{}.self_attn.out_proj.weight", "blk.{}.attn_output.weight", &[Hidden, Query])
            .attention(),
        Entry::new("layers.{}.self_attn.q_layernorm.weight", "blk.{}.attn_q_norm.weight", &[Head])
            .attention(),
        Entry::new("layers.{}.self_attn.k_layernorm.weight", "blk.{}.attn_k_norm.weight", &[Head])
            .attention(),
    ]
};

const FEED_FORWARD: &[Entry] = &[
    Entry::new("layers.{}.feed_forward.w1.weight", "blk.{}.ffn_gate.weight", &[FeedForward, Hidden]).dense(),
    Entry::new("layers.{}.feed_forward.w2.weight", "blk.{}.ffn_down.weight", &[Hidden, FeedForward]).dense(),
    Entry::new("layers.{}.feed_forward.w3.weight", "blk.{}.ffn_up.weight", &[FeedForward, Hidden]).dense(),
];

const EXPERTS: &[Entry] = &[
    Entry::new("layers.{}.feed_forward.gate.weight", "blk.{}.ffn_gate_inp.weight", &[Experts, Hidden])
        .mixture()
        .always_f32(),
    Entry::new("layers.{}.feed_forward.expert_bias", "blk.{}.exp_probs_b.bias", &[Experts])
        .mixture()
        .optional(),
    expert(
        "layers.{}.feed_forward.experts.{}.w1.weight",
        "blk.{}.ffn_gate_exps.weight",
        &[ExpertFeedForward, Hidden],
    ),
    expert(
        "layers.{}.feed_forward.experts.{}.w2.weight",
        "blk.{}.ffn_down_exps.weight",
        &[Hidden, ExpertFeedForward],
    ),
    expert(
        "layers.{}.feed_forward.experts.{}.w3.weight",
        "blk.{}.ffn_up_exps.weight",
        &[ExpertFeedForward, Hidden],
    ),
];

const fn expert(
    from: &'static str,
    to: &'static str,
    shape: &'static [crate::arch::table::dims::Dim],
) -> Entry {
    Entry::new(from, to, shape).stacked(Experts).mixture()
}

static GRAPH: Graph = Graph {
    layer,
    final_norm_name: Some("token_embd_norm"),
    pairs: Pairs::Halves,
    routing: Routing { scores: Some(Scores::Sigmoid), normalized: true },
    ..Graph::PLAIN
};

fn layer(hyper: &Hyper, number: usize) -> Vec<Op> {
    let mixer = match hyper.is_recurrent(number) {
        true => SHORT_CONVOLUTION.to_vec(),
        false => [QUERY_KEY_VALUE, QUERY_KEY_NORM, TURN, ATTEND].concat(),
    };
    let dense = hyper.experts.is_none() || number < hyper.dense_layers;
    let feed_forward = if dense { SILU } else { SILU_EXPERTS };
    [ATTENTION_NORM, &mixer, ADD, FEED_FORWARD_NORM, feed_forward, ADD].concat()
}

fn keys(name: &'static str, config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let mut keys = text::keys(name, config, sizes)?;
    text::heads_by_layer(&mut keys, sizes);
    Ok(keys)
}

fn last_keys(keys: &mut Keys, sizes: &Sizes) {
    keys.count("vocab_size", sizes.vocab);
    keys.count("shortconv.l_cache", sizes.kernel);
}

fn dense_sizes(config: &Config) -> Result<Sizes, ArchError> {
    let inner = config.count(&["block_ff_dim", "intermediate_size"])?;
    let sizes = text::plain_sizes(&config.or(json!({ "intermediate_size": inner })), NAME)?;
    let sizes = Sizes { feed_forward: adjusted(config, inner)?, ..sizes };
    with_convolutions(config, sizes)
}

/// Returns the width of the feed-forward network, of which the configuration gives that before two thirds are taken.
fn adjusted(config: &Config, inner: u32) -> Result<u32, ArchError> {
    // The defaults are transformers'.
    let multiplier = config.optional_double(&["block_ffn_dim_multiplier"])?.unwrap_or(1.0);
    let multiple = config.optional_count(&["block_multiple_of"])?.unwrap_or(256);
    if config.optional_flag("block_auto_adjust_ff_dim")? == Some(false) {
        return Ok(inner);
    }
    let scaled = (multiplier * (2.0 * f64::from(inner) / 3.0).floor()) as u32;
    Ok(scaled.div_ceil(multiple).saturating_mul(multiple))
}

fn mixture_sizes(config: &Config) -> Result<Sizes, ArchError> {
    let sizes = text::sizes_with_experts(config, &["moe_intermediate_size"])?;
    text::whole_heads(config, MIXTURE_NAME, &sizes)?;
    let dense_layers = config.optional_integer(&["num_dense_layers"])?.map_or(0, |n| n.max(0) as u32);
    with_convolutions(config, Sizes { dense_layers, ..sizes })
}

fn with_convolutions(config: &Config, sizes: Sizes) -> Result<Sizes, ArchError> {
    for key in REPEATED {
        config.value(key);
    }
    let listed = config.optional_counts("full_attn_idxs")?;
    let recurrent = match (of_kind(config, sizes.layers, (&["conv"], &["full_attention"]))?, listed) {
        (Some(recurrent), _) => recurrent,
        (None, Some(attention)) => LayerSet::of(|layer| !attention.contains(&(layer as u64))),
        (None, None) => return Err(config.missing(&["layer_types", "full_attn_idxs"]).into()),
    };
    Ok(Sizes { kernel: config.count(&["conv_L_cache"])?, recurrent, ..sizes })
}
