//! What `config.json` says of a model, on the small Llama with some of it changed.

mod heads;
mod takes;
mod yarn;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use crate::support::{Scratch, data, kquant, ok};

/// Copies the small Llama with `changes` to its configuration; null takes a key away.
fn changed(scratch: &Scratch, changes: &Json) -> PathBuf {
    let folder = scratch.path("model");
    fs::create_dir_all(&folder).unwrap();
    for file in fs::read_dir(data("tiny-llama")).unwrap() {
        let path = file.unwrap().path();
        fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
    let mut config: serde_json::Map<String, Json> =
        serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
    config.extend(changes.as_object().unwrap().clone());
    config.retain(|_, value| !value.is_null());
    fs::write(folder.join("config.json"), Json::Object(config).to_string()).unwrap();
    folder
}

/// Perplexity of the first 6,000 characters of the evaluation text at a context of 256 tokens.
fn perplexity(scratch: &Scratch, model: &Path) -> f64 {
    let text = scratch.path("text.txt");
    let all = fs::read_to_string(data("corpora/eval-small.txt")).unwrap();
    fs::write(&text, all.chars().take(6000).collect::<String>()).unwrap();
    let args = ["--context", "256", "--quiet", "--json", "-", "--text"];
    let paths = [text.to_str().unwrap(), model.to_str().unwrap()];
    let output = ok(kquant(["perplexity"].iter().chain(&args).chain(&paths)));
    let json: Json = serde_json::from_str(&output).unwrap();
    json["perplexity"]["value"].as_f64().unwrap()
}

fn assert_near(found: f64, expected: f64, case: impl std::fmt::Display) {
    assert!((found - expected).abs() < 0.006, "{case}: {found}, expected {expected}");
}
