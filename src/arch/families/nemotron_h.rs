//! Nemotron-H and Nemotron 3: each layer is one mixer, a Mamba 2 state space, attention without positions or a feed-forward network,
//! which is the square of ReLU between two matrices or a mixture of experts of that kind.

use serde_json::json;

use crate::graph::parts::*;
use crate::graph::{Activation, Graph, Hyper, Op, Routing, Scores, Slot};
use kquant_formats::gguf::Value;

use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::dims::{ScanSizes, Sizes};
use crate::arch::table::entries::OUTPUT;
use crate::arch::table::entry::{Entry, Heads};
use crate::arch::table::family::{Family, nothing, unsupported};
use crate::arch::table::keys::Keys;
use crate::arch::table::layers::LayerSet;
use crate::arch::table::mapping::Table;
use crate::arch::table::state_space::{scan_keys, state_space, with_scan_of_any_width};
use crate::arch::table::takes::{Biases, Literal, Only, RELU_SQUARED, Takes};
use crate::arch::table::text;

const NAME: &str = "nemotron_h";
const MIXTURE_NAME: &str = "nemotron_h_moe";

/// The context that the converter writes: without positions, the model has no bound.
const CONTEXT: u32 = 1 << 20;

/// The dense family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["NemotronHForCausalLM"],
    model_types: &["nemotron_h"],
    sizes: |config| sizes(config, NAME),
    keys: |config, sizes| keys(NAME, config, sizes),
    table: &Table {
        family: NAME,
        prefix: "backbone.",
        ignored: &[],
        entries: &[OUTSIDE, state_space!("layers.{}.mixer."), ATTENTION, DENSE],
    },
    computed: nothing,
    takes: Takes { models: |config| !has_experts(config), ..TAKES },
    graph: &GRAPH,
};

/// The family with mixtures of experts.
pub(super) static MIXTURE_FAMILY: Family = Family {
    name: MIXTURE_NAME,
    classes: &["NemotronHForCausalLM"],
    model_types: &["nemotron_h"],
    sizes: mixture_sizes,
    keys: |config, sizes| {
        let mut keys = keys(MIXTURE_NAME, config, sizes)?;
        keys.count("expert_feed_forward_length", sizes.expert_feed_forward);
        keys.count("expert_shared_feed_forward_length", sizes.shared_feed_forward);
        keys.count("expert_shared_count", text::shared_experts(config)?);
        // The defaults are transformers'.
        let normalized = config.optional_flag("norm_topk_prob")?.unwrap_or(true);
        keys.add("expert_weights_norm", Value::Bool(normalized));
        let scale = config.optional_number(&["routed_scaling_factor"])?.unwrap_or(1.0);
        keys.number("expert_weights_scale", scale);
        Ok(keys)
    },
    table: &Table {
        family: MIXTURE_NAME,
        prefix: "backbone.",
        ignored: &[],
        entries: &[OUTSIDE, state_space!("layers.{}.mixer."), ATTENTION, MIXTURE],
    },
    computed: nothing,
    takes: Takes { models: has_experts, only: &[UNBIASED, NO_LATENT], ..TAKES },
    graph: &GRAPH,
};

const TAKES: Takes = Takes {
    activations: RELU_SQUARED,
    scalings: &[],
    biases: &[ATTENTION_BIAS, MLP_BIAS],
    only: &[UNBIASED],
    ..Takes::PLAIN
};

/// Readers of the file have no bias of the state space's projections.
const UNBIASED: Only = Only { key: "use_bias", value: Literal::Flag(false) };

/// Experts that read a narrower vector than the stream have tensors of their own.
const NO_LATENT: Only = Only { key: "moe_latent_size", value: Literal::Null };

const ATTENTION_BIAS: Biases = Biases {
    flag: "attention_bias",
    names: &[".mixer.q_proj.bias", ".mixer.k_proj.bias", ".mixer.v_proj.bias", ".mixer.o_proj.bias"],
};

const MLP_BIAS: Biases =
    Biases { flag: "mlp_bias", names: &[".mixer.up_proj.bias", ".mixer.down_proj.bias"] };

const OUTSIDE: &[Entry] = &[
    Entry::new("embeddings.weight", "token_embd.weight", &[Vocab, Hidden]),
    Entry::new("norm_f.weight", "output_norm.weight", &[Hidden]),
    OUTPUT,
    Entry::new("layers.{}.norm.weight", "blk.{}.attn_norm.weight", &[Hidden]),
];

/// Queries and keys are rearranged as if they had positions, as the converter does; no score changes.
const ATTENTION: &[Entry] = &[
    Entry::new("layers.{}.mixer.q_proj.weight", "blk.{}.attn_q.weight", &[Query, Hidden])
        .rotary(Heads::Query)
        .attention(),
    Entry::new("layers.{}.mixer.k_proj.weight", "blk.{}.attn_k.weight", &[KeyValue, Hidden])
        .rotary(Heads::KeyValue)
        .attention(),
    Entry::new("layers.{}.mixer.v_proj.weight", "blk.{}.attn_v.weight", &[KeyValue, Hidden]).attention(),
    Entry::new("layers.{}.mixer.o_proj.weight", "blk.{}.attn_output.weight", &[Hidden, Query]).attention(),
    Entry::new("layers.{}.mixer.q_proj.bias", "blk.{}.attn_q.bias", &[Query])
        .rotary(Heads::Query)
        .attention()
        .optional(),
    Entry::new("layers.{}.mixer.k_proj.bias", "blk.{}.attn_k.bias", &[KeyValue])
        .rotary(Heads::KeyValue)
        .attention()
        .optional(),
    Entry::new("layers.{}.mixer.v_proj.bias", "blk.{}.attn_v.bias", &[KeyValue]).attention().optional(),
    Entry::new("layers.{}.mixer.o_proj.bias", "blk.{}.attn_output.bias", &[Hidden]).attention().optional(),
];

const DENSE: &[Entry] = &[
    Entry::new("layers.{}.mixer.up_proj.weight", "blk.{}.ffn_up.weight", &[FeedForward, Hidden]).alone(),
    Entry::new("layers.{}.mixer.down_proj.weight", "blk.{}.ffn_down.weight", &[Hidden, FeedForward]).alone(),
    Entry::new("layers.{}.mixer.up_proj.bias", "blk.{}.ffn_up.bias", &[FeedForward]).alone().optional(),
    Entry::new("layers.{}.mixer.down_proj.bias", "blk.{}.ffn_down.bias", &[Hidden]).alone().optional(),
];

const MIXTURE: &[Entry] = &[
    Entry::new("layers.{}.mixer.gate.weight", "blk.{}.ffn_gate_inp.weight", &[Experts, Hidden])
        .alone()
        .always_f32(),
    Entry::new("layers.{}.mixer.gate.e_score_correction_bias", "blk.{}.exp_probs_b.bias", &[Experts]).alone(),
    Entry::new(
        "layers.{}.mixer.experts.{}.down_proj.weight",
        "blk.{}.ffn_down_exps.weight",
        &[Hidden, ExpertFeedForward],
    )
    .stacked(Experts)
    .alone(),
    Entry::new(
        "layers.{}.mixer.experts.{}.up_proj.weight",
        "blk.{}.ffn_up_exps.weight",
        &[ExpertFeedForward, Hidden],
    )
    .stacked(Experts)
    .alone(),
    Entry::new(
        "layers.{}.mixer.shared_experts.down_proj.weight",
        "blk.{}.ffn_down_shexp.weight",
        &[Hidden, SharedFeedForward],
    )
    .alone(),
    Entry::new(
        "layers.{}.mixer.shared_experts.up_proj.weight",
        "blk.{}.ffn_up_shexp.weight",
        &[SharedFeedForward, Hidden],
    )
    .alone(),
];

static GRAPH: Graph =
    Graph { layer, routing: Routing { scores: Some(Scores::Sigmoid), normalized: true }, ..Graph::PLAIN };

fn layer(hyper: &Hyper, number: usize) -> Vec<Op> {
    const SQUARE: Activation = Activation::ReluSquared;
    let mixer = match &hyper.experts {
        _ if hyper.is_recurrent(number) => MAMBA.to_vec(),
        _ if hyper.kv_heads_in(number) > 0 => [QUERY_KEY_VALUE, ATTEND].concat(),
        None => two_matrices(Slot::Normed, SQUARE).to_vec(),
        Some(_) => [&mixture_of_two_matrices(SQUARE)[..], ADD, &shared_of_two_matrices(SQUARE)].concat(),
    };
    [ATTENTION_NORM, &mixer, ADD].concat()
}

/// The kind of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Recurrent,
    Attention,
    Dense,
    Mixture,
}

/// Returns the kind of each layer, by a letter in a pattern or by a word in a list.
fn kinds(config: &Config) -> Result<Vec<Kind>, ArchError> {
    const PATTERN: &str = "hybrid_override_pattern";
    const LIST: &str = "layers_block_type";
    let kind = |word: &str| match word {
        "M" | "mamba" | "linear_attention" => Some(Kind::Recurrent),
        "*" | "attention" | "full_attention" => Some(Kind::Attention),
        "-" | "mlp" => Some(Kind::Dense),
        "E" | "moe" => Some(Kind::Mixture),
        _ => None,
    };
    let (key, kinds): (_, Option<Vec<Kind>>) = match config.optional_text(&[PATTERN])? {
        Some(pattern) => (PATTERN, pattern.split("").filter(|letter| !letter.is_empty()).map(kind).collect()),
        None => {
            let list = config.optional_texts(LIST)?.ok_or_else(|| config.missing(&[PATTERN, LIST]))?;
            (LIST, list.into_iter().map(kind).collect())
        }
    };
    let layers = config.optional_count(&["num_hidden_layers"])?;
    kinds
        .filter(|kinds| layers.is_none_or(|layers| kinds.len() == layers as usize))
        .ok_or_else(|| config.unusable(key, "a known kind of each layer").into())
}

fn has_experts(config: &Config) -> bool {
    kinds(config).is_ok_and(|kinds| kinds.contains(&Kind::Mixture))
}

fn mixture_sizes(config: &Config) -> Result<Sizes, ArchError> {
    if kinds(config)?.contains(&Kind::Dense) {
        return Err(unsupported(config, MIXTURE_NAME, "dense networks beside mixtures are".to_owned()));
    }
    Ok(Sizes {
        experts: config.count(&["n_routed_experts"])?,
        experts_used: config.count(&["num_experts_per_tok"])?,
        expert_feed_forward: config.count(&["moe_intermediate_size"])?,
        shared_feed_forward: config.count(&["moe_shared_expert_intermediate_size"])?,
        ..sizes(config, MIXTURE_NAME)?
    })
}

fn sizes(config: &Config, name: &'static str) -> Result<Sizes, ArchError> {
    if config.optional_text(&["mamba_hidden_act"])?.is_some_and(|function| function != "silu") {
        return Err(unsupported(
            config,
            name,
            "another activation than silu (`mamba_hidden_act`) is".to_owned(),
        ));
    }
    for key in HARMLESS {
        config.value(key);
    }
    let kinds = kinds(config)?;
    let is = |wanted: Kind| LayerSet::of(|layer| kinds.get(layer) == Some(&wanted));
    let alone = LayerSet::of(|layer| matches!(kinds.get(layer), Some(Kind::Dense | Kind::Mixture)));
    let head = config.optional_count(&["head_dim", "attention_head_dim"])?;
    let config = &config.or(json!({ "num_hidden_layers": kinds.len(), "head_dim": head }));
    let scan = ScanSizes {
        heads: config.count(&["mamba_num_heads"])?,
        groups: config.count(&["n_groups"])?,
        state: config.count(&["ssm_state_size"])?,
        value: config.count(&["mamba_head_dim"])?,
    };
    let sizes = Sizes {
        positions: CONTEXT,
        kernel: config.count(&["conv_kernel"])?,
        recurrent: is(Kind::Recurrent),
        alone,
        ..text::sizes(config)?
    };
    with_scan_of_any_width(config, sizes, scan)
}

/// Keys that say how the model is run or trained, not what it computes, or that others say again.
const HARMLESS: [&str; 11] = [
    "expand",
    "mamba_proj_bias",
    "mamba_ssm_cache_dtype",
    "moe_shared_expert_overlap",
    "mtp_layers_block_type",
    "mtp_hybrid_override_pattern",
    "num_logits_to_keep",
    "num_query_groups",
    "use_conv_bias",
    "use_mamba_kernels",
    "max_position_embeddings",
];

fn keys(name: &'static str, config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let epsilon =
        config.optional_number(&["layer_norm_epsilon", "norm_eps", "rms_norm_eps"])?.unwrap_or(1e-5);
    let mut keys = text::keys(name, &config.or(json!({ "rms_norm_eps": epsilon })), sizes)?;
    text::heads_by_layer(&mut keys, sizes);
    let inner = if sizes.experts > 0 { sizes.expert_feed_forward } else { sizes.feed_forward };
    text::by_layer(
        &mut keys,
        "feed_forward_length",
        sizes,
        |layer| {
            if sizes.alone.has(layer) { inner } else { 0 }
        },
    );
    keys.insert("expert_count", "attention.layer_norm_epsilon", Value::F32(epsilon));
    // Attention has no positions. The widths of heads come later.
    keys.remove("rope.freq_base");
    keys.remove("attention.key_length");
    keys.remove("attention.value_length");
    keys.count("vocab_size", sizes.vocab);
    keys.count("rope.dimension_count", sizes.head_dim);
    scan_keys(sizes, &mut keys);
    keys.add("rope.scaling.finetuned", Value::Bool(false));
    text::head_widths(&mut keys, sizes);
    Ok(keys)
}
