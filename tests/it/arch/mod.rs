//! Architectures: what a Hugging Face folder becomes in GGUF, against what llama.cpp's converter makes of it.

mod cards;
mod checkpoint;
mod converter;
mod keys;
mod pending;
mod refusals;
mod tensors;

use std::path::PathBuf;

use checkpoint::Memory;
use kquant::arch::Config;

/// The folder of a small checkpoint with random weights.
fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/archs").join(name)
}

pub fn load(name: &str) -> Memory {
    Memory::from_safetensors(&std::fs::read(folder(name).join("model.safetensors")).unwrap())
}

fn config(name: &str) -> Config {
    Config::open(&folder(name).join("config.json")).unwrap()
}

/// The folder's configuration with some keys changed; null takes one away.
pub fn config_with(name: &str, changes: serde_json::Value) -> Config {
    let text = std::fs::read_to_string(folder(name).join("config.json")).unwrap();
    let mut json: serde_json::Map<_, _> = serde_json::from_str(&text).unwrap();
    json.extend(changes.as_object().unwrap().clone());
    Config::parse("config.json", &serde_json::to_string(&json).unwrap()).unwrap()
}
