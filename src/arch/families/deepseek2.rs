//! DeepSeek V2 and V3: keys and values come from a common latent space, experts are in groups, shared experts serve all
//! tokens, and the first layers are dense.
//!
//! In GGUF `kv_b_proj` is two tensors: `attn_k_b` maps a head's query into the latent space, so that all heads attend to
//! one latent key, and `attn_v_b` maps the attended values out of it.

use crate::graph::parts::*;
use crate::graph::{By, CutEach, Graph, Hyper, Op, Routing, Slot};
use crate::tensor::RowOrder;
use kquant_formats::gguf::Value;
use kquant_kernels::math::Pairs;

use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Dim::{
    Fixed, FixedAndValue, Heads, Hidden, LowQuery, Rank, RankAndRotary, Values, WholeQuery,
};
use crate::arch::table::dims::{Dim, Latent, Sizes};
use crate::arch::table::entries::{CACHED, CORRECTION, GATED, MIXTURE, NORMS, OUTSIDE, SHARED};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Family, nothing, unsupported};
use crate::arch::table::keys::Keys;
use crate::arch::table::mapping::Table;
use crate::arch::table::rope::{Rope, Scaling};
use crate::arch::table::takes::{Literal, Only, Takes};
use crate::arch::table::text;

const NAME: &str = "deepseek2";

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM", "Glm4MoeLiteForCausalLM"],
    model_types: &["deepseek_v2", "deepseek_v3", LITE],
    sizes,
    keys,
    table: &TABLE,
    computed: nothing,
    takes: Takes {
        scalings: &["default", "dynamic", "yarn"],
        only: &[
            Only { key: "attention_bias", value: Literal::Flag(false) },
            Only { key: "mlp_bias", value: Literal::Flag(false) },
        ],
        differs,
        ..Takes::PLAIN
    },
    graph: &GRAPH,
};

/// Type of the models of GLM 4.7 Flash.
const LITE: &str = "glm4_moe_lite";

/// Says what llama.cpp computes otherwise: it has one epsilon for all norms, and rates groups of experts by their two best ones.
fn differs(config: &Config, _: &Sizes) -> Result<Option<&'static str>, ArchError> {
    let epsilon = config.optional_number(&["rms_norm_eps"])?.unwrap_or(1e-6);
    let groups = config.optional_count(&["n_group"])?.unwrap_or(1);
    Ok(match config.optional_text(&["model_type"])? {
        Some(LITE) if epsilon != 1e-6 => Some(text::NARROW_EPSILON),
        Some("deepseek_v2") if groups > 1 => Some(
            "a group of experts is worth its best expert in the model, and its two best in llama.cpp (`topk_method`, `n_group`)",
        ),
        _ => None,
    })
}

/// Returns the configuration with the values that transformers has for the type of the model and that not every configuration
/// gives, first the function of the router. The converter knows that of DeepSeek V3 without a key.
fn with_defaults(config: &Config) -> Result<Config, ArchError> {
    Ok(match config.optional_text(&["model_type"])? {
        Some(LITE) => text::with_sigmoid(config),
        Some("deepseek_v2") => {
            // The converter takes the width of a head from transformers, which writes it in the place of the key below.
            let head = config.optional_count(&["qk_rope_head_dim"])?;
            config.or(serde_json::json!({ "scoring_func": "softmax", "head_dim": head }))
        }
        _ => config.clone(),
    })
}

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: CACHED,
    entries: &[OUTSIDE, NORMS, LATENT_ATTENTION, GATED, MIXTURE, &[CORRECTION.optional()], SHARED],
};

const LATENT_ATTENTION: &[Entry] = &[
    Entry::new("layers.{}.self_attn.q_proj.weight", "blk.{}.attn_q.weight", &[WholeQuery, Hidden]).optional(),
    Entry::new("layers.{}.self_attn.q_a_proj.weight", "blk.{}.attn_q_a.weight", &[LowQuery, Hidden])
        .optional(),
    Entry::new("layers.{}.self_attn.q_a_layernorm.weight", "blk.{}.attn_q_a_norm.weight", &[LowQuery])
        .optional(),
    Entry::new("layers.{}.self_attn.q_b_proj.weight", "blk.{}.attn_q_b.weight", &[WholeQuery, LowQuery])
        .optional(),
    Entry::new(
        "layers.{}.self_attn.kv_a_proj_with_mqa.weight",
        "blk.{}.attn_kv_a_mqa.weight",
        &[RankAndRotary, Hidden],
    ),
    Entry::new("layers.{}.self_attn.kv_a_layernorm.weight", "blk.{}.attn_kv_a_norm.weight", &[Rank]),
    Entry::new("layers.{}.self_attn.kv_b_proj.weight", "blk.{}.attn_k_b.weight", &[FixedAndValue, Rank])
        .part(&[Heads, Rank, Fixed], |sizes| {
            let stride = u64::from(sizes.latent.fixed) + u64::from(sizes.latent.value);
            RowOrder::Transposed { stride, skip: 0, first: 0, step: 1 }
        }),
    Entry::new("layers.{}.self_attn.kv_b_proj.weight", "blk.{}.attn_v_b.weight", &[FixedAndValue, Rank])
        .part(&[Heads, Dim::Value, Rank], |sizes| {
            let (first, length) = (u64::from(sizes.latent.fixed), u64::from(sizes.latent.value));
            RowOrder::Picked { length, stride: first + length, first, step: 1 }
        }),
    Entry::new("layers.{}.self_attn.o_proj.weight", "blk.{}.attn_output.weight", &[Hidden, Values]),
];

static GRAPH: Graph = Graph {
    layer,
    pairs: Pairs::Adjacent,
    routing: Routing { scores: None, normalized: false },
    ..Graph::PLAIN
};

fn layer(hyper: &Hyper, number: usize) -> Vec<Op> {
    let latent = linear(Slot::Normed, Slot::Fused, "attn_kv_a_mqa");
    let query = if hyper.latent.is_some_and(|latent| latent.low_query) {
        vec![
            linear(Slot::Normed, Slot::LowQuery, "attn_q_a"),
            latent,
            rms(Slot::LowQuery, Slot::LowQuery, "attn_q_a_norm"),
            linear(Slot::LowQuery, Slot::WholeQuery, "attn_q_b"),
        ]
    } else {
        vec![linear(Slot::Normed, Slot::WholeQuery, "attn_q"), latent]
    };
    [ATTENTION_NORM, &query, ATTEND_LATENT, ADD, FEED_FORWARD_NORM, feed_forward(hyper, number), ADD].concat()
}

const ATTEND_LATENT: &[Op] = &[
    Op::Cut { input: Slot::Fused, outputs: &[Slot::Value, Slot::RotaryKey], each: CutEach::Row },
    rms(Slot::Value, Slot::Value, "attn_kv_a_norm"),
    Op::Cut { input: Slot::WholeQuery, outputs: &[Slot::FixedQuery, Slot::RotaryQuery], each: CutEach::Head },
    Op::Rope { slot: Slot::RotaryQuery },
    Op::Rope { slot: Slot::RotaryKey },
    Op::Matrices { input: Slot::FixedQuery, output: Slot::LatentQuery, name: "attn_k_b", by: By::Heads },
    Op::Join { inputs: [Slot::LatentQuery, Slot::RotaryQuery], output: Slot::Query, heads: true },
    Op::Join { inputs: [Slot::Value, Slot::RotaryKey], output: Slot::Key, heads: false },
    Op::Attention { sinks: None },
    Op::Matrices { input: Slot::Attended, output: Slot::Gathered, name: "attn_v_b", by: By::Heads },
    linear(Slot::Gathered, Slot::Delta, "attn_output"),
];

fn sizes(config: &Config) -> Result<Sizes, ArchError> {
    if config.optional_count(&["moe_layer_freq"])?.is_some_and(|every| every != 1) {
        let what = "layers without experts between those with (`moe_layer_freq`) are".to_owned();
        return Err(unsupported(config, NAME, what));
    }
    if config.optional_flag("rope_interleave")? == Some(false) {
        return Err(unsupported(
            config,
            NAME,
            "halves that turn together (`rope_interleave` is false) are".to_owned(),
        ));
    }
    let sizes = text::sizes_with_shared_experts(config, NAME)?;
    Ok(Sizes {
        rotary: config.count(&["qk_rope_head_dim"])?,
        dense_layers: match config.optional_texts("mlp_layer_types")? {
            Some(kinds) => kinds.iter().take_while(|&&kind| kind == "dense").count() as u32,
            None => sizes.dense_layers,
        },
        further_layers: text::further_layers(config)?,
        latent: Latent {
            low_query: config.optional_count(&["q_lora_rank"])?.unwrap_or(0),
            rank: config.count(&["kv_lora_rank"])?,
            fixed: config.count(&["qk_nope_head_dim"])?,
            value: config.count(&["v_head_dim"])?,
        },
        ..sizes
    })
}

fn keys(config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let (config, latent) = (&with_defaults(config)?, sizes.latent);
    // The keys describe one head of keys, which all queries share.
    let mut keys = text::keys(NAME, config, &Sizes { kv_heads: 1, ..*sizes })?;
    keys.count("leading_dense_block_count", sizes.dense_layers);
    keys.count("vocab_size", sizes.vocab);
    if latent.low_query > 0 {
        keys.count("attention.q_lora_rank", latent.low_query);
    }
    keys.count("attention.kv_lora_rank", latent.rank);
    keys.count("attention.key_length", latent.rank.saturating_add(sizes.rotary));
    keys.count("attention.value_length", latent.rank);
    keys.count("attention.key_length_mla", latent.fixed.saturating_add(sizes.rotary));
    keys.count("attention.value_length_mla", latent.value);
    keys.count("expert_feed_forward_length", sizes.expert_feed_forward);
    keys.count("expert_shared_count", text::shared_experts(config)?);
    keys.optional_number("expert_weights_scale", config.optional_number(&["routed_scaling_factor"])?);
    if config.optional_flag("norm_topk_prob")? == Some(true) {
        keys.add("expert_weights_norm", Value::Bool(true));
    }
    keys.count("rope.dimension_count", sizes.rotary);
    if let Scaling::Yarn(yarn) = Rope::read(config, sizes.positions)?.scaling {
        keys.optional_number("rope.scaling.yarn_log_multiplier", yarn.log_multiplier());
    }
    Ok(keys)
}
