//! Llama 1 to 3, Code Llama, Mistral and what else has their graph.

use kquant_formats::gguf::Value;

use crate::checkpoint::Checkpoint;
use crate::plan::{Keep, MappedTensor, Source};

use super::Architecture;
use super::config::Config;
use super::error::ArchError;
use super::keys::Keys;
use super::mapping::{Dim::*, Entry, Heads, Sizes, Table};
use super::rope::Rope;

/// The family.
pub(super) struct Llama;

const NAME: &str = "llama";

static TABLE: Table = Table {
    family: NAME,
    prefix: "model.",
    ignored: &[".rotary_emb.inv_freq", ".attention.masked_bias", ".attention.bias"],
    entries: &[
        Entry::new("embed_tokens.weight", "token_embd.weight", &[Vocab, Hidden]),
        Entry::new("norm.weight", "output_norm.weight", &[Hidden]),
        // Absent where the embedding serves as output too.
        Entry::new("lm_head.weight", "output.weight", &[Vocab, Hidden]).optional(),
        Entry::new("layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight", &[Hidden]),
        Entry::new("layers.{}.self_attn.q_proj.weight", "blk.{}.attn_q.weight", &[Query, Hidden])
            .rotary(Heads::Query),
        Entry::new("layers.{}.self_attn.k_proj.weight", "blk.{}.attn_k.weight", &[KeyValue, Hidden])
            .rotary(Heads::KeyValue),
        Entry::new("layers.{}.self_attn.v_proj.weight", "blk.{}.attn_v.weight", &[KeyValue, Hidden]),
        Entry::new("layers.{}.self_attn.o_proj.weight", "blk.{}.attn_output.weight", &[Hidden, Query]),
        Entry::new("layers.{}.self_attn.q_proj.bias", "blk.{}.attn_q.bias", &[Query])
            .rotary(Heads::Query)
            .optional(),
        Entry::new("layers.{}.self_attn.k_proj.bias", "blk.{}.attn_k.bias", &[KeyValue])
            .rotary(Heads::KeyValue)
            .optional(),
        Entry::new("layers.{}.self_attn.v_proj.bias", "blk.{}.attn_v.bias", &[KeyValue]).optional(),
        Entry::new("layers.{}.self_attn.o_proj.bias", "blk.{}.attn_output.bias", &[Hidden]).optional(),
        Entry::new("layers.{}.post_attention_layernorm.weight", "blk.{}.ffn_norm.weight", &[Hidden]),
        Entry::new("layers.{}.mlp.gate_proj.weight", "blk.{}.ffn_gate.weight", &[FeedForward, Hidden]),
        Entry::new("layers.{}.mlp.up_proj.weight", "blk.{}.ffn_up.weight", &[FeedForward, Hidden]),
        Entry::new("layers.{}.mlp.down_proj.weight", "blk.{}.ffn_down.weight", &[Hidden, FeedForward]),
        Entry::new("layers.{}.mlp.gate_proj.bias", "blk.{}.ffn_gate.bias", &[FeedForward]).optional(),
        Entry::new("layers.{}.mlp.up_proj.bias", "blk.{}.ffn_up.bias", &[FeedForward]).optional(),
        Entry::new("layers.{}.mlp.down_proj.bias", "blk.{}.ffn_down.bias", &[Hidden]).optional(),
    ],
};

impl Architecture for Llama {
    fn classes(&self) -> &'static [&'static str] {
        &[
            "LlamaForCausalLM",
            "LLaMAForCausalLM",
            "LlamaModel",
            "MistralForCausalLM",
            "IQuestCoderForCausalLM",
        ]
    }

    fn model_types(&self) -> &'static [&'static str] {
        &["llama", "mistral"]
    }

    fn gguf_name(&self) -> &'static str {
        NAME
    }

    fn keys(&self, config: &Config) -> Result<Vec<(String, Value)>, ArchError> {
        let sizes = sizes(config)?;
        let mut keys = Keys::new(NAME);
        keys.count("block_count", sizes.layers);
        keys.count("context_length", sizes.positions);
        keys.count("embedding_length", sizes.hidden);
        keys.count("feed_forward_length", sizes.feed_forward);
        keys.count("attention.head_count", sizes.heads);
        keys.count("attention.head_count_kv", sizes.kv_heads);
        if config.optional_flag("is_causal")? == Some(false) {
            keys.add("attention.causal", Value::Bool(false));
        }
        Rope::read(config, sizes.positions)?.write(&mut keys);
        keys.number("attention.layer_norm_rms_epsilon", config.number(&["rms_norm_eps"])?);
        keys.count("attention.key_length", sizes.head_dim);
        keys.count("attention.value_length", sizes.head_dim);
        keys.count("vocab_size", sizes.vocab);
        keys.count("rope.dimension_count", sizes.head_dim);
        Ok(keys.into_list())
    }

    fn tensors(&self, config: &Config, checkpoint: &dyn Checkpoint) -> Result<Vec<MappedTensor>, ArchError> {
        let sizes = sizes(config)?;
        let mut tensors = TABLE.map(&sizes, checkpoint)?;
        if let Some(factors) = Rope::read(config, sizes.positions)?.factors(sizes.head_dim) {
            tensors.insert(0, rope_freqs(factors));
        }
        Ok(tensors)
    }
}

fn rope_freqs(factors: Vec<f32>) -> MappedTensor {
    MappedTensor {
        name: "rope_freqs.weight".to_owned(),
        shape: vec![factors.len() as u64],
        source: Source::Values(factors),
        keep: Keep::F32,
    }
}

fn sizes(config: &Config) -> Result<Sizes, ArchError> {
    reject(config)?;
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
    Ok(Sizes {
        layers: config.count(&["num_hidden_layers"])?,
        vocab: config.count(&["vocab_size"])?,
        // The second name is that of the first Llama conversions.
        positions: config.count(&["max_position_embeddings", "max_sequence_length"])?,
        hidden,
        feed_forward: config.count(&["intermediate_size"])?,
        heads,
        kv_heads,
        head_dim,
    })
}

/// What a configuration of these classes may ask for and the table does not do.
fn reject(config: &Config) -> Result<(), ArchError> {
    let unsupported =
        |what: String| ArchError::Unsupported { file: config.origin().to_owned(), what, family: NAME };
    for key in ["num_local_experts", "num_experts"] {
        // Some dense models write 0.
        if let Some(experts) = config.optional_integer(&[key])?.filter(|&n| n != 0) {
            return Err(unsupported(format!("experts (`{key}` is {experts}) are")));
        }
    }
    if let Some(part) = config.optional_number(&["partial_rotary_factor"])?.filter(|&part| part != 1.0) {
        return Err(unsupported(format!(
            "rotary positions on a part of the head (`partial_rotary_factor` is {part}) are"
        )));
    }
    Ok(())
}
