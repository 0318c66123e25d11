//! Dimensions and keys that most families' configurations have in common.

use kquant_formats::gguf::{Array, Value};

use super::dims::Sizes;
use super::family::unsupported;
use super::keys::Keys;
use super::rope::{Rope, section};
use crate::arch::config::Config;
use crate::arch::error::ArchError;

const EXPERTS: &[&str] = &["num_local_experts", "num_experts", "n_routed_experts"];

/// Returns the dimensions by their usual names, without experts.
pub(in crate::arch) fn sizes(config: &Config) -> Result<Sizes, ArchError> {
    sizes_around(config, config.count(INNER)?)
}

/// Names of the width inside the feed-forward network.
const INNER: &[&str] = &["intermediate_size"];

/// Returns the dimensions around a feed-forward network of width `feed_forward`, 0 without one.
fn sizes_around(config: &Config, feed_forward: u32) -> Result<Sizes, ArchError> {
    let hidden = config.count(&["hidden_size"])?;
    let heads = config.count(&["num_attention_heads"])?;
    let kv_heads = config.optional_count(&["num_key_value_heads"])?.unwrap_or(heads);
    if !heads.is_multiple_of(kv_heads) {
        return Err(config.unusable("num_key_value_heads", "a divisor of `num_attention_heads`").into());
    }
    let head_dim = match config.optional_count(&["head_dim"])? {
        Some(width) if width.is_multiple_of(2) => width,
        Some(_) => {
            return Err(config.unusable("head_dim", "an even number: rotary positions turn pairs").into());
        }
        None if hidden.is_multiple_of(heads) && (hidden / heads).is_multiple_of(2) => hidden / heads,
        None => {
            return Err(config.unusable("hidden_size", "an even multiple of `num_attention_heads`").into());
        }
    };
    let layers = config.count(&["num_hidden_layers"])?;
    Ok(Sizes {
        layers,
        vocab: config.count(&["vocab_size"])?,
        // The second name is from the first conversions of Llama.
        positions: config.count(&["max_position_embeddings", "max_sequence_length"])?,
        hidden,
        feed_forward,
        heads,
        kv_heads,
        head_dim,
        rotary: rotary(config, head_dim)?,
        dense_layers: layers,
        ..Sizes::default()
    })
}

/// Returns the dimensions with experts in every layer; `width` lists the names of their inner width.
pub(in crate::arch) fn sizes_with_experts(config: &Config, width: &[&str]) -> Result<Sizes, ArchError> {
    Ok(Sizes {
        experts: config.count(EXPERTS)?,
        experts_used: config.count(&["num_experts_per_tok"])?,
        expert_feed_forward: config.count(width)?,
        dense_layers: 0,
        // Models whose layers all have experts may lack it.
        ..sizes_around(config, config.optional_count(INNER)?.unwrap_or(0))?
    })
}

/// Returns the dimensions of a model of family `name` with shared experts, by DeepSeek's names: the first layers are dense.
pub(in crate::arch) fn sizes_with_shared_experts(
    config: &Config,
    name: &'static str,
) -> Result<Sizes, ArchError> {
    let width = config.count(&["moe_intermediate_size"])?;
    let groups = config.optional_count(&["n_group"])?.unwrap_or(1);
    if config.optional_text(&["topk_method"])? == Some("greedy") && groups > 1 {
        let what =
            format!("experts chosen from all of {groups} groups (`topk_method` is greedy, `n_group`) are");
        return Err(unsupported(config, name, what));
    }
    Ok(Sizes {
        shared_feed_forward: width.saturating_mul(shared_experts(config)?),
        dense_layers: config.optional_integer(&["first_k_dense_replace"])?.map_or(0, |n| n.max(0) as u32),
        ..sizes_with_experts(config, &["moe_intermediate_size"])?
    })
}

/// What llama.cpp computes otherwise where models have a fixed epsilon in norms of narrow vectors.
pub(in crate::arch) const NARROW_EPSILON: &str = "the norms of the narrow vectors that queries, keys and values come from add 1e-6 to the variance in the model, and \
     `rms_norm_eps` in llama.cpp";

/// Returns the number of layers after the last that predict further tokens.
pub(in crate::arch) fn further_layers(config: &Config) -> Result<u32, ArchError> {
    Ok(config.optional_integer(&["num_nextn_predict_layers"])?.map_or(0, |n| n.max(0) as u32))
}

/// Returns the number of shared experts.
pub(in crate::arch) fn shared_experts(config: &Config) -> Result<u32, ArchError> {
    Ok(config.optional_count(&["n_shared_experts"])?.unwrap_or(1))
}

/// Returns the configuration with a sigmoid as the function of the router, for families that have no other and whose
/// configurations do not say so in transformers 5.
pub(in crate::arch) fn with_sigmoid(config: &Config) -> Config {
    config.or(serde_json::json!({ "scoring_func": "sigmoid" }))
}

/// Returns the dimensions of a dense model of family `name` whose heads are rotated whole, and refuses others.
pub(in crate::arch) fn plain_sizes(config: &Config, name: &'static str) -> Result<Sizes, ArchError> {
    for key in EXPERTS {
        // Some dense models set the number of experts to 0.
        if let Some(experts) = config.optional_integer(&[key])?.filter(|&n| n != 0) {
            return Err(unsupported(config, name, format!("experts (`{key}` is {experts}) are")));
        }
    }
    let sizes = sizes(config)?;
    whole_heads(config, name, &sizes)?;
    Ok(sizes)
}

/// Refuses heads of which RoPE rotates only a part.
pub(in crate::arch) fn whole_heads(
    config: &Config,
    name: &'static str,
    sizes: &Sizes,
) -> Result<(), ArchError> {
    if sizes.rotary == sizes.head_dim {
        return Ok(());
    }
    let part = partial(config)?.unwrap_or(1.0);
    let what = format!("rotary positions on a part of the head (`partial_rotary_factor` is {part}) are");
    Err(unsupported(config, name, what))
}

/// Returns the part of a head that RoPE rotates, if the configuration gives it.
pub(in crate::arch) fn partial(config: &Config) -> Result<Option<f32>, ArchError> {
    const NAMES: &[&str] = &["partial_rotary_factor", "rotary_pct", "rope_pct"];
    if let Some(part) = config.optional_number(NAMES)? {
        return Ok(Some(part));
    }
    let rope = section(config)?;
    Ok(rope.map(|rope| rope.optional_number(NAMES)).transpose()?.flatten())
}

fn rotary(config: &Config, head_dim: u32) -> Result<u32, ArchError> {
    let part = partial(config)?.unwrap_or(1.0);
    let turned = (f64::from(part) * f64::from(head_dim)) as u32;
    if !(0.0..=1.0).contains(&part) || turned == 0 || !turned.is_multiple_of(2) {
        return Err(config
            .unusable("partial_rotary_factor", "a part of the head that is an even number")
            .into());
    }
    Ok(turned)
}

/// Adds the keys that the dimensions of an encoder's layers give.
pub(in crate::arch) fn sizes_of_layers(keys: &mut Keys, sizes: &Sizes) {
    keys.count("block_count", sizes.layers);
    keys.count("context_length", sizes.positions);
    keys.count("embedding_length", sizes.hidden);
    keys.count("feed_forward_length", sizes.feed_forward);
    keys.count("attention.head_count", sizes.heads);
}

/// Returns the keys in the order in which the converter writes them for most families.
pub(in crate::arch) fn keys(name: &'static str, config: &Config, sizes: &Sizes) -> Result<Keys, ArchError> {
    let mut keys = Keys::new(name);
    keys.count("block_count", sizes.layers);
    keys.count("context_length", sizes.positions);
    keys.count("embedding_length", sizes.hidden);
    if sizes.feed_forward > 0 {
        keys.count("feed_forward_length", sizes.feed_forward);
    }
    keys.count("attention.head_count", sizes.heads);
    keys.count("attention.head_count_kv", sizes.kv_heads);
    if config.optional_flag("is_causal")? == Some(false) {
        keys.add("attention.causal", Value::Bool(false));
    }
    Rope::read(config, sizes.positions)?.write(&mut keys, sizes.latent.rank > 0);
    epsilon(config, &mut keys)?;
    if sizes.experts > 0 {
        keys.count("expert_count", sizes.experts);
        keys.count("expert_used_count", sizes.experts_used);
        if let Some(groups) = config.optional_count(&["n_group"])? {
            keys.count("expert_group_count", groups);
        }
        if let Some(used) = config.optional_count(&["topk_group"])? {
            keys.count("expert_group_used_count", used);
        }
        if let Some(scores) = config.optional_text(&["scoring_func"])? {
            let id = match scores {
                "softmax" => 1,
                "sigmoid" => 2,
                _ => return Err(config.unusable("scoring_func", "softmax or sigmoid").into()),
            };
            keys.count("expert_gating_func", id);
        }
    }
    if config.optional_count(&["head_dim"])?.is_some() {
        head_widths(&mut keys, sizes);
    }
    Ok(keys)
}

/// Adds the key of the width of a head.
pub(in crate::arch) fn head_widths(keys: &mut Keys, sizes: &Sizes) {
    keys.count("attention.key_length", sizes.head_dim);
    keys.count("attention.value_length", sizes.head_dim);
}

/// Replaces the number of key-value heads by a list with that of each layer, 0 in those without attention.
pub(in crate::arch) fn heads_by_layer(keys: &mut Keys, sizes: &Sizes) {
    let lacks = |layer| sizes.recurrent.has(layer) || sizes.alone.has(layer);
    by_layer(keys, "attention.head_count_kv", sizes, |layer| if lacks(layer) { 0 } else { sizes.kv_heads });
}

/// Sets the key `name` to a list with the number that `of` gives of each layer.
pub(in crate::arch) fn by_layer(keys: &mut Keys, name: &str, sizes: &Sizes, of: impl Fn(u32) -> u32) {
    let list = (0..sizes.layers).map(|layer| i32::try_from(of(layer)).unwrap_or(i32::MAX)).collect();
    keys.add(name, Value::Array(Array::I32(list)));
}

/// Adds the epsilon of the norms, under the name of their kind.
pub(in crate::arch) fn epsilon(config: &Config, keys: &mut Keys) -> Result<(), ArchError> {
    let mean_square = config.optional_number(&["rms_norm_eps", "norm_eps"])?;
    if let Some(epsilon) = mean_square {
        keys.number("attention.layer_norm_rms_epsilon", epsilon);
        return Ok(());
    }
    match config.optional_number(&["layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"])? {
        Some(epsilon) => keys.number("attention.layer_norm_epsilon", epsilon),
        None => return Err(config.missing(&["rms_norm_eps", "layer_norm_eps"]).into()),
    }
    Ok(())
}

/// Refuses windows in other layers than those of `pattern`, which readers of the file assume: all layers but the last of
/// each so many.
pub(in crate::arch) fn window_pattern(
    config: &Config,
    name: &'static str,
    pattern: usize,
) -> Result<(), ArchError> {
    let Some(kinds) = config.optional_texts("layer_types")? else { return Ok(()) };
    let expected = |layer: usize| {
        if (layer + 1).is_multiple_of(pattern) { "full_attention" } else { "sliding_attention" }
    };
    match kinds.iter().enumerate().find(|&(layer, kind)| *kind != expected(layer)) {
        None => Ok(()),
        Some((layer, kind)) => {
            let what = format!(
                "{kind} in layer {layer} (`layer_types`), which is {} in others of the family, is",
                expected(layer)
            );
            Err(unsupported(config, name, what))
        }
    }
}
