//! A text model inside a model of several modalities.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ::safetensors::tensor::TensorView;
use ::safetensors::{Dtype, serialize};
use serde_json::{Value as Json, json};

use super::{assert_same, data, opened, written};
use crate::tensor::Stash;
use crate::transform::narrow;

/// Writes the small Llama to `folder` as the text part of another model.
fn write_nested(folder: &Path) {
    let source = data("archs/llama");
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(source.join(file), folder.join(file)).unwrap();
    }
    let text = std::fs::read_to_string(source.join("config.json")).unwrap();
    let mut config: Json = serde_json::from_str(&text).unwrap();
    let classes = config.as_object_mut().unwrap().shift_remove("architectures").unwrap();
    let nested =
        json!({ "architectures": classes, "text_config": config, "vision_config": { "hidden_size": 3 } });
    std::fs::write(folder.join("config.json"), nested.to_string()).unwrap();
    let bytes = std::fs::read(source.join("model.safetensors")).unwrap();
    let file = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let inside = |name: &str| match name.strip_prefix("model.") {
        Some(rest) => format!("model.language_model.{rest}"),
        None => name.to_owned(),
    };
    let mut tensors: BTreeMap<String, TensorView> =
        file.tensors().into_iter().map(|(name, view)| (inside(&name), view)).collect();
    let other: Vec<u8> = (0..12).collect();
    let view = TensorView::new(Dtype::BF16, vec![2, 3], &other).unwrap();
    tensors.insert("model.vision_tower.layers.0.weight".to_owned(), view);
    std::fs::write(folder.join("model.safetensors"), serialize(tensors, None).unwrap()).unwrap();
}

#[test]
fn a_text_model_is_pruned_where_it_stands() {
    let scratch = tempfile::tempdir().unwrap();
    write_nested(scratch.path());
    let (source, base) = opened(scratch.path());
    let kept: Vec<Arc<[u32]>> = vec![(32..64).collect(); 3];
    let narrowed = narrow(&base, &kept, &Arc::new(Stash::new(0))).unwrap();
    let out = scratch.path().join("out");
    written(&source, &base, &narrowed, &out, 1 << 20).unwrap();
    assert_same(&out, &source, &narrowed);
    let config: Json =
        serde_json::from_str(&std::fs::read_to_string(out.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["text_config"]["intermediate_size"], 32);
    assert!(config.get("intermediate_size").is_none());
    let file = kquant_formats::safetensors::SafeTensors::open(&out).unwrap();
    let at = |name: &str| file.tensors().iter().position(|t| t.name == name);
    let other = at("model.vision_tower.layers.0.weight").unwrap();
    assert_eq!(file.data(other).unwrap(), (0..12).collect::<Vec<u8>>());
    assert!(at("model.language_model.layers.0.mlp.up_proj.weight").is_some());
}
