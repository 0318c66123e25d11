//! Tensors beyond those of the converter's files: biases, prefixes, leftovers, order, types kept.

use kquant::arch;
use kquant::tensor::{Keep, MappedTensor, RowOrder, Source};
use kquant_formats::gguf::Value;
use serde_json::json;

use crate::arch::checkpoint::Memory;
use crate::arch::{config, config_with, load};

fn map(model: &str, checkpoint: &Memory) -> Vec<MappedTensor> {
    let config = config(model);
    arch::find(&config).unwrap().tensors(&config, checkpoint).unwrap()
}

fn get<'a>(tensors: &'a [MappedTensor], name: &str) -> &'a MappedTensor {
    tensors.iter().find(|t| t.name == name).unwrap()
}

#[test]
fn rotary_biases_are_permuted_like_their_weights() {
    let mut checkpoint = load("llama");
    for layer in 0..3 {
        checkpoint.push_counting(&format!("model.layers.{layer}.self_attn.q_proj.bias"), &[64]);
        checkpoint.push_counting(&format!("model.layers.{layer}.self_attn.k_proj.bias"), &[32]);
        checkpoint.push_counting(&format!("model.layers.{layer}.self_attn.v_proj.bias"), &[32]);
        checkpoint.push_counting(&format!("model.layers.{layer}.self_attn.o_proj.bias"), &[64]);
        checkpoint.push_counting(&format!("model.layers.{layer}.mlp.gate_proj.bias"), &[128]);
    }
    let tensors = map("llama", &checkpoint);
    let [q, k, v] = ["q", "k", "v"].map(|p| get(&tensors, &format!("blk.1.attn_{p}.bias")));
    for (tensor, heads) in [(q, 4), (k, 2)] {
        assert!(
            matches!(tensor.source, Source::Tensor { rows: RowOrder::RotaryPairs { heads: n }, .. } if n == heads)
        );
        assert_eq!((&tensor.shape, tensor.keep), (&vec![heads * 16], Keep::F32));
        let head = [0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15];
        let expected: Vec<f32> = (0..heads).flat_map(|h| head.map(|i| (h * 16 + i) as f32)).collect();
        assert_eq!(checkpoint.values_of(tensor), expected);
    }
    assert!(matches!(v.source, Source::Tensor { rows: RowOrder::Same, .. }));
    assert!(tensors.iter().any(|t| t.name == "blk.2.ffn_gate.bias"));
}

#[test]
fn names_without_the_models_prefix_map_alike() {
    for (model, prefix) in [("llama", "model."), ("gpt2", "transformer.")] {
        let mut bare = load(model);
        bare.rename(|name| name.strip_prefix(prefix).unwrap_or(name).to_owned());
        let names = |tensors: Vec<MappedTensor>| {
            let mut names: Vec<_> = tensors.into_iter().map(|t| (t.name, t.shape, t.keep)).collect();
            names.sort_by(|a, b| a.0.cmp(&b.0));
            names
        };
        assert_eq!(names(map(model, &bare)), names(map(model, &load(model))));
    }
}

#[test]
fn masks_and_cached_tables_are_left_out() {
    let mut gpt2 = load("gpt2");
    gpt2.push_counting("transformer.h.0.attn.bias", &[1, 1, 128, 128]);
    gpt2.push_counting("transformer.h.2.attn.masked_bias", &[]);
    assert_eq!(map("gpt2", &gpt2), map("gpt2", &load("gpt2")));
    let mut llama = load("llama");
    llama.push_counting("model.layers.0.self_attn.rotary_emb.inv_freq", &[8]);
    assert_eq!(map("llama", &llama), map("llama", &load("llama")));
}

#[test]
fn an_output_matrix_is_kept_where_there_is_one() {
    assert!(map("llama", &load("llama")).iter().any(|t| t.name == "output.weight"));
    // Nothing says that there is one: llama.cpp falls back to the embedding.
    let mut checkpoint = load("llama");
    checkpoint.remove("lm_head.weight");
    let silent = config_with("llama", json!({ "tie_word_embeddings": null }));
    let tensors = arch::find(&silent).unwrap().tensors(&silent, &checkpoint).unwrap();
    assert!(tensors.iter().all(|t| t.name != "output.weight"));
    // Of a tied one the weights decide, which cannot be read here.
    checkpoint = load("llama-tied-rope3");
    checkpoint.push_counting("lm_head.weight", &[320, 64]);
    let tied = config("llama-tied-rope3");
    assert!(arch::find(&tied).unwrap().tensors(&tied, &checkpoint).is_err());
}

#[test]
fn order_is_by_file_then_by_name() {
    let names = |checkpoint: &Memory| -> Vec<String> {
        map("llama", checkpoint).into_iter().map(|t| t.name).collect()
    };
    let mut checkpoint = load("llama");
    let sorted = names(&checkpoint);
    checkpoint.reverse();
    assert_eq!(names(&checkpoint), sorted);
    checkpoint.set_shard("lm_head.weight", 1);
    let mut moved = sorted;
    moved.rotate_left(1);
    assert_eq!(names(&checkpoint), moved);
}

#[test]
fn what_stays_f32() {
    for (model, f32) in
        [("llama", vec!["norm.weight"]), ("gpt2", vec!["norm.weight", ".bias", "position_embd.weight"])]
    {
        for tensor in map(model, &load(model)) {
            let expected =
                if f32.iter().any(|end| tensor.name.ends_with(end)) { Keep::F32 } else { Keep::Source };
            assert_eq!(tensor.keep, expected, "{}", tensor.name);
        }
    }
}

#[test]
fn llama_31_rope_factors() {
    let scaling = json!({ "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192 });
    let config = config_with(
        "llama",
        json!({ "rope_theta": 500000.0, "rope_scaling": scaling, "head_dim": 128,
        "num_attention_heads": 1, "num_key_value_heads": 1, "num_hidden_layers": 1, "vocab_size": 8,
        "hidden_size": 8, "intermediate_size": 8, "tie_word_embeddings": true }),
    );
    let mut checkpoint = Memory::default();
    checkpoint.push_counting("model.embed_tokens.weight", &[8, 8]);
    checkpoint.push_counting("model.norm.weight", &[8]);
    for (name, shape) in [("q", [128, 8]), ("k", [128, 8]), ("v", [128, 8]), ("o", [8, 128])] {
        checkpoint.push_counting(&format!("model.layers.0.self_attn.{name}_proj.weight"), &shape);
    }
    for name in ["gate", "up", "down"] {
        checkpoint.push_counting(&format!("model.layers.0.mlp.{name}_proj.weight"), &[8, 8]);
    }
    checkpoint.push_counting("model.layers.0.input_layernorm.weight", &[8]);
    checkpoint.push_counting("model.layers.0.post_attention_layernorm.weight", &[8]);
    let tensors = arch::find(&config).unwrap().tensors(&config, &checkpoint).unwrap();
    let Source::Values(factors) = &get(&tensors, "rope_freqs.weight").source else { panic!() };
    assert_eq!(factors.len(), 64);
    // The bands of the published scheme: 29 short waves untouched, 29 long ones divided by 8, a blend between.
    assert_eq!(factors.iter().filter(|&&f| f == 1.0).count(), 29);
    assert_eq!(factors.iter().filter(|&&f| f == 8.0).count(), 29);
    assert!(factors.is_sorted());
    for (i, &factor) in factors.iter().enumerate().skip(29).take(6) {
        let waves = 8192.0 / (std::f64::consts::TAU * 500000f64.powf(i as f64 / 64.0));
        let smooth = (waves - 1.0) / 3.0;
        let exact = 1.0 / ((1.0 - smooth) / 8.0 + smooth);
        assert!((f64::from(factor) / exact - 1.0).abs() < 1e-6, "factor {i}");
    }
}

/// The names and shapes of a folder without weights.
fn shapes(model: &str) -> Memory {
    let path = crate::arch::folder("../archs-without-weights").join(model).join("tensors.json");
    let shapes: std::collections::BTreeMap<String, Vec<u64>> =
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut checkpoint = Memory::default();
    shapes.iter().for_each(|(name, shape)| checkpoint.push(name, shape, Vec::new()));
    checkpoint
}

/// What is made, sorted by name.
fn sorted(mut tensors: Vec<MappedTensor>) -> Vec<(String, Vec<u64>, Keep)> {
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    tensors.into_iter().map(|t| (t.name, t.shape, t.keep)).collect()
}

/// Published Gemma 3 models also see images; their configurations leave out what transformers fills in.
#[test]
fn the_text_of_a_model_that_sees() {
    let name = "../archs-without-weights/gemma3";
    let (plain, checkpoint) = (config(name), shapes("gemma3"));
    let family = arch::find(&plain).unwrap();
    let text = plain.json();
    let nested = json!({ "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "hidden_size": null,
        "text_config": text, "vision_config": { "hidden_size": 7 }, "vocab_size": 3 });
    let mut nested = nested.as_object().unwrap().clone();
    nested["text_config"].as_object_mut().unwrap().remove("architectures");
    let nested = arch::Config::parse("config.json", &serde_json::to_string(&nested).unwrap()).unwrap();
    assert_eq!(arch::find(&nested).unwrap().gguf_name(), "gemma3");
    assert_eq!(family.keys(&nested).unwrap(), family.keys(&plain).unwrap());
    let expected = sorted(family.tensors(&plain, &checkpoint).unwrap());
    let spellings: [fn(&str) -> String; 2] =
        [|name| format!("language_model.{name}"), |name| name.replacen("model.", "model.language_model.", 1)];
    for spelled in spellings {
        let mut seeing = shapes("gemma3");
        seeing.rename(spelled);
        seeing.push("vision_tower.vision_model.embeddings.patch_embedding.bias", &[7], Vec::new());
        seeing.push("model.multi_modal_projector.mm_soft_emb_norm.weight", &[7], Vec::new());
        assert_eq!(sorted(family.tensors(&nested, &seeing).unwrap()), expected);
    }
    let published = json!({ "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "text_config": {
        "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
        "rope_scaling": { "factor": 8.0, "rope_type": "linear" }, "sliding_window": 1024 } });
    let keys = family.keys(&arch::Config::parse("config.json", &published.to_string()).unwrap()).unwrap();
    for (key, value) in
        [("context_length", 131_072), ("attention.head_count_kv", 4), ("attention.sliding_window", 1024)]
    {
        assert!(keys.contains(&(format!("gemma3.{key}"), Value::U32(value))), "{key}: {keys:?}");
    }
    assert!(keys.contains(&("gemma3.rope.freq_base".to_owned(), Value::F32(1e6))), "{keys:?}");
}

#[test]
fn experts_in_one_tensor() {
    let config = config("../archs-without-weights/qwen3_moe");
    let family = arch::find(&config).unwrap();
    let plain = family.tensors(&config, &shapes("qwen3_moe")).unwrap();
    let experts = |part: &str| get(&plain, &format!("blk.0.ffn_{part}_exps.weight")).shape.clone();
    let [hidden, inner, count] = experts("gate")[..] else { panic!("{plain:?}") };
    let layers = (0..)
        .take_while(|layer| plain.iter().any(|t| t.name == format!("blk.{layer}.attn_q.weight")))
        .count();
    let names: Vec<String> = {
        let checkpoint = shapes("qwen3_moe");
        let all = kquant::checkpoint::Checkpoint::tensors(&checkpoint).iter().map(|t| t.name.clone());
        all.filter(|name| name.contains(".experts.")).collect()
    };
    let fused = |without: &str| {
        let mut checkpoint = shapes("qwen3_moe");
        names.iter().for_each(|name| checkpoint.remove(name));
        for layer in 0..layers as u64 {
            let base = format!("model.layers.{layer}.mlp.experts");
            checkpoint.push_counting(&format!("{base}.gate_up_proj"), &[count, 2 * inner, hidden]);
            checkpoint.push_counting(&format!("{base}.down_proj"), &[count, hidden, inner]);
        }
        if !without.is_empty() {
            (0..layers).for_each(|l| checkpoint.remove(&format!("model.layers.{l}.mlp.experts.{without}")));
        }
        checkpoint
    };
    let checkpoint = fused("");
    let made = family.tensors(&config, &checkpoint).unwrap();
    assert_eq!(sorted(made.clone()), sorted(plain.clone()));
    let up = checkpoint.values_of(get(&made, "blk.0.ffn_up_exps.weight"));
    assert_eq!(
        [up[0], up[(inner * hidden) as usize]],
        [inner * hidden, 3 * inner * hidden].map(|n| n as f32)
    );
    for (without, absent) in
        [("down_proj", "experts.0.down_proj.weight"), ("gate_up_proj", "experts.0.gate_proj.weight")]
    {
        let error = family.tensors(&config, &fused(without)).unwrap_err().to_string();
        assert!(error.contains(absent), "{error}");
    }
}
