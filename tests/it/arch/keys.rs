//! Keys beyond those that the converter's files show.

use kquant::arch;
use kquant_formats::gguf::Value;
use serde_json::{Value as Json, json};

use crate::arch::{config_with, load};

/// The llama keys of the small model with changes, those that it has without them left out.
fn added(changes: Json) -> Vec<(String, Value)> {
    let keys = |changes: Json| {
        let config = config_with("llama", changes);
        arch::find(&config).unwrap().keys(&config).unwrap()
    };
    let plain = keys(json!({}));
    keys(changes).into_iter().filter(|key| !plain.contains(key)).collect()
}

#[test]
fn linear_rope_scaling_in_all_its_spellings() {
    let expected = vec![
        ("llama.rope.scaling.type".to_owned(), Value::from("linear")),
        ("llama.rope.scaling.factor".to_owned(), Value::F32(4.0)),
    ];
    for changes in [
        json!({ "rope_scaling": { "type": "linear", "factor": 4.0 } }),
        json!({ "rope_scaling": { "rope_type": "linear", "factor": 4 } }),
        json!({ "rope_theta": null, "rope_parameters": { "rope_type": "linear", "factor": 4.0, "rope_theta": 10000 } }),
    ] {
        assert_eq!(added(changes.clone()), expected, "{changes}");
    }
}

#[test]
fn yarn_rope_scaling() {
    let scaling = json!({ "rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 32,
        "beta_fast": 32.0, "beta_slow": 1.0, "attention_factor": 0.5 });
    let keys = added(json!({ "rope_scaling": scaling }));
    let expected = [
        ("llama.rope.scaling.type", Value::from("yarn")),
        ("llama.rope.scaling.factor", Value::F32(16.0)),
        ("llama.rope.scaling.original_context_length", Value::U32(32)),
        ("llama.rope.scaling.yarn_beta_fast", Value::F32(32.0)),
        ("llama.rope.scaling.yarn_beta_slow", Value::F32(1.0)),
        // 0.5 / (0.1 ln 16 + 1)
        ("llama.rope.scaling.attn_factor", Value::F32(0.391_463_3)),
    ];
    assert_eq!(keys, expected.map(|(key, value)| (key.to_owned(), value)));
}

#[test]
fn values_that_early_checkpoints_leave_out() {
    // Llama 1 and Code Llama: no head_dim, no key-value heads, no base, the context under another name.
    let keys = added(json!({ "head_dim": null, "num_key_value_heads": null, "rope_theta": null,
        "max_position_embeddings": null, "max_sequence_length": 2048 }));
    let expected =
        [("llama.context_length", Value::U32(2048)), ("llama.attention.head_count_kv", Value::U32(4))];
    assert_eq!(keys, expected.map(|(key, value)| (key.to_owned(), value)));
    assert_eq!(
        added(json!({ "rope_theta": 1000000 })),
        [("llama.rope.freq_base".to_owned(), Value::F32(1e6))],
        "a whole number will do"
    );
}

/// Keys of a small model with changes.
fn keys_with(model: &str, changes: Json) -> Vec<(String, Value)> {
    let config = config_with(model, changes);
    arch::find(&config).unwrap().keys(&config).unwrap()
}

#[test]
fn long_contexts_of_phi3() {
    let scaling = json!({ "type": "longrope", "long_factor": [1, 2, 3, 4, 5, 6, 7, 8.5], "short_factor": [1, 1, 1, 1, 1, 1, 1, 1.5] });
    let changes = json!({ "rope_scaling": scaling, "max_position_embeddings": 131072, "original_max_position_embeddings": 4096 });
    let keys = keys_with("phi3", changes.clone());
    assert!(keys.contains(&("phi3.rope.scaling.original_context_length".to_owned(), Value::U32(4096))));
    // sqrt(1 + ln 32 / ln 4096)
    assert!(
        keys.contains(&("phi3.rope.scaling.attn_factor".to_owned(), Value::F32(1.190_238_1))),
        "{keys:?}"
    );
    let config = config_with("phi3", changes);
    let tensors = arch::find(&config).unwrap().tensors(&config, &load("phi3")).unwrap();
    let names: Vec<&str> = tensors[..2].iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["rope_factors_long.weight", "rope_factors_short.weight"]);
    assert_eq!(load("phi3").values_of(&tensors[0])[7], 8.5);
}

#[test]
fn scores_and_scaling_of_deepseek() {
    let scaling = json!({ "type": "yarn", "factor": 40, "original_max_position_embeddings": 4096, "mscale": 1.0, "mscale_all_dim": 1.0 });
    let keys = keys_with(
        "deepseek_v3",
        json!({ "scoring_func": "sigmoid", "rope_scaling": scaling, "head_dim": null }),
    );
    for (key, value) in [
        ("expert_gating_func", Value::U32(2)),
        ("rope.scaling.yarn_log_multiplier", Value::F32(0.1)),
        ("attention.key_length", Value::U32(48)),
        ("attention.head_count_kv", Value::U32(1)),
    ] {
        assert!(keys.contains(&(format!("deepseek2.{key}"), value.clone())), "{key}: {keys:?}");
    }
    let light =
        keys_with("deepseek_v3", json!({ "q_lora_rank": null, "norm_topk_prob": false, "n_group": 1 }));
    assert!(!light.iter().any(|(key, _)| key.contains("q_lora_rank") || key.contains("weights_norm")));
}

#[test]
fn bases_that_readers_would_not_guess() {
    for (model, name) in [("gpt_neox", "gptneox"), ("../archs-without-weights/phi", "phi2")] {
        let base =
            |keys: Vec<(String, Value)>| keys.into_iter().find(|(key, _)| key.ends_with("rope.freq_base"));
        assert_eq!(base(keys_with(model, json!({}))), None);
        let changed = keys_with(model, json!({ "rope_theta": 500000.0 }));
        assert_eq!(base(changed), Some((format!("{name}.rope.freq_base"), Value::F32(500000.0))));
    }
}

#[test]
fn gpt2_inner_width_and_context() {
    let config = config_with("gpt2", json!({ "n_inner": 96, "n_positions": null, "n_ctx": 77 }));
    let keys = arch::find(&config).unwrap().keys(&config).unwrap();
    assert!(keys.contains(&("gpt2.feed_forward_length".to_owned(), Value::U32(96))));
    assert!(keys.contains(&("gpt2.context_length".to_owned(), Value::U32(77))));
}

#[test]
fn model_type_stands_in_for_a_missing_class() {
    for (model, family) in [("llama", "llama"), ("mistral", "llama"), ("gpt2", "gpt2")] {
        for none in [json!(null), json!([])] {
            let config = config_with(model, json!({ "architectures": none }));
            assert_eq!(arch::find(&config).unwrap().gguf_name(), family);
        }
    }
}

#[test]
fn sampling_recommendations_and_the_published_name() {
    let config = config_with("llama", json!({ "_name_or_path": "some-org/Nice-Model-152K-Instruct-v0.2" }));
    let generation = arch::Config::parse(
        "generation_config.json",
        r#"{"temperature": 0.6, "top_k": 50.0, "top_p": 1, "repetition_penalty": 1.1, "min_p": null, "do_sample": true}"#,
    )
    .unwrap();
    let family = arch::find(&config).unwrap();
    let tensors = family.tensors(&config, &load("llama")).unwrap();
    let around =
        arch::Surroundings { folder: "snapshot", generation: Some(&generation), ..Default::default() };
    let metadata = arch::metadata(family, &config, &around, &tensors).unwrap();
    let general: Vec<_> = metadata.iter().filter(|(key, _)| key.starts_with("general.")).collect();
    let expected = [
        ("general.architecture", Value::from("llama")),
        ("general.type", "model".into()),
        ("general.sampling.top_k", Value::I32(50)),
        ("general.sampling.top_p", Value::F32(1.0)),
        ("general.sampling.temp", Value::F32(0.6)),
        ("general.sampling.penalty_repeat", Value::F32(1.1)),
        ("general.name", "Nice Model 152K Instruct v0.2".into()),
        ("general.version", "v0.2".into()),
        ("general.organization", "Some Org".into()),
        ("general.finetune", "Instruct".into()),
        ("general.basename", "Nice-Model".into()),
        ("general.size_label", "152K".into()),
    ];
    assert_eq!(general, expected.iter().map(|(key, value)| (*key, value)).collect::<Vec<_>>());
}
