//! Keys of a configuration that nothing has asked for, which are reported so that none is ignored silently.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json};

/// Keys that do not affect the computation of a text model, or that the vocabulary is read from.
const HARMLESS: &[&str] = &[
    // These keys identify the model and the writer of the file.
    "_commit_hash",
    "_name_or_path",
    "_attn_implementation",
    "_attn_implementation_autoset",
    "architectures",
    "auto_map",
    "dtype",
    "language_model_only",
    "model_type",
    "name_or_path",
    "task_specific_params",
    "torch_dtype",
    "transformers_version",
    "transformers.js_config",
    "unsloth_fixed",
    "unsloth_version",
    "use_cache",
    // These keys are for training.
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_pdrop",
    "aux_loss_alpha",
    "classifier_dropout",
    "embd_pdrop",
    "embedding_dropout",
    "ep_size",
    "gradient_checkpointing",
    "hidden_dropout",
    "hidden_dropout_prob",
    "initializer_cutoff_factor",
    "initializer_factor",
    "initializer_range",
    "mlp_dropout",
    "output_router_logits",
    "pretraining_tp",
    "resid_pdrop",
    "residual_dropout",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "seq_aux",
    "sparse_pred_ignore_index",
    "sparse_prediction",
    // These keys select the precision of sums and the kernels.
    "attention_softmax_in_fp32",
    "cache_implementation",
    "dense_seq_output",
    "deterministic_flash_attn",
    "fused_bias_fc",
    "fused_dropout_add_ln",
    "layer_norm_in_fp32",
    "reorder_and_upcast_attn",
    "scale_attention_softmax_in_fp32",
    "use_flash_attn",
    "use_flash_attn_rotary",
    "use_flash_attn_fused_rms_norm",
    // These keys follow from others, or matter only together with others.
    "_sliding_window_pattern",
    "decoder_start_token_id",
    "head_dim",
    "is_decoder",
    "is_encoder_decoder",
    "layer_types",
    "max_window_layers",
    "mlp_type",
    "n_ctx",
    "norm_type",
    "num_key_value_heads",
    "original_max_position_embeddings",
    "qk_head_dim",
    "quantization_config",
    "scale_attn_weights",
    "sliding_window",
    "sliding_window_pattern",
    "tie_encoder_decoder",
    "tie_word_embeddings",
    "tf_legacy_loss",
    "torchscript",
    "use_sliding_window",
    "vocab_size",
    // These keys list tokens.
    "added_tokens",
    "begin_suppress_tokens",
    "bos_token_id",
    "cls_token_id",
    "eos_token_id",
    "pad_token_id",
    "sep_token_id",
    "suppress_tokens",
    "tokenizer_class",
    "unk_token_id",
    // These keys are for generation and tasks; old versions wrote them into every configuration.
    "bad_words_ids",
    "chunk_size_feed_forward",
    "classifier_activation",
    "classifier_bias",
    "decoder_bias",
    "cross_attention_hidden_size",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "id2label",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_scores",
    "prefix",
    "problem_type",
    "pruned_heads",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
    "use_bfloat16",
    // These keys are of the parts for images and sound, which are left out.
    "audio_config",
    "audio_token_id",
    "audio_token_index",
    "boa_token_id",
    "boa_token_index",
    "eoa_token_id",
    "eoa_token_index",
    "video_token_id",
    "vision_soft_tokens_per_image",
    "boi_token_id",
    "boi_token_index",
    "eoi_token_id",
    "eoi_token_index",
    "image_token_id",
    "image_token_index",
    "mm_tokens_per_image",
    "vision_config",
    // These keys repeat what the tensors show.
    "num_nextn_predict_layers",
    "num_mtp_layers",
    "pad_vocab_size_multiple",
    "qk_head_dim",
];

/// Names of sections whose keys are checked one by one.
const SECTIONS: [&str; 2] = ["rope_parameters", "rope_scaling"];

/// Returns the keys of `values` that are neither in `read` nor harmless and are not null, with the sections that contain
/// them.
pub(in crate::arch) fn keys(values: &Map<String, Json>, read: &BTreeSet<String>) -> Vec<String> {
    let mut out = Vec::new();
    for (key, value) in values {
        match value {
            Json::Object(section) if SECTIONS.contains(&key.as_str()) => {
                within(&format!("{key}."), section, read, &mut out);
            }
            Json::Null => {}
            _ if HARMLESS.contains(&key.as_str()) || read.contains(key) => {}
            _ => out.push(key.clone()),
        }
    }
    out
}

fn within(prefix: &str, section: &Map<String, Json>, read: &BTreeSet<String>, out: &mut Vec<String>) {
    // These are names of the type, of which another one is read, and keys that matter for other types only.
    const HARMLESS: [&str; 4] = ["type", "rope_type", "rope_theta", "original_max_position_embeddings"];
    for (key, value) in section {
        let path = format!("{prefix}{key}");
        match value {
            Json::Object(inner) => within(&format!("{path}."), inner, read, out),
            Json::Null => {}
            _ if HARMLESS.contains(&key.as_str()) || read.contains(&path) => {}
            _ => out.push(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_nothing_read_are_named_with_their_sections() {
        let json = serde_json::json!({ "hidden_size": 4, "use_magic": true, "magic": null, "bos_token_id": 1,
            "rope_scaling": { "rope_type": "linear", "factor": 2, "magic": 1, "full_attention": { "more": 3, "less": null } } });
        let read = BTreeSet::from(["hidden_size", "rope_scaling.factor"].map(str::to_owned));
        let expected = ["use_magic", "rope_scaling.magic", "rope_scaling.full_attention.more"];
        assert_eq!(keys(json.as_object().unwrap(), &read), expected);
    }
}
