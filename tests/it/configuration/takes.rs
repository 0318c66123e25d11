//! Values that change the computation: taken, refused, or said.

use kquant::arch;
use serde_json::{Value as Json, json};

use super::{assert_near, changed, perplexity};
use crate::arch::{config_with, load};
use crate::support::{Scratch, ok, quantize, refused, stderr};

/// What stands on standard error of a conversion of the small Llama with `changes`.
fn said(changes: &Json) -> String {
    let scratch = Scratch::new("takes");
    let folder = changed(&scratch, changes);
    let output = quantize(&folder, &scratch.path("model.gguf"), "Q8_0", &[]);
    let text = stderr(&output);
    ok(output);
    text
}

/// Models of the repository, one of each family, with the names that errors give them.
const FAMILIES: [(&str, &str); 19] = [
    ("llama", "llama"),
    ("mistral", "llama"),
    ("mixtral", "llama"),
    ("olmo2", "olmo2"),
    ("granite", "granite"),
    ("gpt_neox", "gptneox"),
    ("stablelm2", "stablelm"),
    ("phi3", "phi3"),
    ("gemma2", "gemma2"),
    ("gpt_oss", "gpt-oss"),
    ("gpt2", "gpt2"),
    ("deepseek_v3", "deepseek2"),
    ("../archs-without-weights/phi", "phi2"),
    ("../archs-without-weights/gemma", "gemma"),
    ("../archs-without-weights/gemma3", "gemma3"),
    ("../archs-without-weights/qwen2", "qwen2"),
    ("../archs-without-weights/qwen3", "qwen3"),
    ("../archs-without-weights/qwen3_moe", "qwen3moe"),
    ("../archs-without-weights/smollm3", "smollm3"),
];

/// The error of the keys of `model` with `changes`, if there is one.
fn error(model: &str, changes: Json) -> Option<String> {
    let config = config_with(model, changes);
    arch::find(&config).and_then(|family| family.keys(&config)).err().map(|e| e.to_string())
}

#[test]
fn activations_that_a_graph_does_not_compute_are_refused() {
    for activation in ["relu", "relu2"] {
        let scratch = Scratch::new("activation");
        let folder = changed(&scratch, &json!({ "hidden_act": activation }));
        let out = scratch.path("model.gguf");
        let output = quantize(&folder, &out, "Q8_0", &[]);
        refused(activation, &output, &format!("(`hidden_act` is {activation})"), &out);
    }
    let families = FAMILIES.iter().chain(&[("../archs-without-weights/starcoder2", "starcoder2")]);
    for (model, name) in families {
        for (key, value) in
            [("hidden_act", "relu"), ("hidden_activation", "quick_gelu"), ("activation_function", "tanh")]
        {
            let message = error(model, json!({ key: value })).unwrap_or_default();
            assert!(message.contains(&format!("(`{key}` is {value})")), "{model}: {message}");
            assert!(message.ends_with(&format!("not yet supported for architecture {name}")), "{message}");
        }
        assert_eq!(error(model, json!({})), None, "{model}");
        assert_eq!(error(model, json!({ "hidden_act": null })), None, "{model}");
    }
    assert_eq!(error("llama", json!({ "hidden_act": "swish" })), None);
    for gelu in ["gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh"] {
        assert_eq!(error("gpt_neox", json!({ "hidden_act": gelu })), None, "{gelu}");
        assert!(error("llama", json!({ "hidden_act": gelu })).is_some(), "{gelu}");
    }
}

#[test]
fn frequency_factors_are_taken_where_a_graph_reads_them() {
    let llama3 = json!({ "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64 });
    let scratch = Scratch::new("llama3");
    let folder = changed(&scratch, &json!({ "rope_scaling": llama3 }));
    let gguf = scratch.path("model.gguf");
    ok(quantize(&folder, &gguf, "F32", &[]));
    assert_near(perplexity(&scratch, &folder), 45.40, "llama");
    assert_near(perplexity(&scratch, &gguf), 45.40, "its GGUF");
    let long = json!({ "rope_type": "longrope", "long_factor": [1.0], "short_factor": [1.0] });
    for (model, name) in FAMILIES {
        // GPT-2 has no rotary positions; the section is named as unknown.
        let found = error(model, json!({ "rope_scaling": llama3 }));
        let takes = matches!(name, "llama" | "granite" | "gpt2");
        assert_eq!(found.is_none(), takes, "{model}: {found:?}");
        assert!(
            takes
                || found.unwrap_or_default().contains("rotary positions scaled by llama3 (`rope_type`) are")
        );
        if !matches!(name, "phi3" | "gpt2") {
            let found = error(model, json!({ "rope_scaling": long })).unwrap_or_default();
            assert!(
                found.contains("rotary positions scaled by longrope (`rope_type`) are"),
                "{model}: {found}"
            );
        }
    }
}

#[test]
fn what_keys_cannot_say_of_yarn_is_refused() {
    let yarn = |more: Json| {
        let mut section =
            json!({ "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64 });
        section.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "rope_scaling": section })
    };
    for (model, more, message) in [
        ("llama", json!({ "beta_fast": 16.0 }), "other ends than 32 turns (`beta_fast` is 16)"),
        ("mistral", json!({ "beta_slow": 2.0 }), "other ends than 1 turns (`beta_slow` is 2)"),
        ("granite", json!({ "truncate": false }), "parts of pairs (`truncate` is false)"),
        ("gpt_oss", json!({ "truncate": true }), "whole pairs (`truncate` is true)"),
        ("../archs-without-weights/gemma3", json!({ "attention_factor": 1.0 }), "a YaRN multiplier of 1"),
        (
            "llama",
            json!({ "attention_factor": -1.0 }),
            "`rope_scaling.attention_factor` is -1.0, expected a positive",
        ),
    ] {
        let found = error(model, yarn(more.clone())).unwrap_or_default();
        assert!(found.contains(message), "{model} {more}: {found}");
    }
    assert_eq!(error("llama", yarn(json!({ "beta_fast": 32, "beta_slow": 1, "truncate": true }))), None);
    let both = json!({ "rope_parameters": { "full_attention": { "rope_type": "default" },
        "sliding_attention": { "rope_type": "linear", "factor": 8.0 } } });
    let found = error("../archs-without-weights/gemma3", both).unwrap_or_default();
    assert!(found.contains("scaled by linear in layers with a window"), "{found}");
}

#[test]
fn values_that_only_one_graph_has() {
    for (model, changes) in [
        ("gpt2", json!({ "scale_attn_weights": false })),
        ("gpt2", json!({ "add_cross_attention": true })),
        ("gpt_oss", json!({ "swiglu_alpha": 1.5 })),
        ("deepseek_v3", json!({ "attention_bias": true })),
        ("deepseek_v3", json!({ "mlp_bias": true })),
        ("deepseek_v3", json!({ "topk_method": "greedy" })),
        ("gemma2", json!({ "use_bidirectional_attention": true })),
        ("gemma2", json!({ "query_pre_attn_scalar": null })),
        ("gemma2", json!({ "attn_logit_softcapping": null })),
        ("gemma2", json!({ "final_logit_softcapping": null })),
        ("../archs-without-weights/gemma", json!({ "use_bidirectional_attention": true })),
        ("../archs-without-weights/gemma3", json!({ "attn_logit_softcapping": 50.0 })),
        ("../archs-without-weights/phi", json!({ "num_key_value_heads": 2 })),
        ("../archs-without-weights/qwen3_moe", json!({ "norm_topk_prob": null })),
    ] {
        let found = error(model, changes.clone()).unwrap_or_default();
        let key = changes.as_object().unwrap().keys().next().unwrap();
        assert!(found.contains(key.as_str()) && found.contains("not yet supported"), "{model}: {found}");
    }
}

#[test]
fn a_window_that_no_key_says_is_applied_to_the_folder_and_warned_of() {
    let mistral =
        json!({ "architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 32 });
    let warning = "all layers of the model see the last 32 tokens only (`sliding_window`)";
    let text = said(&mistral);
    assert!(text.contains(warning) && text.contains("in contexts longer than 32 tokens"), "{text}");
    let scratch = Scratch::new("window");
    let folder = changed(&scratch, &mistral);
    assert_near(perplexity(&scratch, &folder), 37.25, "Mistral with a window");
    let score = |context: &str| {
        let text = crate::support::data("corpora/eval-small.txt");
        let args = ["--chunks", "2", "--quiet", "--context", context, "--text"];
        let paths = [text.to_str().unwrap(), folder.to_str().unwrap()];
        let output = crate::support::kquant(["perplexity"].iter().chain(&args).chain(&paths));
        let text = stderr(&output);
        ok(output);
        text
    };
    assert!(score("64").contains(warning));
    assert!(!score("32").contains("warning"), "no chunk is longer");
    // As long as the context, and none.
    for window in [json!(256), json!(null)] {
        let changes = json!({ "architectures": ["MistralForCausalLM"], "sliding_window": window });
        assert!(!said(&changes).contains("sliding_window"), "{window}");
    }
}

/// Tokens of the limits of `model` with `changes`.
fn limits(model: &str, changes: Json) -> Vec<u32> {
    let config = config_with(model, changes);
    let mapped = arch::find(&config).unwrap().map(&config, &load(model)).unwrap();
    mapped.limits.iter().map(|limit| limit.tokens).collect()
}

#[test]
fn lengths_from_which_on_a_gguf_differs() {
    assert_eq!(limits("mistral", json!({ "sliding_window": 32 })), [32]);
    assert_eq!(limits("mistral", json!({ "max_position_embeddings": 8192 })), [4096]);
    assert_eq!(limits("mixtral", json!({ "sliding_window": 32 })), [32]);
    assert_eq!(limits("phi3", json!({ "sliding_window": 32 })), [32]);
    assert_eq!(limits("llama", json!({ "sliding_window": 32 })), [0; 0], "transformers' Llama has no window");
    assert_eq!(limits("gemma2", json!({})), [0; 0], "the keys say it");
    let dynamic = json!({ "rope_scaling": { "rope_type": "dynamic", "factor": 2.0 } });
    assert_eq!(limits("llama", dynamic), [128]);
}

#[test]
fn biases_and_flags_must_agree() {
    let config = config_with("llama", json!({ "attention_bias": true }));
    let error = arch::find(&config).unwrap().tensors(&config, &load("llama")).unwrap_err().to_string();
    assert!(error.contains("`attention_bias` is true, expected biases in the checkpoint"), "{error}");
    let config = config_with("gpt_neox", json!({ "attention_bias": false }));
    let mapped = arch::find(&config).unwrap().map(&config, &load("gpt_neox")).unwrap();
    assert!(
        mapped.warnings.iter().any(|w| w.starts_with("`attention_bias` is false")),
        "{:?}",
        mapped.warnings
    );
}

#[test]
fn unknown_keys_are_named_once() {
    let text = said(&json!({ "use_magic": true, "magic_scale": 2.0, "attention_dropout": 0.1,
        "rope_scaling": { "rope_type": "yarn", "factor": 2.0, "attn_factor": 1.5 } }));
    let keys = "keys that are not known and count for nothing: `use_magic`, `magic_scale`, `rope_scaling.attn_factor`;";
    assert_eq!(text.matches(keys).count(), 1, "{text}");
    assert!(!said(&json!({})).contains("not known"));
}

/// Configurations as transformers writes them have no key that is not known.
#[test]
fn usual_configurations_have_no_unknown_keys() {
    for (model, _) in FAMILIES.iter().filter(|(model, _)| !model.starts_with("..")) {
        for file in ["config.json", "config-v5.json"] {
            let scratch = Scratch::new("usual");
            let folder = scratch.path("model");
            std::fs::create_dir_all(&folder).unwrap();
            for entry in std::fs::read_dir(crate::support::data("archs").join(model)).unwrap() {
                let path = entry.unwrap().path();
                std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
            }
            std::fs::rename(folder.join(file), folder.join("config.json")).unwrap();
            let output = quantize(&folder, &scratch.path("model.gguf"), "BF16", &[]);
            let text = stderr(&output);
            assert!(output.status.success() && !text.contains("not known"), "{model} {file}: {text}");
        }
    }
}
