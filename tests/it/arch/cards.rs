//! Model cards become the keys that gguf-py makes of them (scripts/refresh_cards.py).

use std::path::Path;

use kquant::arch::{self, Card, Config, Surroundings};
use kquant::tensor::{Keep, MappedTensor, Source};
use kquant_formats::gguf::{Array, Value};
use serde_json::{Value as Json, json};

use crate::arch::{config_with, folder};

/// The keys that depend on the card, as JSON.
fn keys(case: &Path) -> Vec<(String, Json)> {
    let facts: Json = serde_json::from_slice(&std::fs::read(case.join("case.json")).unwrap()).unwrap();
    let config = config_with("llama", json!({ "_name_or_path": facts["_name_or_path"] }));
    let part =
        |key: &str| (!facts[key].is_null()).then(|| Config::parse(key, &facts[key].to_string()).unwrap());
    let (generation, overrides) = (part("generation"), part("metadata"));
    let card = Card::open(case).unwrap();
    let around = Surroundings {
        folder: facts["folder"].as_str().unwrap(),
        generation: generation.as_ref(),
        card: Some(&card),
        overrides: overrides.as_ref(),
        stored: &[],
        pooling: None,
    };
    let weights = MappedTensor {
        name: "w".into(),
        shape: vec![facts["parameters"].as_u64().unwrap()],
        source: Source::Values(Vec::new()),
        keep: Keep::F32,
    };
    let metadata = arch::metadata(arch::find(&config).unwrap(), &config, &around, &[weights]).unwrap();
    let fixed = ["general.architecture", "general.type"];
    let own = metadata.iter().filter(|(key, _)| key.starts_with("general.") && !fixed.contains(key));
    own.map(|(key, value)| (key.to_owned(), as_json(value))).collect()
}

fn as_json(value: &Value) -> Json {
    match value {
        Value::U32(n) => json!(n),
        Value::I32(n) => json!(n),
        // As the text that has just this many digits.
        Value::F32(n) => serde_json::from_str(&n.to_string()).unwrap(),
        Value::String(s) => json!(s),
        Value::Array(Array::String(list)) => json!(list),
        other => panic!("unexpected {other:?}"),
    }
}

#[test]
fn every_card() {
    let mut count = 0;
    for case in std::fs::read_dir(folder("../cards")).unwrap() {
        let case = case.unwrap().path();
        let expected: Json =
            serde_json::from_slice(&std::fs::read(case.join("expected.json")).unwrap()).unwrap();
        let expected: Vec<_> =
            expected.as_object().unwrap().iter().map(|(k, v)| (k.clone(), same(v))).collect();
        assert_eq!(keys(&case), expected, "{}", case.display());
        count += 1;
    }
    assert!(count >= 12);
}

/// Whole numbers in the form that `as_json` gives floats.
fn same(value: &Json) -> Json {
    match value.as_f64().filter(|_| value.is_f64()) {
        Some(number) => serde_json::from_str(&(number as f32).to_string()).unwrap(),
        None => value.clone(),
    }
}
