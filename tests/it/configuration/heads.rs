//! Whether the output is the embedding or a projection of its own.

use std::fs;
use std::path::PathBuf;

use kquant::checkpoint::type_layout;
use kquant_formats::gguf::Gguf;
use serde_json::{Value as Json, json};

use crate::support::{
    HIDDEN, Scratch, Tensor, VOCAB, micro_config, micro_llama, ok, quantize, refused, stderr, write_folder,
};

/// The micro model with `changes` to its configuration and `head` as its output, if there is one.
fn model(scratch: &Scratch, changes: &Json, head: Option<Tensor>) -> PathBuf {
    let folder = scratch.path("model");
    let mut tensors = micro_llama();
    tensors.retain(|t| t.name != "lm_head.weight");
    tensors.extend(head);
    write_folder(&folder, &tensors);
    let mut config = micro_config();
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    folder
}

/// A head of other weights than the embedding, or of the same.
fn head(same: bool) -> Option<Tensor> {
    Some(Tensor::bf16("lm_head.weight", &[VOCAB, HIDDEN], if same { 1 } else { 3 }))
}

/// Whether the GGUF has an output of its own, and what was said.
fn converted(changes: &Json, head: Option<Tensor>) -> (bool, String) {
    let scratch = Scratch::new("heads");
    let out = scratch.path("model.gguf");
    let output = quantize(&model(&scratch, changes, head), &out, "BF16", &[]);
    let text = stderr(&output);
    ok(output);
    let file = Gguf::open(&out, type_layout).unwrap();
    (file.tensors().iter().any(|t| t.name == "output.weight"), text)
}

#[test]
fn an_explicit_false_needs_a_head() {
    let scratch = Scratch::new("headless");
    let folder = model(&scratch, &json!({ "tie_word_embeddings": false }), None);
    let out = scratch.path("model.gguf");
    let output = quantize(&folder, &out, "Q8_0", &[]);
    refused("no head", &output, "`tie_word_embeddings` is false, expected a head (lm_head.weight)", &out);
    assert!(!converted(&json!({ "tie_word_embeddings": true }), None).0);
    assert!(!converted(&json!({ "tie_word_embeddings": null }), None).0);
    let base = json!({ "tie_word_embeddings": false, "architectures": ["LlamaModel"] });
    assert!(!converted(&base, None).0, "a class without a head");
}

#[test]
fn tied_and_a_head_that_is_there() {
    let tied = json!({ "tie_word_embeddings": true });
    let (own, text) = converted(&tied, head(true));
    assert!(!own && !text.contains("lm_head"), "the copy is left out: {text}");
    let (own, text) = converted(&tied, head(false));
    assert!(own && text.contains("lm_head.weight differs from the embedding"), "{text}");
    assert!(text.contains("lm_head.weight counts"), "{text}");
    let (own, text) = converted(&json!({ "tie_word_embeddings": false }), head(true));
    assert!(own && !text.contains("lm_head"), "nobody asked for one: {text}");
}

/// llama.cpp's OLMo 2 does not look for the output in the embedding.
#[test]
fn a_family_that_needs_its_own_output_gets_the_embedding_twice() {
    let mut tensors = micro_llama();
    tensors.retain(|t| t.name != "lm_head.weight" && !t.name.ends_with("input_layernorm.weight"));
    let layer = "model.layers.0";
    for (name, width) in [
        ("self_attn.q_norm", HIDDEN),
        ("self_attn.k_norm", HIDDEN / 2),
        ("post_feedforward_layernorm", HIDDEN),
    ] {
        tensors.push(Tensor::bf16(&format!("{layer}.{name}.weight"), &[width], 20));
    }
    let scratch = Scratch::new("olmo2");
    let (folder, out) = (scratch.path("model"), scratch.path("model.gguf"));
    write_folder(&folder, &tensors);
    let mut config = micro_config();
    let changes =
        json!({ "architectures": ["Olmo2ForCausalLM"], "model_type": "olmo2", "tie_word_embeddings": true });
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let output = quantize(&folder, &out, "BF16", &[]);
    assert!(stderr(&output).contains("the embedding is written twice"), "{}", stderr(&output));
    ok(output);
    let file = Gguf::open(&out, type_layout).unwrap();
    assert!(file.tensors().iter().any(|t| t.name == "output.weight"));
}

/// The micro model as Gemma, whose norms are more.
fn gemma(scratch: &Scratch, generation: u32, tied: bool, head: Option<Tensor>) -> PathBuf {
    let folder = scratch.path("model");
    let mut tensors = micro_llama();
    tensors.retain(|t| t.name != "lm_head.weight");
    tensors.extend(head);
    let norms: &[(&str, u64)] = match generation {
        1 => &[],
        2 => &[("pre_feedforward_layernorm", HIDDEN), ("post_feedforward_layernorm", HIDDEN)],
        _ => &[
            ("pre_feedforward_layernorm", HIDDEN),
            ("post_feedforward_layernorm", HIDDEN),
            ("self_attn.q_norm", 64),
            ("self_attn.k_norm", 64),
        ],
    };
    for (name, width) in norms {
        tensors.push(Tensor::bf16(&format!("model.layers.0.{name}.weight"), &[*width], 20));
    }
    write_folder(&folder, &tensors);
    let mut config = micro_config();
    let class = ["GemmaForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM"][generation as usize - 1];
    let changes = json!({ "architectures": [class], "model_type": "", "hidden_act": "gelu_pytorch_tanh",
        "tie_word_embeddings": tied, "sliding_window": 64, "query_pre_attn_scalar": 64 });
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    folder
}

#[test]
fn gemma_has_a_head_where_llama_cpp_reads_one() {
    for (generation, own) in [(1, false), (2, false), (3, true)] {
        for (tied, same) in [(false, false), (true, false), (true, true)] {
            let scratch = Scratch::new("gemma");
            let out = scratch.path("model.gguf");
            let output = quantize(&gemma(&scratch, generation, tied, head(same)), &out, "BF16", &[]);
            let case = format!("Gemma {generation}, tied {tied}, same {same}");
            if !own && !tied {
                refused(
                    &case,
                    &output,
                    "an output of its own (lm_head.weight, `tie_word_embeddings` is false)",
                    &out,
                );
                continue;
            }
            let text = stderr(&output);
            ok(output);
            let file = Gguf::open(&out, type_layout).unwrap();
            let has = file.tensors().iter().any(|t| t.name == "output.weight");
            assert_eq!(has, own && !same, "{case}");
            assert_eq!(
                text.contains("lm_head.weight differs from the embedding"),
                tied && !same,
                "{case}: {text}"
            );
        }
    }
}
