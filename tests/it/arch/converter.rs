//! Keys and tensors equal those of llama.cpp's converter.

use std::collections::BTreeMap;
use std::path::Path;

use kquant::arch::{self, Config};
use kquant::tensor::{MappedTensor, RowOrder, Source};
use kquant_formats::gguf::{Array, Value};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use crate::arch::checkpoint::Memory;
use crate::support::archs;

/// The converter writes no file of them: of the first not at this size, of the second not under the names that it has.
const WITHOUT_RECORD: &[&str] = &["gpt_neox", "bitnet"];

/// Elements that PyTorch rounds to the next number, 0.505 units from the exact exponential: folder, tensor, number of the element.
const ROUNDED_OTHERWISE: &[(&str, &str, usize)] =
    &[("bamba", "blk.0.ssm_a", 6), ("granitemoehybrid", "blk.0.ssm_a", 6)];

/// The tensor as the converter rearranges its rows: as if all of a head turned, where only a part does (Bamba). llama.cpp then turns the
/// wrong pairs, and kquant rearranges the part that turns.
fn as_written(tensor: &MappedTensor) -> MappedTensor {
    match tensor.source {
        Source::Tensor { index, rows: RowOrder::RotaryPart { heads, .. } } => {
            let source = Source::Tensor { index, rows: RowOrder::RotaryPairs { heads } };
            MappedTensor { source, ..tensor.clone() }
        }
        _ => tensor.clone(),
    }
}

/// The values of `tensor` of the folder called `folder` as the converter rounds them.
fn values(checkpoint: &Memory, folder: &str, tensor: &MappedTensor) -> Vec<f32> {
    let mut values = checkpoint.values_of(&as_written(tensor));
    for (_, _, element) in ROUNDED_OTHERWISE.iter().filter(|one| (one.0, one.1) == (folder, &*tensor.name)) {
        values[*element] = values[*element].next_down();
    }
    values
}

#[test]
fn every_folder() {
    let [supported, _] = archs::supported_and_pending();
    for folder in supported {
        let name = folder.file_name().unwrap().to_str().unwrap();
        if !WITHOUT_RECORD.contains(&name) {
            let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
            equals_converter(&folder, name, &Memory::from_safetensors(&bytes), true);
        }
    }
}

/// Families whose weights are not in the repository: keys, names and shapes.
#[test]
fn every_folder_without_weights() {
    let mut count = 0;
    for folder in std::fs::read_dir(crate::arch::folder("../archs-without-weights")).unwrap() {
        let folder = folder.unwrap().path();
        let text = std::fs::read_to_string(folder.join("tensors.json")).unwrap();
        let shapes: BTreeMap<String, Vec<u64>> = serde_json::from_str(&text).unwrap();
        let mut checkpoint = Memory::default();
        for (tensor, shape) in &shapes {
            checkpoint.push(tensor, shape, Vec::new());
        }
        equals_converter(&folder, folder.file_name().unwrap().to_str().unwrap(), &checkpoint, false);
        count += 1;
    }
    assert!(count > 5);
}

fn equals_converter(folder: &Path, name: &str, checkpoint: &Memory, with_values: bool) {
    let expected: Json =
        serde_json::from_slice(&std::fs::read(folder.join("convert.json")).unwrap()).unwrap();
    for layout in ["config.json", "config-v5.json"] {
        let config = Config::open(&folder.join(layout)).unwrap();
        let generation = Config::open(&folder.join("generation_config.json")).unwrap();
        let family = arch::find(&config).unwrap();
        let tensors = family.tensors(&config, checkpoint).unwrap();

        let opened = with_values.then(|| kquant::checkpoint::open(folder).unwrap());
        let stored = opened.map(|opened| family.stored_keys(&config, opened.checkpoint.as_ref()).unwrap());
        let stored = stored.unwrap_or_default();
        let around = arch::Surroundings {
            folder: name,
            generation: Some(&generation),
            stored: &stored,
            pooling: arch::pooling(folder).unwrap(),
            ..Default::default()
        };
        let metadata = arch::metadata(family, &config, &around, &tensors).unwrap();
        let recipe = ["general.file_type", "general.quantization_version"];
        // Some records have the vocabulary's keys, which come from other files.
        let has_vocabulary = !expected["kv"]["tokenizer.ggml.tokens"].is_null();
        let is_other =
            |key: &str| recipe.contains(&key) || (has_vocabulary && key.starts_with("tokenizer.ggml."));
        let keys: Vec<_> = expected["kv"].as_object().unwrap().iter().filter(|(k, _)| !is_other(k)).collect();
        let ours: Vec<_> = metadata.iter().map(|(key, value)| (key.to_owned(), as_json(value))).collect();
        let theirs: Vec<_> = keys.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        assert_eq!(ours, theirs, "{name}/{layout}");

        let mut expected = expected["tensors"].as_array().unwrap().clone();
        if !with_values {
            expected.iter_mut().for_each(|t| t["sha256"] = "".into());
        }
        let ours: Vec<_> = tensors
            .iter()
            .map(|t| {
                if !with_values {
                    return serde_json::json!({ "name": t.name, "shape": t.shape, "type": "F32", "sha256": "" });
                }
                let bytes: Vec<u8> = values(checkpoint, name, t).iter().flat_map(|v| v.to_le_bytes()).collect();
                let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
                serde_json::json!({ "name": t.name, "shape": t.shape, "type": "F32", "sha256": hash })
            })
            .collect();
        assert_eq!(ours, expected, "{name}/{layout}");
    }
}

fn as_json(value: &Value) -> Json {
    match value {
        Value::U32(n) => Json::from(*n),
        Value::F32(n) => Json::from(f64::from(*n)),
        Value::Bool(b) => Json::from(*b),
        Value::String(s) => Json::from(s.as_str()),
        Value::Array(Array::I32(list)) => Json::from(list.as_slice()),
        Value::Array(Array::Bool(list)) => Json::from(list.as_slice()),
        Value::Array(Array::F32(list)) => list.iter().map(|&n| f64::from(n)).collect(),
        other => panic!("unexpected {other:?}"),
    }
}
