//! Tensors beyond those of the converter's files: biases, prefixes, leftovers, order, types kept.

use kquant::arch;
use kquant::plan::{Keep, MappedTensor, Rows, Source};
use serde_json::json;

use crate::checkpoint::Memory;
use crate::{config, config_with, load};

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
            matches!(tensor.source, Source::Tensor { rows: Rows::RotaryPairs { heads: n }, .. } if n == heads)
        );
        assert_eq!((&tensor.shape, tensor.keep), (&vec![heads * 16], Keep::F32));
        let head = [0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15];
        let expected: Vec<f32> = (0..heads).flat_map(|h| head.map(|i| (h * 16 + i) as f32)).collect();
        assert_eq!(checkpoint.values_of(tensor), expected);
    }
    assert!(matches!(v.source, Source::Tensor { rows: Rows::Same, .. }));
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
    // Tied by configuration and stored all the same: the converter writes it.
    let mut checkpoint = load("llama-tied-rope3");
    checkpoint.push_counting("lm_head.weight", &[320, 64]);
    assert!(map("llama-tied-rope3", &checkpoint).iter().any(|t| t.name == "output.weight"));
    // Untied by configuration and absent: llama.cpp falls back to the embedding.
    let mut checkpoint = load("llama");
    checkpoint.remove("lm_head.weight");
    assert!(map("llama", &checkpoint).iter().all(|t| t.name != "output.weight"));
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
