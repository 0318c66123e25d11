//! Models that have lost layers, experts or heads, written as folders.

use std::path::Path;
use std::sync::Arc;

use kquant_formats::gguf::Value;
use serde_json::Value as Json;

use super::{assert_same, data, opened, written};
use crate::convert::Converted;
use crate::folder::FolderError;
use crate::tensor::{MappedTensor, Selection, TensorName};

/// A copy of `base` with other tensors and some other numbers under the architecture's keys.
fn with(base: &Converted, tensors: Vec<MappedTensor>, numbers: &[(&str, u32)]) -> Converted {
    let mut metadata = base.metadata.clone();
    let architecture = metadata.get("general.architecture").unwrap().as_str().unwrap().to_owned();
    for (key, number) in numbers {
        metadata.set(format!("{architecture}.{key}"), Value::U32(*number));
    }
    Converted { metadata, tensors, warnings: Vec::new(), notes: Vec::new(), limits: Vec::new() }
}

/// Writes what `change` makes of a small checkpoint, the folder `name` or one of tests/data/archs, and holds it against that;
/// returns the new configuration.
fn assert_writes(
    name: impl AsRef<Path>,
    change: impl Fn(&Converted) -> Converted,
) -> Result<Json, FolderError> {
    let scratch = tempfile::tempdir().unwrap();
    let folder = data("archs").join(&name);
    let (source, base) = opened(&folder);
    let (changed, out) = (change(&base), scratch.path().join("out"));
    if let Err(error) = written(&source, &base, &changed, &out, 1 << 20) {
        assert_eq!(
            std::fs::read_dir(scratch.path()).unwrap().count(),
            0,
            "{}: something is left",
            folder.display()
        );
        return Err(error);
    }
    assert_same(&out, &source, &changed);
    Ok(serde_json::from_str(&std::fs::read_to_string(out.join("config.json")).unwrap()).unwrap())
}

/// As [`assert_writes`], of a checkpoint with other values in `config.json`.
fn with_settings(
    name: &str,
    settings: &[(&str, Json)],
    change: impl Fn(&Converted) -> Converted,
) -> Result<Json, FolderError> {
    let folder = tempfile::tempdir().unwrap();
    for file in ["model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(data("archs").join(name).join(file), folder.path().join(file)).unwrap();
    }
    let text = std::fs::read_to_string(data("archs").join(name).join("config.json")).unwrap();
    let mut config: Json = serde_json::from_str(&text).unwrap();
    for (key, value) in settings {
        config[*key] = value.clone();
    }
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    assert_writes(folder.path(), change)
}

/// The model without its second layer of three.
fn without_a_layer(base: &Converted) -> Converted {
    let tensors = base.tensors.iter().filter_map(|tensor| match TensorName(&tensor.name).layer() {
        Some(1) => None,
        Some(2) => Some(MappedTensor { name: tensor.name.replacen("blk.2.", "blk.1.", 1), ..tensor.clone() }),
        _ => Some(tensor.clone()),
    });
    with(base, tensors.collect(), &[("block_count", 2)])
}

#[test]
fn layers_that_are_left_move_up() {
    for (name, key) in [("llama", "num_hidden_layers"), ("gpt2", "n_layer"), ("mixtral", "num_hidden_layers")]
    {
        let config = assert_writes(name, without_a_layer).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(config[key], 2, "{name}");
    }
    // Windows from a layer on, which is another one then.
    let config = with_settings("llama", &[("max_window_layers", 2.into())], without_a_layer).unwrap();
    assert_eq!(config["max_window_layers"], 1);
    // Windows in every second layer, which no GGUF can say otherwise.
    let error = assert_writes("gemma2", without_a_layer).unwrap_err().to_string();
    assert!(error.contains("layer_types"), "{error}");
}

/// The model with the experts 0 and 3 of four.
fn with_two_experts(base: &Converted) -> Converted {
    let kept: Arc<[u32]> = [0, 3].into();
    let tensors = base.tensors.iter().map(|tensor| match TensorName(&tensor.name).kind() {
        Some(kind) if kind.ends_with("_exps") => tensor.select(Selection::of_matrices(kept.clone())),
        Some(kind) if kind.ends_with("_exps.bias") => tensor.select(Selection::of_rows(kept.clone())),
        Some("ffn_gate_inp") => tensor.select(Selection::of_rows(kept.clone())),
        Some("ffn_gate_inp.bias" | "exp_probs_b.bias") => tensor.select(Selection::of_columns(kept.clone())),
        _ => tensor.clone(),
    });
    with(base, tensors.collect(), &[("expert_count", 2)])
}

#[test]
fn experts_that_are_left_are_numbered_anew() {
    // One tensor for each expert; all in one tensor with biases, transposed and in turns; beside shared experts.
    for (name, key) in [
        ("mixtral", "num_local_experts"),
        ("gpt_oss", "num_local_experts"),
        ("deepseek_v3", "n_routed_experts"),
    ] {
        let config = assert_writes(name, with_two_experts).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(config[key], 2, "{name}");
    }
}

/// The model with the second of two groups of heads, of which each has two query heads `head` wide.
fn with_one_group(base: &Converted, head: u32) -> Converted {
    let queries: Arc<[u32]> = (2 * head..4 * head).collect();
    let keys: Arc<[u32]> = (head..2 * head).collect();
    let tensors = base.tensors.iter().map(|tensor| match TensorName(&tensor.name).kind() {
        Some("attn_q") => tensor.select(Selection::of_rows(queries.clone())),
        Some("attn_k" | "attn_v") => tensor.select(Selection::of_rows(keys.clone())),
        Some("attn_output") => tensor.select(Selection::of_columns(queries.clone())),
        Some("attn_q.bias") => tensor.select(Selection::of_columns(queries.clone())),
        Some("attn_k.bias" | "attn_v.bias") => tensor.select(Selection::of_columns(keys.clone())),
        Some("attn_sinks") => tensor.select(Selection::of_columns([2, 3])),
        _ => tensor.clone(),
    });
    let numbers = [("attention.head_count", 2), ("attention.head_count_kv", 1)];
    let widths = [("attention.key_length", head), ("attention.value_length", head)];
    with(base, tensors.collect(), &[numbers, widths].concat())
}

#[test]
fn heads_that_are_left_keep_their_width() {
    // Rotary pairs that are interleaved; a width that config.json has to say from now on; sinks and biases.
    for (name, head) in [("llama", 16), ("mixtral", 16), ("gemma2", 32), ("gpt_oss", 32)] {
        let config =
            assert_writes(name, |base| with_one_group(base, head)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(
            [&config["num_attention_heads"], &config["num_key_value_heads"], &config["head_dim"]],
            [2, 1, head],
            "{name}"
        );
    }
    let error =
        assert_writes("stablelm2", |base| with(base, base.tensors.clone(), &[("attention.head_count", 6)]));
    assert!(matches!(error, Err(FolderError::HeadWidth { head: 8, .. })), "{error:?}");
}

#[test]
fn what_a_configuration_cannot_say_is_refused() {
    // Layers of different widths.
    let uneven = |base: &Converted| {
        let kept: Arc<[u32]> = (0..64).collect();
        let tensors = base.tensors.iter().map(|tensor| match tensor.name.as_str() {
            "blk.0.ffn_gate.weight" | "blk.0.ffn_up.weight" => {
                tensor.select(Selection::of_rows(kept.clone()))
            }
            "blk.0.ffn_down.weight" => tensor.select(Selection::of_columns(kept.clone())),
            _ => tensor.clone(),
        });
        with(base, tensors.collect(), &[])
    };
    let error = assert_writes("llama", uneven).unwrap_err();
    assert!(
        matches!(&error, FolderError::Shape { tensor, .. } if tensor.starts_with("blk.0.ffn_")),
        "{error}"
    );
    // A number that no key of config.json stands for.
    let error =
        assert_writes("llama", |base| with(base, base.tensors.clone(), &[("rope.dimension_count", 8)]));
    assert!(
        matches!(&error, Err(FolderError::Key { key, .. }) if key == "llama.rope.dimension_count"),
        "{error:?}"
    );
    // A tensor of its own.
    let foreign = |base: &Converted| {
        let mut tensors = base.tensors.clone();
        tensors.push(MappedTensor { name: "extra.weight".to_owned(), ..tensors[0].clone() });
        with(base, tensors, &[])
    };
    assert!(
        matches!(assert_writes("llama", foreign), Err(FolderError::Foreign(name)) if name == "extra.weight")
    );
}
