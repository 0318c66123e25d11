//! Models of fewer layers, of small models of all families.

use std::path::{Path, PathBuf};

use kquant_formats::gguf::{Array, Value};

use super::{LayersError, keep_layers, period, without};
use crate::model::Model;

/// The small models of all families that predict tokens.
fn archs() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/archs");
    let mut all: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.retain(|folder| folder.join("logits.f32").exists());
    all.sort();
    all
}

#[test]
fn every_family_has_a_period_and_its_layers_are_renumbered() {
    let mut shorter = 0;
    for path in archs() {
        let model = Model::open(&path, None).unwrap();
        let (input, layers) = (model.converted(), model.hyper.layers as u32);
        let period = period(input).unwrap() as u32;
        assert!((1..=layers).contains(&period), "{}", path.display());
        let Ok(left) = keep_layers(input, &(period..layers).collect::<Vec<_>>()) else {
            assert_eq!(period, layers, "{}", path.display());
            continue;
        };
        shorter += 1;
        for tensor in &input.tensors {
            let (name, layer) = (&tensor.name, crate::tensor::TensorName(&tensor.name).layer());
            let new = match layer {
                None => Some(name.clone()),
                Some(layer) if layer >= period => {
                    Some(name.replacen(&format!("blk.{layer}."), &format!("blk.{}.", layer - period), 1))
                }
                Some(_) => None,
            };
            let found = new
                .as_ref()
                .map(|name| left.tensors.iter().any(|t| t.name == *name && t.source == tensor.source));
            assert_ne!(found, Some(false), "{}: {name}", path.display());
        }
        let key = format!("{}.block_count", model.hyper.architecture);
        assert_eq!(left.metadata.get(&key), Some(&Value::U32(layers - period)));
    }
    assert!(shorter > 8, "{shorter} families could be cut");
}

#[test]
fn layers_that_read_what_others_made_stay_together() {
    let path = archs().into_iter().find(|path| path.ends_with("gemma4")).unwrap();
    let model = Model::open(&path, None).unwrap();
    let error = keep_layers(model.converted(), &[0, 1, 2, 3, 4, 5, 6]).unwrap_err();
    assert!(matches!(error, LayersError::Linked(_)) && error.to_string().contains("`gemma4`"), "{error}");
}

#[test]
fn windows_of_every_second_layer_stay_where_they_are() {
    let path = archs().into_iter().find(|path| path.ends_with("gpt_oss")).unwrap();
    let model = Model::open(&path, None).unwrap();
    let layers = model.hyper.layers as u32;
    assert!(period(model.converted()).unwrap() == 2 && layers >= 2);
    let error = keep_layers(model.converted(), &(1..layers).collect::<Vec<_>>()).unwrap_err();
    assert!(matches!(error, LayersError::Kind { layer: 1, becomes: 0, period: 2, .. }), "{error}");
    let error = error.to_string();
    assert!(error.contains("`gpt-oss`") && error.contains("2 neighbouring layers"), "{error}");
}

#[test]
fn lists_and_counts_of_layers_follow() {
    let path = archs().into_iter().find(|path| path.ends_with("deepseek_v3")).unwrap();
    let model = Model::open(&path, None).unwrap();
    let mut input = model.converted().clone();
    let layers = model.hyper.layers as u32;
    let list = |numbers: &[u32]| Value::Array(Array::U32(numbers.to_vec()));
    let all: Vec<u32> = (0..layers).collect();
    input.metadata.set("deepseek2.of_each_layer", list(&all));
    input.metadata.set("deepseek2.rope.dimension_sections", list(&all));
    input.metadata.set("deepseek2.of_others", list(&[all.as_slice(), &[9]].concat()));
    assert_eq!(model.hyper.dense_layers, 1);
    let left = keep_layers(&input, &all[1..]).unwrap();
    let key = |name: &str| left.metadata.get(&format!("deepseek2.{name}")).unwrap();
    assert_eq!(key("of_each_layer"), &list(&all[1..]));
    assert_eq!(key("rope.dimension_sections"), &list(&all));
    assert_eq!(key("of_others"), &list(&[all.as_slice(), &[9]].concat()));
    assert_eq!(key("leading_dense_block_count"), &Value::U32(0));
}

#[test]
fn layers_that_are_not_there_are_refused() {
    let path = archs().into_iter().find(|path| path.ends_with("llama")).unwrap();
    let model = Model::open(&path, None).unwrap();
    let (input, layers) = (model.converted(), model.hyper.layers);
    assert!(matches!(without(input, &[7]), Err(LayersError::NoLayer { layer: 7, .. })));
    for kept in [Vec::new(), (0..layers as u32).collect()] {
        assert!(matches!(keep_layers(input, &kept), Err(LayersError::Count { .. })));
    }
}
