//! YaRN's multiplier of cosines and sines, in transformers' spellings; the perplexities are transformers'.

use std::path::Path;

use kquant::arch;
use kquant_formats::gguf::Value;
use serde_json::{Value as Json, json};

use super::{assert_near, changed, perplexity};
use crate::arch::config_with;
use crate::support::{Scratch, ok, quantize};

/// Of the same weights without YaRN.
const PLAIN: f64 = 36.58;

/// YaRN by a factor of 8 from 64 tokens, with more of it.
fn yarn(more: Json) -> Json {
    let mut section = json!({ "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64 });
    section.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "rope_scaling": section })
}

/// Perplexities of the folder and of its GGUF, which must be the same.
fn scored(changes: &Json) -> f64 {
    let scratch = Scratch::new("yarn");
    let folder = changed(&scratch, changes);
    let gguf = scratch.path("model.gguf");
    ok(quantize(&folder, &gguf, "F32", &[]));
    let score = |model: &Path| perplexity(&scratch, model);
    let found = score(&folder);
    assert_eq!(found, score(&gguf), "{changes}");
    found
}

#[test]
fn an_attention_factor_replaces_the_multiplier() {
    assert_near(scored(&json!({})), PLAIN, "no YaRN");
    for (more, expected) in [
        (json!({}), 47.42),
        (json!({ "attention_factor": null }), 47.42),
        (json!({ "attention_factor": 1.0 }), 44.56),
        (json!({ "attention_factor": 1.6 }), 61.26),
        // transformers ignores the name of the first implementation.
        (json!({ "attn_factor": 1.6 }), 47.42),
    ] {
        assert_near(scored(&yarn(more.clone())), expected, more);
    }
}

#[test]
fn two_scales_make_the_multiplier_together() {
    for (more, expected) in [
        (json!({ "mscale": 1.0, "mscale_all_dim": 1.0 }), 44.56),
        (json!({ "mscale": 0.707, "mscale_all_dim": 0.707 }), 44.56),
        // One alone says nothing.
        (json!({ "mscale": 0.5 }), 47.42),
        (json!({ "mscale_all_dim": 0.5 }), 47.42),
        (json!({ "mscale": 1.0, "mscale_all_dim": 0.0 }), 47.42),
        (json!({ "mscale": 1.0, "mscale_all_dim": 1.0, "attention_factor": 1.6 }), 61.26),
    ] {
        assert_near(scored(&yarn(more.clone())), expected, more);
    }
}

#[test]
fn every_layout_says_the_same() {
    let flat = json!({ "type": "yarn", "factor": 8.0, "attention_factor": 1.0 });
    for changes in [
        json!({ "rope_scaling": flat, "original_max_position_embeddings": 64 }),
        json!({ "rope_theta": null, "rope_parameters": { "rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0,
            "original_max_position_embeddings": 64, "attention_factor": 1.0 } }),
        // The one beside the section takes precedence, as in transformers.
        json!({ "original_max_position_embeddings": 64, "rope_scaling": { "rope_type": "yarn", "factor": 8.0,
            "original_max_position_embeddings": 32, "attention_factor": 1.0 } }),
        json!({ "rope_parameters": { "rope_type": "default" }, "rope_scaling": { "rope_type": "yarn", "factor": 8.0,
            "original_max_position_embeddings": 64, "attention_factor": 1.0 } }),
        // The quotient of the contexts.
        json!({ "max_position_embeddings": 512, "rope_scaling": { "rope_type": "yarn", "factor": null,
            "original_max_position_embeddings": 64, "attention_factor": 1.0 } }),
    ] {
        assert_near(scored(&changes), 44.56, changes);
    }
}

/// The keys of `model` with `changes`, those about scaling.
fn keys(model: &str, changes: Json) -> Vec<(String, Value)> {
    let config = config_with(model, changes);
    let keys = arch::find(&config).unwrap().keys(&config).unwrap();
    keys.into_iter().filter(|(key, _)| key.contains("rope.scaling")).collect()
}

fn number(keys: &[(String, Value)], name: &str) -> Option<f32> {
    keys.iter().find(|(key, _)| key.ends_with(name)).map(|(_, value)| match value {
        Value::F32(number) => *number,
        other => panic!("{name} is {other:?}"),
    })
}

/// llama.cpp's graphs of all families read type, factor and original context.
#[test]
fn families_that_write_few_keys_write_scaling() {
    for model in [
        "llama",
        "mistral",
        "mixtral",
        "olmo2",
        "granite",
        "gpt_neox",
        "stablelm2",
        "phi3",
        "gemma2",
        "gpt_oss",
        "../archs-without-weights/phi",
        "../archs-without-weights/gemma",
        "../archs-without-weights/gemma3",
        "../archs-without-weights/qwen2",
        "../archs-without-weights/qwen3",
        "../archs-without-weights/qwen3_moe",
        "../archs-without-weights/smollm3",
        "../archs-without-weights/starcoder2",
    ] {
        let linear = keys(model, json!({ "rope_scaling": { "rope_type": "linear", "factor": 4.0 } }));
        assert_eq!(number(&linear, "scaling.factor"), Some(4.0), "{model}: {linear:?}");
        let truncate = model != "gpt_oss";
        let mut yarn = yarn(json!({ "truncate": truncate }));
        // Phi 3's is beside the section.
        yarn["original_max_position_embeddings"] = json!(64);
        let usual = keys(model, yarn.clone());
        assert_eq!(number(&usual, "scaling.factor"), Some(8.0), "{model}: {usual:?}");
        assert!(
            usual
                .iter()
                .any(|(key, value)| key.ends_with("original_context_length") && *value == Value::U32(64))
        );
        assert_eq!(number(&usual, "scaling.attn_factor"), None, "{model}: {usual:?}");
    }
}

/// DeepSeek's graph multiplies scores by the square of the length and of `1 + log ln(factor)`.
#[test]
fn deepseek_gets_length_and_scale_of_scores() {
    let log = 8f64.ln();
    let of = |scale: f64| 0.1 * scale * log + 1.0;
    for (mscale, all, length, root) in [
        (json!(1.0), json!(1.0), 1.0, of(1.0)),
        (json!(0.707), json!(0.707), 1.0, of(0.707)),
        (json!(1.0), json!(0.5), of(1.0) / of(0.5), of(0.5)),
        (json!(null), json!(null), of(1.0), 1.0),
        (json!(null), json!(1.0), of(1.0), of(1.0)),
    ] {
        let keys = keys("deepseek_v3", yarn(json!({ "mscale": mscale, "mscale_all_dim": all })));
        let attention = f64::from(number(&keys, "scaling.attn_factor").unwrap_or(1.0));
        let multiplier = number(&keys, "yarn_log_multiplier").map(f64::from);
        // As llama.cpp has it.
        let turned = attention * if multiplier.is_some() { 1.0 } else { of(1.0) };
        let scores = turned * (1.0 + multiplier.unwrap_or(0.0) * log);
        assert!((turned - length).abs() < 1e-6 && (scores - root).abs() < 1e-6, "{mscale} {all}: {keys:?}");
    }
}

#[test]
fn longrope_takes_an_attention_factor_and_a_factor() {
    let eights = json!([1, 1, 1, 1, 1, 1, 1, 1]);
    let long = |more: Json| {
        let mut section = json!({ "rope_type": "longrope", "long_factor": eights, "short_factor": eights });
        section.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let changes = json!({ "rope_scaling": section, "max_position_embeddings": 131072,
            "original_max_position_embeddings": 4096 });
        number(&keys("phi3", changes), "scaling.attn_factor").unwrap()
    };
    assert_eq!(long(json!({ "attention_factor": 1.25 })), 1.25);
    assert_eq!(long(json!({ "factor": 32.0 })), 1.190_238_1);
    assert_eq!(long(json!({ "factor": 4.0 })), 1.080_123_4);
    assert_eq!(long(json!({ "factor": 0.5 })), 1.0);
}
