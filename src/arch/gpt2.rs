//! GPT-2.

use kquant_formats::gguf::Value;

use crate::checkpoint::Checkpoint;
use crate::plan::MappedTensor;

use super::Architecture;
use super::config::Config;
use super::error::ArchError;
use super::keys::Keys;
use super::mapping::{Dim::*, Entry, Sizes, Table};

/// The family.
pub(super) struct Gpt2;

const NAME: &str = "gpt2";

static TABLE: Table = Table {
    family: NAME,
    prefix: "transformer.",
    // The causal mask, which early checkpoints carry.
    ignored: &[".attn.bias", ".attn.masked_bias"],
    entries: &[
        Entry::new("wte.weight", "token_embd.weight", &[Vocab, Hidden]),
        Entry::new("wpe.weight", "position_embd.weight", &[Positions, Hidden]).always_f32(),
        Entry::new("ln_f.weight", "output_norm.weight", &[Hidden]),
        Entry::new("ln_f.bias", "output_norm.bias", &[Hidden]),
        Entry::new("lm_head.weight", "output.weight", &[Vocab, Hidden]).optional(),
        Entry::new("h.{}.ln_1.weight", "blk.{}.attn_norm.weight", &[Hidden]),
        Entry::new("h.{}.ln_1.bias", "blk.{}.attn_norm.bias", &[Hidden]),
        Entry::new("h.{}.attn.c_attn.weight", "blk.{}.attn_qkv.weight", &[Hidden, Fused]).transposed(),
        Entry::new("h.{}.attn.c_attn.bias", "blk.{}.attn_qkv.bias", &[Fused]),
        Entry::new("h.{}.attn.c_proj.weight", "blk.{}.attn_output.weight", &[Query, Hidden]).transposed(),
        Entry::new("h.{}.attn.c_proj.bias", "blk.{}.attn_output.bias", &[Hidden]),
        Entry::new("h.{}.ln_2.weight", "blk.{}.ffn_norm.weight", &[Hidden]),
        Entry::new("h.{}.ln_2.bias", "blk.{}.ffn_norm.bias", &[Hidden]),
        Entry::new("h.{}.mlp.c_fc.weight", "blk.{}.ffn_up.weight", &[Hidden, FeedForward]).transposed(),
        Entry::new("h.{}.mlp.c_fc.bias", "blk.{}.ffn_up.bias", &[FeedForward]),
        Entry::new("h.{}.mlp.c_proj.weight", "blk.{}.ffn_down.weight", &[FeedForward, Hidden]).transposed(),
        Entry::new("h.{}.mlp.c_proj.bias", "blk.{}.ffn_down.bias", &[Hidden]),
    ],
};

impl Architecture for Gpt2 {
    fn classes(&self) -> &'static [&'static str] {
        &["GPT2LMHeadModel", "GPT2Model"]
    }

    fn model_types(&self) -> &'static [&'static str] {
        &["gpt2"]
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
        keys.number("attention.layer_norm_epsilon", config.number(&["layer_norm_epsilon"])?);
        Ok(keys.into_list())
    }

    fn tensors(&self, config: &Config, checkpoint: &dyn Checkpoint) -> Result<Vec<MappedTensor>, ArchError> {
        TABLE.map(&sizes(config)?, checkpoint)
    }
}

fn sizes(config: &Config) -> Result<Sizes, ArchError> {
    if config.optional_flag("scale_attn_by_inverse_layer_idx")? == Some(true) {
        let what = "attention scaled by layer (`scale_attn_by_inverse_layer_idx` is true) is".to_owned();
        return Err(ArchError::Unsupported { file: config.origin().to_owned(), what, family: NAME });
    }
    let hidden = config.count(&["n_embd"])?;
    let heads = config.count(&["n_head"])?;
    if !hidden.is_multiple_of(heads) {
        return Err(config.unusable("n_embd", "a multiple of `n_head`").into());
    }
    let feed_forward = match config.optional_count(&["n_inner"])? {
        Some(width) => width,
        None => {
            hidden.checked_mul(4).ok_or_else(|| config.unusable("n_embd", "at most a quarter of 2^32"))?
        }
    };
    Ok(Sizes {
        layers: config.count(&["n_layer"])?,
        vocab: config.count(&["vocab_size"])?,
        // The position table's length; the second name is the older one.
        positions: config.count(&["n_positions", "n_ctx"])?,
        hidden,
        feed_forward,
        heads,
        kv_heads: heads,
        head_dim: hidden / heads,
    })
}
