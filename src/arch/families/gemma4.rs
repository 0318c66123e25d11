//! Gemma 4 for text: other heads in layers without a window, and, by model, inputs of layers that come from the tokens, keys and values
//! that later layers attend to as well, values that are keys, and a mixture of experts beside the dense network.

use serde_json::json;

use crate::graph::parts::*;
use crate::graph::{Activation, By, CutEach, Graph, Hyper, Op, Recalled, Slot, Windows};

use super::gemma::ONE_WAY;
use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Dim::*;
use crate::arch::table::dims::{OtherHeads, Sizes};
use crate::arch::table::entries::{ATTENTION_OUTPUT, CACHED, GATED};
use crate::arch::table::entry::Entry;
use crate::arch::table::family::{Computed, Family, unsupported};
use crate::arch::table::keys::Keys;
use crate::arch::table::layers::{LayerSet, of_kind};
use crate::arch::table::mapping::Table;
use crate::arch::table::rope::section;
use crate::arch::table::takes::{ATTENTION_BIAS, GELU, HeadPlace, Takes};
use crate::arch::table::text;
use crate::arch::table::windows::Window;

const NAME: &str = "gemma4";

/// Number of layers from one without a window to the next, where no list says it.
const PATTERN: usize = 6;

/// Divisor of the frequencies of pairs that do not turn.
const STILL: f32 = 1e30;

/// The family, as the registry lists it.
pub(super) static FAMILY: Family = Family {
    name: NAME,
    classes: &["Gemma4ForCausalLM", "Gemma4ForConditionalGeneration"],
    model_types: &["gemma4_text", "gemma4"],
    sizes,
    keys,
    table: &TABLE,
    computed,
    takes: Takes {
        activations: GELU,
        scalings: &["proportional"],
        window: Window::Written { base: true },
        biases: &[ATTENTION_BIAS],
        only: &[ONE_WAY],
        head: HeadPlace::Embedding,
        tied: true,
        ..Takes::PLAIN
    },
    graph: &GRAPH,
};

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: CACHED,
    entries: &[OUTSIDE, NORMS, ATTENTION, &[ATTENTION_OUTPUT[0]], GATED, LAYER_INPUTS, MIXTURE],
};

const OUTSIDE: &[Entry] = &[
    Entry::new("embed_tokens.weight", "token_embd.weight", &[Vocab, Hidden]),
    Entry::new("norm.weight", "output_norm.weight", &[Hidden]),
    Entry::new("layers.{}.layer_scalar", "blk.{}.layer_output_scale.weight", &[One]),
];

const NORMS: &[Entry] = &[
    Entry::new("layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight", &[Hidden]),
    Entry::new("layers.{}.post_attention_layernorm.weight", "blk.{}.post_attention_norm.weight", &[Hidden]),
    Entry::new("layers.{}.pre_feedforward_layernorm.weight", "blk.{}.ffn_norm.weight", &[Hidden]),
    Entry::new("layers.{}.post_feedforward_layernorm.weight", "blk.{}.post_ffw_norm.weight", &[Hidden]),
];

const ATTENTION: &[Entry] = &[
    Entry::new("layers.{}.self_attn.q_proj.weight", "blk.{}.attn_q.weight", &[Query, Hidden]),
    Entry::new("layers.{}.self_attn.q_norm.weight", "blk.{}.attn_q_norm.weight", &[Head]),
    Entry::new("layers.{}.self_attn.k_proj.weight", "blk.{}.attn_k.weight", &[KeyValue, Hidden])
        .of_layers(has_keys),
    Entry::new("layers.{}.self_attn.k_norm.weight", "blk.{}.attn_k_norm.weight", &[Head]).of_layers(has_keys),
    Entry::new("layers.{}.self_attn.v_proj.weight", "blk.{}.attn_v.weight", &[KeyValue, Hidden])
        .of_layers(has_values),
];

fn has_keys(sizes: &Sizes, layer: u32) -> bool {
    !sizes.sharing.has(layer)
}

fn has_values(sizes: &Sizes, layer: u32) -> bool {
    has_keys(sizes, layer) && !(sizes.other_heads.values_are_keys && sizes.other_heads.layers.has(layer))
}

const LAYER_INPUTS: &[Entry] = &[
    Entry::new("embed_tokens_per_layer.weight", "per_layer_token_embd.weight", &[Vocab, LayerInputs])
        .only(has_layer_inputs),
    Entry::new("per_layer_model_projection.weight", "per_layer_model_proj.weight", &[LayerInputs, Hidden])
        .only(has_layer_inputs),
    Entry::new("per_layer_projection_norm.weight", "per_layer_proj_norm.weight", &[LayerInput])
        .only(has_layer_inputs),
    Entry::new("layers.{}.per_layer_input_gate.weight", "blk.{}.inp_gate.weight", &[LayerInput, Hidden])
        .only(has_layer_inputs),
    Entry::new("layers.{}.per_layer_projection.weight", "blk.{}.proj.weight", &[Hidden, LayerInput])
        .only(has_layer_inputs),
    Entry::new("layers.{}.post_per_layer_input_norm.weight", "blk.{}.post_norm.weight", &[Hidden])
        .only(has_layer_inputs),
];

fn has_layer_inputs(sizes: &Sizes) -> bool {
    sizes.layer_input > 0
}

const MIXTURE: &[Entry] = &[
    Entry::new("layers.{}.router.proj.weight", "blk.{}.ffn_gate_inp.weight", &[Experts, Hidden])
        .only(has_experts)
        .always_f32(),
    Entry::new("layers.{}.router.scale", "blk.{}.ffn_gate_inp.scale", &[Hidden]).only(has_experts),
    Entry::new("layers.{}.router.per_expert_scale", "blk.{}.ffn_down_exps.scale", &[Experts])
        .only(has_experts),
    Entry::new(
        "layers.{}.experts.gate_up_proj",
        "blk.{}.ffn_gate_up_exps.weight",
        &[Experts, ExpertGateUp, Hidden],
    )
    .only(has_experts),
    Entry::new(
        "layers.{}.experts.down_proj",
        "blk.{}.ffn_down_exps.weight",
        &[Experts, Hidden, ExpertFeedForward],
    )
    .only(has_experts),
    Entry::new("layers.{}.pre_feedforward_layernorm_2.weight", "blk.{}.pre_ffw_norm_2.weight", &[Hidden])
        .only(has_experts),
    Entry::new("layers.{}.post_feedforward_layernorm_1.weight", "blk.{}.post_ffw_norm_1.weight", &[Hidden])
        .only(has_experts),
    Entry::new("layers.{}.post_feedforward_layernorm_2.weight", "blk.{}.post_ffw_norm_2.weight", &[Hidden])
        .only(has_experts),
];

fn has_experts(sizes: &Sizes) -> bool {
    sizes.experts > 0
}

static GRAPH: Graph = Graph {
    scaled_embedding: true,
    layer,
    stand_ins: &[("attn_v", VALUES_ARE_KEYS)],
    windows: Windows::Pattern(PATTERN),
    window_base: Some(10000.0),
    ..Graph::PLAIN
};

/// The copy of keys before their norm, in layers without a projection to values.
const VALUES_ARE_KEYS: Op = Op::Cut { input: Slot::Key, outputs: &[Slot::Value], each: CutEach::Row };

fn layer(hyper: &Hyper, number: usize) -> Vec<Op> {
    let own = &[QUERY_KEY_VALUE, QUERY_KEY_NORM, &[Op::Normalize { slot: Slot::Value }], TURN].concat();
    let queries = if hyper.keys_of(number).is_some() { SHARED_KEYS } else { own };
    let mut ops = [ATTENTION_NORM, queries, ATTEND, POST_ATTENTION_NORM, ADD, FEED_FORWARD_NORM].concat();
    match hyper.experts {
        Some(_) => ops.extend(DENSE_AND_MIXTURE),
        None => ops.extend(gated(Slot::Normed, Activation::GeluGate)),
    }
    ops.extend([POST_FEED_FORWARD_NORM, ADD].concat());
    if hyper.layer_input > 0 {
        ops.extend(OWN_INPUT);
    }
    ops.push(Op::ScaleStream { name: "layer_output_scale" });
    if hyper.carries() {
        ops.push(Op::PassOn { keys: hyper.keeps_keys(number) });
    }
    ops
}

/// Queries alone; keys and values are those of a layer before.
const SHARED_KEYS: &[Op] = &[
    linear(Slot::Normed, Slot::Query, "attn_q"),
    rms(Slot::Query, Slot::Query, "attn_q_norm"),
    Op::Rope { slot: Slot::Query },
    Op::Recall { part: Recalled::Keys, slot: Slot::Key },
    Op::Recall { part: Recalled::Values, slot: Slot::Value },
];

/// The dense network, and a mixture of experts that reads the same stream through norms of its own.
const DENSE_AND_MIXTURE: &[Op] = &[
    linear(Slot::Normed, Slot::Gate, "ffn_gate"),
    linear(Slot::Normed, Slot::Up, "ffn_up"),
    Op::Activate(Activation::GeluGate),
    linear(Slot::Gate, Slot::Beside, "ffn_down"),
    rms(Slot::Beside, Slot::Beside, "post_ffw_norm_1"),
    Op::NormBy { input: Slot::Stream, output: Slot::NormedParallel, name: "ffn_gate_inp.scale" },
    linear(Slot::NormedParallel, Slot::Router, "ffn_gate_inp"),
    Op::Route { bias: "exp_probs_b" },
    Op::ScaleExperts { name: "ffn_down_exps.scale" },
    rms(Slot::Stream, Slot::Normed, "pre_ffw_norm_2"),
    Op::Matrices { input: Slot::Normed, output: Slot::Up, name: "ffn_gate_up_exps", by: By::Routes },
    Op::SplitGate { routed: true },
    Op::Activate(Activation::GeluGate),
    Op::Matrices { input: Slot::Gate, output: Slot::ExpertOut, name: "ffn_down_exps", by: By::Routes },
    Op::Combine,
    rms(Slot::Delta, Slot::Delta, "post_ffw_norm_2"),
    Op::Sum { slot: Slot::Delta, other: Slot::Beside },
];

/// What the layer's own input adds to the stream, which gates it.
const OWN_INPUT: &[Op] = &[
    linear(Slot::Stream, Slot::Gate, "inp_gate"),
    Op::Recall { part: Recalled::Input, slot: Slot::Up },
    Op::Activate(Activation::GeluGate),
    linear(Slot::Gate, Slot::Delta, "proj"),
    rms(Slot::Delta, Slot::Delta, "post_norm"),
    Op::Add,
];

/// Returns the configuration with transformers' defaults, which published configurations may omit.
fn complete(config: &Config) -> Config {
    config.or(json!({
        "rms_norm_eps": 1e-6,
        "sliding_window": 512,
        "rope_parameters": {
            "sliding_attention": { "rope_type": "default", "rope_theta": 10000.0 },
            "full_attention": {
                "rope_type": "proportional",
                "partial_rotary_factor": 0.25,
                "rope_theta": 1_000_000.0,
            },
        },
    }))
}

/// Returns the number under `key` of a layer without a window, in both layouts of the configuration.
fn of_full_layers(
    config: &Config,
    global: &str,
    key: &str,
    full: &LayerSet,
) -> Result<Option<u32>, ArchError> {
    if let Some(number) = config.optional_count(&[global])? {
        return Ok(Some(number));
    }
    let Some(layers) = config.optional_section(&["per_layer_config"])? else { return Ok(None) };
    let mut found = None;
    for name in layers.keys() {
        let Some(layer) = layers.optional_section(&[name])? else { continue };
        let number = layer.optional_count(&[key])?;
        let is_full = name.parse().is_ok_and(|layer| full.has(layer));
        if !is_full || found.is_some_and(|found| found != number) {
            return Err(config
                .unusable("per_layer_config", "the same for all layers without a window")
                .into());
        }
        found = Some(number);
    }
    Ok(found.flatten())
}

fn sizes(config: &Config) -> Result<Sizes, ArchError> {
    let refuse = |what: String| Err(unsupported(config, NAME, what));
    let config = &complete(config);
    let sizes = text::sizes(config)?;
    text::whole_heads(config, NAME, &sizes)?;
    let kinds = (&["full_attention"][..], &["sliding_attention"][..]);
    let by_pattern = || LayerSet::of(|layer| (layer + 1) % PATTERN == 0);
    let full = of_kind(config, sizes.layers, kinds)?.unwrap_or_else(by_pattern);
    if !full.has(sizes.layers - 1) {
        return refuse("a window in the last layer (`layer_types`) is".to_owned());
    }
    let (same, heads) = (config.optional_flag("attention_k_eq_v")?.unwrap_or(false), sizes.kv_heads);
    let kv_heads = of_full_layers(config, "num_global_key_value_heads", "num_key_value_heads", &full)?;
    let kv_heads = kv_heads.unwrap_or(heads);
    if kv_heads != heads && !same {
        return refuse(
            "other key-value heads without values that are keys (`attention_k_eq_v`) are".to_owned(),
        );
    }
    let other_heads = OtherHeads {
        layers: full,
        head_dim: of_full_layers(config, "global_head_dim", "head_dim", &full)?.unwrap_or(512),
        kv_heads,
        values_are_keys: same,
    };
    let count =
        |key: &str| Ok::<_, ArchError>(config.optional_integer(&[key])?.map_or(0, |n| n.max(0) as u32));
    let shared = count("num_kv_shared_layers")?;
    let own = sizes.layers.saturating_sub(shared);
    let in_order = own >= 2 && full.has(own - 1) && !full.has(own - 2);
    if shared > 0 && !in_order {
        return refuse("keys shared from other layers than the last two of their own are".to_owned());
    }
    let sharing = LayerSet::of(|layer| layer >= own as usize && shared > 0);
    let double = config.optional_flag("use_double_wide_mlp")?.unwrap_or(false);
    let layer_input = count("hidden_size_per_layer_input")?;
    if layer_input > 0
        && config.optional_count(&["vocab_size_per_layer_input"])?.is_some_and(|n| n != sizes.vocab)
    {
        return refuse("a second table of another vocabulary (`vocab_size_per_layer_input`) is".to_owned());
    }
    let sizes = Sizes {
        other_heads,
        sharing,
        double: if double { sharing } else { LayerSet::NONE },
        layer_input,
        ..sizes
    };
    with_experts(config, sizes)
}

fn with_experts(config: &Config, sizes: Sizes) -> Result<Sizes, ArchError> {
    for key in ["num_experts", "top_k_experts", "moe_intermediate_size"] {
        config.value(key);
    }
    if config.optional_flag("enable_moe_block")? != Some(true) {
        return Ok(sizes);
    }
    Ok(Sizes {
        experts: config.count(&["num_experts"])?,
        experts_used: config.count(&["top_k_experts"])?,
        expert_feed_forward: config.count(&["moe_intermediate_size", "expert_intermediate_size"])?,
        ..sizes
    })
}

fn keys(config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let config = &complete(config);
    let mut keys = text::keys(NAME, config, sizes)?;
    let OtherHeads { layers: full, head_dim, kv_heads, .. } = sizes.other_heads;
    if config.optional_flag("use_double_wide_mlp")? == Some(true) {
        text::by_layer(&mut keys, "feed_forward_length", sizes, |layer| {
            sizes.in_layer(Some(layer)).feed_forward
        });
    }
    if of_full_layers(config, "num_global_key_value_heads", "num_key_value_heads", &full)?.is_some() {
        text::by_layer(&mut keys, "attention.head_count_kv", sizes, |layer| {
            if full.has(layer) { kv_heads } else { sizes.kv_heads }
        });
    }
    keys.count("attention.key_length", head_dim);
    keys.count("attention.value_length", head_dim);
    keys.optional_number("final_logit_softcapping", config.optional_number(&["final_logit_softcapping"])?);
    keys.count("attention.sliding_window", config.count(&["sliding_window"])?);
    keys.count(
        "attention.shared_kv_layers",
        sizes.sharing.list(sizes.layers).filter(|&shares| shares).count() as u32,
    );
    keys.count("embedding_length_per_layer_input", sizes.layer_input);
    keys.flags("attention.sliding_window_pattern", full.list(sizes.layers).map(|full| !full).collect());
    keys.count("attention.key_length_swa", sizes.head_dim);
    keys.count("attention.value_length_swa", sizes.head_dim);
    if sizes.experts > 0 {
        keys.count("expert_feed_forward_length", sizes.expert_feed_forward);
    }
    keys.count("rope.dimension_count", head_dim);
    keys.count("rope.dimension_count_swa", sizes.head_dim);
    Ok(keys)
}

/// Returns the divisors of the frequencies in layers without a window, where only the first pairs of a head turn.
fn computed(config: &Config, sizes: &Sizes) -> Result<Computed, ArchError> {
    let full = match section(&complete(config))? {
        Some(rope) => rope.optional_section(&["full_attention"])?,
        None => None,
    };
    let part = full.map(|full| full.optional_double(&["partial_rotary_factor"])).transpose()?.flatten();
    let pairs = sizes.other_heads.head_dim / 2;
    let turning = (f64::from(sizes.other_heads.head_dim) * part.unwrap_or(1.0) / 2.0) as u32;
    let factors = (0..pairs).map(|pair| if pair < turning { 1.0 } else { STILL }).collect();
    Ok(vec![("rope_freqs.weight", factors)])
}
