//! Keys and tensors equal those of llama.cpp's converter.

use kquant::arch::{self, Config};
use kquant_formats::gguf::Value;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use crate::{folder, load};

#[test]
fn llama() {
    equals_converter("llama");
}

#[test]
fn llama_with_tied_embeddings_and_llama3_rope() {
    equals_converter("llama-tied-rope3");
}

#[test]
fn mistral_with_wide_heads() {
    equals_converter("mistral");
}

#[test]
fn gpt2() {
    equals_converter("gpt2");
}

fn equals_converter(name: &str) {
    let folder = folder(name);
    let expected: Json =
        serde_json::from_slice(&std::fs::read(folder.join("convert.json")).unwrap()).unwrap();
    let checkpoint = load(name);
    for layout in ["config.json", "config-v5.json"] {
        let config = Config::open(&folder.join(layout)).unwrap();
        let generation = Config::open(&folder.join("generation_config.json")).unwrap();
        let family = arch::find(&config).unwrap();
        let tensors = family.tensors(&config, &checkpoint).unwrap();

        let metadata = arch::metadata(family, &config, Some(&generation), name, &tensors).unwrap();
        let recipe = ["general.file_type", "general.quantization_version"];
        let keys: Vec<_> = expected["kv"]
            .as_object()
            .unwrap()
            .iter()
            .filter(|(k, _)| !recipe.contains(&k.as_str()))
            .collect();
        let ours: Vec<_> = metadata.iter().map(|(key, value)| (key.to_owned(), as_json(value))).collect();
        let theirs: Vec<_> = keys.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        assert_eq!(ours, theirs, "{name}/{layout}");

        let ours: Vec<_> = tensors
            .iter()
            .map(|t| {
                let bytes: Vec<u8> = checkpoint.values_of(t).iter().flat_map(|v| v.to_le_bytes()).collect();
                let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
                serde_json::json!({ "name": t.name, "shape": t.shape, "type": "F32", "sha256": hash })
            })
            .collect();
        assert_eq!(&ours, expected["tensors"].as_array().unwrap(), "{name}/{layout}");
    }
}

fn as_json(value: &Value) -> Json {
    match value {
        Value::U32(n) => Json::from(*n),
        Value::F32(n) => Json::from(f64::from(*n)),
        Value::String(s) => Json::from(s.as_str()),
        other => panic!("unexpected {other:?}"),
    }
}
