//! What cannot be mapped, and what the error says.

use std::fs;
use std::path::Path;

use kquant::arch::{self, ArchError, Config};
use serde_json::{Value as Json, json};

use crate::arch::checkpoint::Memory;
use crate::arch::{config, config_with, load};

/// The error of mapping the model's tensors with a changed checkpoint.
fn tensors_error(model: &str, change: impl FnOnce(&mut Memory)) -> String {
    let mut checkpoint = load(model);
    change(&mut checkpoint);
    let config = config(model);
    arch::find(&config).unwrap().tensors(&config, &checkpoint).unwrap_err().to_string()
}

#[test]
fn tensors_that_do_not_fit() {
    let missing = tensors_error("llama", |c| c.remove("model.layers.1.mlp.up_proj.weight"));
    assert!(missing.ends_with("; missing tensors (1): model.layers.1.mlp.up_proj.weight"), "{missing}");

    let unknown = tensors_error("gpt2", |c| c.push_counting("transformer.h.0.attn.rotary.weight", &[4]));
    assert!(
        unknown.ends_with("; tensors that map to nothing (1): transformer.h.0.attn.rotary.weight"),
        "{unknown}"
    );

    let shape = tensors_error("mistral", |c| c.reshape("model.layers.2.self_attn.o_proj.weight", &[64, 64]));
    assert!(
        shape.ends_with("; tensors of a wrong shape (1): model.layers.2.self_attn.o_proj.weight is [64, 64], expected [64, 192]"),
        "{shape}"
    );

    let twice = tensors_error("llama", |c| c.push_counting("norm.weight", &[64]));
    assert!(twice.ends_with("; tensors present under two names (1): norm.weight"), "{twice}");
}

#[test]
fn layers_that_the_configuration_does_not_have() {
    let beyond = tensors_error("llama", |c| c.push_counting("model.layers.3.input_layernorm.weight", &[64]));
    assert!(beyond.contains("map to nothing (1): model.layers.3.input_layernorm.weight"), "{beyond}");
    let padded = tensors_error("llama", |c| c.push_counting("model.layers.00.input_layernorm.weight", &[64]));
    assert!(padded.contains("map to nothing (1): model.layers.00.input_layernorm.weight"), "{padded}");
    let literal =
        tensors_error("llama", |c| c.push_counting("model.layers.{}.input_layernorm.weight", &[64]));
    assert!(literal.contains("map to nothing (1): model.layers.{}.input_layernorm.weight"), "{literal}");
}

#[test]
fn a_bias_in_some_layers_only() {
    let some = tensors_error("llama", |c| c.push_counting("model.layers.1.self_attn.v_proj.bias", &[32]));
    let names = "model.layers.0.self_attn.v_proj.bias, model.layers.2.self_attn.v_proj.bias";
    assert!(some.ends_with(&format!("; missing tensors (2): {names}")), "{some}");
}

#[test]
fn an_empty_checkpoint_and_absurd_sizes() {
    let config = config_with(
        "llama",
        json!({ "num_hidden_layers": u32::MAX, "vocab_size": u32::MAX,
        "num_attention_heads": 4, "head_dim": 4294967294u32 }),
    );
    let family = arch::find(&config).unwrap();
    for checkpoint in [Memory::default(), load("llama")] {
        let error = family.tensors(&config, &checkpoint).unwrap_err();
        let ArchError::Mismatch(mismatch) = error else { panic!("{error}") };
        assert!(!mismatch.missing.is_empty());
    }
}

#[test]
fn long_lists_are_cut() {
    let error = tensors_error("llama", |c| c.rename(|name| format!("vision.{name}")));
    assert!(
        error.contains("map to nothing (30): ") && error.contains(" and 22 more; missing tensors (29): "),
        "{error}"
    );
}

#[test]
fn a_class_that_no_family_knows() {
    for class in ["BloomForCausalLM", "MambaForCausalLM"] {
        let error =
            arch::find(&config_with("llama", json!({ "architectures": [class] }))).err().unwrap().to_string();
        assert!(
            error.starts_with(&format!(
                "config.json: architecture \"{class}\" is not supported yet; the nearest that are: "
            )),
            "{error}"
        );
        assert!(error.contains("docs/adding-an-architecture.md"), "{error}");
    }
    let error =
        arch::find(&config_with("llama", json!({ "architectures": ["Qwen4ForCausalLM"] }))).err().unwrap();
    assert!(error.to_string().contains("Qwen3ForCausalLM, "), "{error}");
    let error = arch::find(&Config::parse("config.json", "{}").unwrap()).err().unwrap().to_string();
    assert!(error.starts_with("config.json: no value for `architectures` or `model_type`"), "{error}");
}

#[test]
fn values_that_cannot_be_used() {
    let cases: &[(&str, Json, &str)] = &[
        (
            "llama",
            json!({ "architectures": "LlamaForCausalLM" }),
            "`architectures` is \"LlamaForCausalLM\", expected a list of strings",
        ),
        ("llama", json!({ "hidden_size": "64" }), "`hidden_size` is \"64\", expected a whole number"),
        ("llama", json!({ "hidden_size": 64.5 }), "`hidden_size` is 64.5, expected a whole number"),
        ("llama", json!({ "num_hidden_layers": -3 }), "`num_hidden_layers` is -3, expected a whole number"),
        (
            "llama",
            json!({ "num_attention_heads": 0 }),
            "`num_attention_heads` is 0, expected a whole number from 1",
        ),
        ("llama", json!({ "vocab_size": 1u64 << 32 }), "`vocab_size` is 4294967296, expected a whole number"),
        ("llama", json!({ "intermediate_size": null }), "no value for `intermediate_size`"),
        (
            "llama",
            json!({ "max_position_embeddings": null }),
            "no value for `max_position_embeddings` or `max_sequence_length`",
        ),
        (
            "llama",
            json!({ "num_key_value_heads": 3 }),
            "`num_key_value_heads` is 3, expected a divisor of `num_attention_heads`",
        ),
        ("llama", json!({ "head_dim": 15 }), "`head_dim` is 15, expected an even number"),
        (
            "llama",
            json!({ "head_dim": null, "hidden_size": 66 }),
            "`hidden_size` is 66, expected an even multiple",
        ),
        ("llama", json!({ "rms_norm_eps": "tiny" }), "`rms_norm_eps` is \"tiny\", expected a number"),
        ("llama", json!({ "rms_norm_eps": 1e300 }), "`rms_norm_eps` is 1e+300, expected a number"),
        ("llama", json!({ "is_causal": 1 }), "`is_causal` is 1, expected true or false"),
        ("llama", json!({ "rope_scaling": [] }), "`rope_scaling` is [], expected an object"),
        ("llama", json!({ "rope_scaling": { "type": "linear" } }), "no value for `rope_scaling.factor`"),
        (
            "llama",
            json!({ "rope_scaling": { "type": "spiral" } }),
            "`rope_scaling.type` is \"spiral\", expected one of",
        ),
        (
            "llama",
            json!({ "rope_parameters": { "rope_type": 3 } }),
            "`rope_parameters.rope_type` is 3, expected a string",
        ),
        (
            "llama",
            json!({ "rope_scaling": { "rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4 } }),
            "no value for `rope_scaling.original_max_position_embeddings`",
        ),
        (
            "llama",
            json!({ "num_local_experts": 8 }),
            "experts (`num_local_experts` is 8) are not yet supported for architecture llama",
        ),
        ("mistral", json!({ "num_experts": 4 }), "experts (`num_experts` is 4) are not yet supported"),
        (
            "llama",
            json!({ "partial_rotary_factor": 0.5 }),
            "(`partial_rotary_factor` is 0.5) are not yet supported",
        ),
        ("gpt2", json!({ "n_head": 5 }), "`n_embd` is 64, expected a multiple of `n_head`"),
        ("gpt2", json!({ "n_ctx": null, "n_positions": null }), "no value for `n_positions` or `n_ctx`"),
        (
            "gpt2",
            json!({ "scale_attn_by_inverse_layer_idx": true }),
            "is not yet supported for architecture gpt2",
        ),
    ];
    for (model, changes, message) in cases {
        let config = config_with(model, changes.clone());
        let error =
            arch::find(&config).and_then(|family| family.keys(&config).map(drop)).unwrap_err().to_string();
        assert!(error.starts_with("config.json: ") && error.contains(message), "{changes}: {error}");
    }
}

/// What a family cannot express is refused with the key that asks for it.
#[test]
fn features_that_a_family_does_not_have() {
    let light = |name: &str| format!("../archs-without-weights/{name}");
    let cases = [
        (light("qwen2"), json!({ "num_experts": 60 }), "experts (`num_experts` is 60) are not yet supported"),
        (
            light("qwen3_moe"),
            json!({ "norm_topk_prob": false }),
            "(`norm_topk_prob` is not true) are not yet supported",
        ),
        (light("qwen3_moe"), json!({ "mlp_only_layers": [0] }), "layers without experts"),
        (
            light("qwen3_moe"),
            json!({ "num_local_experts": null }),
            "no value for `num_local_experts` or `num_experts`",
        ),
        (light("smollm3"), json!({ "no_rope_layers": [1, 0, 1, 0, 1] }), "positions in other layers"),
        (
            light("gemma3"),
            json!({ "query_pre_attn_scalar": 100 }),
            "(`query_pre_attn_scalar`) are not yet supported",
        ),
        (light("gemma3"), json!({ "layer_types": ["full_attention"] }), "full_attention in layer 0"),
        (
            "gemma2".to_owned(),
            json!({ "layer_types": ["sliding_attention", "sliding_attention"] }),
            "sliding_attention in layer 1",
        ),
        (
            light("stablelm"),
            json!({ "partial_rotary_factor": 0.2 }),
            "`partial_rotary_factor` is 0.2, expected a part",
        ),
        (light("phi"), json!({ "qk_layernorm": true }), "norms of queries and keys"),
        (
            "phi3".to_owned(),
            json!({ "rope_scaling": { "type": "longrope", "long_factor": [1.0], "short_factor": [1.0] } }),
            "as many numbers as",
        ),
        (
            "deepseek_v3".to_owned(),
            json!({ "scoring_func": "tanh" }),
            "`scoring_func` is \"tanh\", expected softmax",
        ),
        (
            "gpt_oss".to_owned(),
            json!({ "swiglu_limit": 5.0 }),
            "a gate bounded by 5 (`swiglu_limit`) is not yet supported",
        ),
        ("deepseek_v3".to_owned(), json!({ "rope_interleave": false }), "halves that turn together"),
        ("deepseek_v3".to_owned(), json!({ "moe_layer_freq": 2 }), "layers without experts between"),
        (
            "gemma4".to_owned(),
            json!({ "num_kv_shared_layers": 4 }),
            "shared from other layers than the last two",
        ),
        (
            "gemma4".to_owned(),
            json!({ "vocab_size_per_layer_input": 300 }),
            "another vocabulary (`vocab_size_per_layer_input`) is not yet supported",
        ),
        ("gemma4".to_owned(), json!({ "num_global_key_value_heads": 2 }), "without values that are keys"),
        ("falcon_h1".to_owned(), json!({ "tie_word_embeddings": true }), "an output that is the embedding"),
        (
            "falcon_h1".to_owned(),
            json!({ "mamba_rms_norm": true, "mamba_norm_before_gate": true }),
            "a norm before the gate (`mamba_norm_before_gate`)",
        ),
        (
            "falcon_h1".to_owned(),
            json!({ "ssm_multipliers": [1.0] }),
            "`ssm_multipliers` is [1.0], expected a list of a number for each part",
        ),
    ];
    for (model, changes, message) in cases {
        let config = config_with(&model, changes.clone());
        let error =
            arch::find(&config).and_then(|family| family.keys(&config).map(drop)).unwrap_err().to_string();
        assert!(error.starts_with("config.json: ") && error.contains(message), "{changes}: {error}");
    }
}

#[test]
fn experts_that_are_missing_or_too_many() {
    let name = |expert: u32| format!("model.layers.1.block_sparse_moe.experts.{expert}.w2.weight");
    let missing = tensors_error("mixtral", |c| c.remove(&name(2)));
    assert!(missing.ends_with(&format!("; missing tensors (1): {}", name(2))), "{missing}");
    let beyond = tensors_error("mixtral", |c| c.push_counting(&name(4), &[64, 128]));
    assert!(beyond.ends_with(&format!("; tensors that map to nothing (1): {}", name(4))), "{beyond}");
    let dense = "model.layers.0.mlp.gate.weight";
    let misplaced = tensors_error("deepseek_v3", |c| c.push_counting(dense, &[4, 64]));
    assert!(misplaced.ends_with(&format!("; tensors that map to nothing (1): {dense}")), "{misplaced}");
    let without = tensors_error("mixtral", |c| c.rename(|name| name.replace("experts", "specialists")));
    assert!(without.contains("map to nothing (36)") && without.contains("missing tensors (36)"), "{without}");
}

#[test]
fn norms_of_heads_that_are_missing_or_too_many() {
    let name =
        |part: &str, head: u32| format!("model.layers.1.self_attn.{part}_layernorm.norms.{head}.weight");
    for (part, last) in [("q", 11), ("k", 3)] {
        let missing = tensors_error("stablelm2", |c| c.remove(&name(part, last)));
        assert!(missing.ends_with(&format!("; missing tensors (1): {}", name(part, last))), "{missing}");
        let beyond = tensors_error("stablelm2", |c| c.push_counting(&name(part, last + 1), &[8]));
        let expected = format!("; tensors that map to nothing (1): {}", name(part, last + 1));
        assert!(beyond.ends_with(&expected), "{beyond}");
    }
    let shape = tensors_error("stablelm2", |c| c.reshape(&name("k", 1), &[16]));
    assert!(shape.ends_with(&format!("{} is [16], expected [8]", name("k", 1))), "{shape}");
}

/// What the configuration does not ask for is not guessed from the tensors, nor the other way round.
#[test]
fn norms_that_the_configuration_does_not_ask_for() {
    let error = |changes: Json, tensor: Option<&str>| {
        let config = config_with("stablelm2", changes);
        let mut checkpoint = load("stablelm2");
        tensor.iter().for_each(|tensor| checkpoint.push_counting(tensor, &[96]));
        arch::find(&config).unwrap().tensors(&config, &checkpoint).unwrap_err().to_string()
    };
    let heads = error(json!({ "qk_layernorm": false }), None);
    assert!(
        heads.contains("map to nothing (32): model.layers.0.self_attn.k_layernorm.norms.0.weight"),
        "{heads}"
    );
    let one_by_one = error(json!({ "use_parallel_residual": false }), None);
    let expected = "missing tensors (4): model.layers.0.post_attention_layernorm.weight";
    assert!(one_by_one.contains(expected), "{one_by_one}");
    let further = "model.layers.0.post_attention_layernorm.bias";
    let side_by_side = error(json!({}), Some(further));
    assert!(side_by_side.ends_with(&format!("map to nothing (1): {further}")), "{side_by_side}");
}

#[test]
fn files_that_are_no_configuration() {
    for (text, message) in [("", "EOF"), ("[1, 2]", "expected a map"), ("{\"a\": ", "line 1, column 6")] {
        let error = Config::parse("config.json", text).unwrap_err().to_string();
        assert!(error.starts_with("config.json is not valid JSON: ") && error.contains(message), "{error}");
    }
    let error = Config::open(Path::new("no/such/config.json")).unwrap_err().to_string();
    assert!(error.starts_with("no/such/config.json: cannot read: "), "{error}");
    let sampling = Config::parse("generation_config.json", r#"{"top_k": "many"}"#).unwrap();
    let config = config("llama");
    let around = arch::Surroundings { folder: "m", generation: Some(&sampling), ..Default::default() };
    let error = arch::metadata(arch::find(&config).unwrap(), &config, &around, &[]).unwrap_err();
    assert!(
        error.to_string().starts_with("generation_config.json: `top_k` is \"many\", expected"),
        "{error}"
    );
}

#[test]
fn the_table_of_families_is_that_of_the_program() {
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architectures.md")).unwrap();
    let table = arch::table_of_families();
    assert!(page.contains(&table), "the table of docs/architectures.md must be:\n{table}");
}
