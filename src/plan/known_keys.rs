//! The keys that llama.cpp reads of a model, with the types that it wants: a key of another type stops it from loading the file.
//!
//! Source: llama.cpp's `src/llama-arch.cpp` (`LLM_KV_NAMES`) and `src/llama-hparams.h`.

/// The type of a key's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// 32 bits, unsigned.
    Integer,
    /// 32 bits.
    Number,
    Bool,
    Text,
}

use Kind::{Bool, Integer, Number, Text};

/// Keys of any model.
const GENERAL: &[(&str, Kind)] = &[
    ("general.architecture", Text),
    ("general.type", Text),
    ("general.name", Text),
    ("general.author", Text),
    ("general.version", Text),
    ("general.organization", Text),
    ("general.finetune", Text),
    ("general.basename", Text),
    ("general.size_label", Text),
    ("general.description", Text),
    ("general.license", Text),
    ("general.license.name", Text),
    ("general.license.link", Text),
    ("general.url", Text),
    ("general.doi", Text),
    ("general.uuid", Text),
    ("general.repo_url", Text),
    ("general.source.url", Text),
    ("general.quantized_by", Text),
    ("general.quantization_version", Integer),
    ("general.file_type", Integer),
    ("general.alignment", Integer),
    ("tokenizer.ggml.model", Text),
    ("tokenizer.ggml.pre", Text),
    ("tokenizer.ggml.bos_token_id", Integer),
    ("tokenizer.ggml.eos_token_id", Integer),
    ("tokenizer.ggml.eot_token_id", Integer),
    ("tokenizer.ggml.eom_token_id", Integer),
    ("tokenizer.ggml.unknown_token_id", Integer),
    ("tokenizer.ggml.seperator_token_id", Integer),
    ("tokenizer.ggml.padding_token_id", Integer),
    ("tokenizer.ggml.cls_token_id", Integer),
    ("tokenizer.ggml.mask_token_id", Integer),
    ("tokenizer.ggml.fim_pre_token_id", Integer),
    ("tokenizer.ggml.fim_suf_token_id", Integer),
    ("tokenizer.ggml.fim_mid_token_id", Integer),
    ("tokenizer.ggml.fim_pad_token_id", Integer),
    ("tokenizer.ggml.fim_rep_token_id", Integer),
    ("tokenizer.ggml.fim_sep_token_id", Integer),
    ("tokenizer.ggml.token_type_count", Integer),
    ("tokenizer.ggml.add_bos_token", Bool),
    ("tokenizer.ggml.add_eos_token", Bool),
    ("tokenizer.ggml.add_sep_token", Bool),
    ("tokenizer.ggml.add_space_prefix", Bool),
    ("tokenizer.ggml.remove_extra_whitespaces", Bool),
    ("tokenizer.chat_template", Text),
];

/// Keys of one architecture, after its name and a dot.
const OF_ARCHITECTURE: &[(&str, Kind)] = &[
    ("vocab_size", Integer),
    ("context_length", Integer),
    ("embedding_length", Integer),
    ("block_count", Integer),
    ("leading_dense_block_count", Integer),
    ("feed_forward_length", Integer),
    ("expert_feed_forward_length", Integer),
    ("expert_shared_feed_forward_length", Integer),
    ("use_parallel_residual", Bool),
    ("tensor_data_layout", Text),
    ("expert_count", Integer),
    ("expert_used_count", Integer),
    ("expert_shared_count", Integer),
    ("expert_group_count", Integer),
    ("expert_group_used_count", Integer),
    ("expert_weights_scale", Number),
    ("expert_weights_norm", Bool),
    ("expert_gating_func", Integer),
    ("nextn_predict_layers", Integer),
    ("pooling_type", Integer),
    ("logit_scale", Number),
    ("decoder_start_token_id", Integer),
    ("attn_logit_softcapping", Number),
    ("router_logit_softcapping", Number),
    ("final_logit_softcapping", Number),
    ("residual_scale", Number),
    ("embedding_scale", Number),
    ("attention.head_count", Integer),
    ("attention.head_count_kv", Integer),
    ("attention.max_alibi_bias", Number),
    ("attention.clamp_kqv", Number),
    ("attention.key_length", Integer),
    ("attention.value_length", Integer),
    ("attention.key_length_mla", Integer),
    ("attention.value_length_mla", Integer),
    ("attention.layer_norm_epsilon", Number),
    ("attention.layer_norm_rms_epsilon", Number),
    ("attention.group_norm_epsilon", Number),
    ("attention.group_norm_groups", Integer),
    ("attention.causal", Bool),
    ("attention.q_lora_rank", Integer),
    ("attention.kv_lora_rank", Integer),
    ("attention.relative_buckets_count", Integer),
    ("attention.sliding_window", Integer),
    ("attention.scale", Number),
    ("attention.output_scale", Number),
    ("attention.temperature_length", Integer),
    ("attention.temperature_scale", Number),
    ("rope.dimension_count", Integer),
    ("rope.freq_base", Number),
    ("rope.freq_base_swa", Number),
    ("rope.scale_linear", Number),
    ("rope.scaling.type", Text),
    ("rope.scaling.factor", Number),
    ("rope.scaling.attn_factor", Number),
    ("rope.scaling.original_context_length", Integer),
    ("rope.scaling.finetuned", Bool),
    ("rope.scaling.yarn_log_multiplier", Number),
    ("rope.scaling.yarn_ext_factor", Number),
    ("rope.scaling.yarn_attn_factor", Number),
    ("rope.scaling.yarn_beta_fast", Number),
    ("rope.scaling.yarn_beta_slow", Number),
    ("ssm.conv_kernel", Integer),
    ("ssm.inner_size", Integer),
    ("ssm.state_size", Integer),
    ("ssm.time_step_rank", Integer),
    ("ssm.group_count", Integer),
    ("ssm.dt_b_c_rms", Bool),
];

/// The keys of a model of `architecture`, with their types.
pub(super) fn known_keys(architecture: &str) -> impl Iterator<Item = (String, Kind)> {
    let general = GENERAL.iter().map(|&(key, kind)| (key.to_owned(), kind));
    general.chain(OF_ARCHITECTURE.iter().map(move |&(key, kind)| (format!("{architecture}.{key}"), kind)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::nearest;

    #[test]
    fn the_nearest_name_is_near() {
        let known: Vec<String> = known_keys("qwen2").map(|(key, _)| key).collect();
        let nearest = |key: &str| nearest(key, known.iter().map(String::as_str));
        assert_eq!(nearest("qwen2.rope.freqbase"), Some("qwen2.rope.freq_base"));
        assert_eq!(nearest("llama.context_length"), Some("qwen2.context_length"));
        assert_eq!(nearest("my.own.key"), None);
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<String> = known_keys("x").map(|(key, _)| key).collect();
        names.sort();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
