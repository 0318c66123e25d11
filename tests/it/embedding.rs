//! Embedding models: conversion as llama.cpp's, states and embeddings as sentence-transformers', comparison of two models.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use kquant::arch::Pooling;
use kquant::context::{Context, Silent};
use kquant::evaluate::{embeddings, pooling_of};
use kquant::hash::digest;
use kquant::model::{Model, Pass};
use serde_json::Value as Json;

use crate::support::{Scratch, data, kquant, ok, quantize, stderr};

/// Largest absolute difference of a value: two orders of summation in f32.
const EXACT: f32 = 5e-5;

fn folder() -> PathBuf {
    data("embeddings/qwen3-embedding")
}

fn read(path: &Path) -> Json {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn floats(name: &str) -> Vec<f32> {
    let bytes = fs::read(folder().join(name)).unwrap();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn assert_close(case: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{case}");
    assert!(theirs.iter().any(|v| v.abs() > 100.0 * EXACT), "{case}: nothing to compare");
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= EXACT, "{case}: value {i} is {a}, not {b}");
    }
}

#[test]
fn keys_and_tensors_are_those_of_the_converter() {
    let scratch = Scratch::new("embedding-converter");
    let gguf = scratch.path("Qwen3-Embedding.gguf");
    ok(quantize(&folder(), &gguf, "F32", &[]));
    let expected = read(&folder().join("convert.json"));
    let shown: Json =
        serde_json::from_str(&ok(kquant(["inspect", "--json", gguf.to_str().unwrap()]))).unwrap();
    for (key, value) in expected["kv"].as_object().unwrap() {
        // The name is made of the folder's.
        if key != "general.name" {
            assert_eq!(&shown["metadata"][key]["value"], value, "{key}");
        }
    }
    assert_eq!(shown["metadata"]["qwen3.pooling_type"]["value"], 3);
    let hashes = |list: &[Json]| -> BTreeMap<String, String> {
        list.iter()
            .map(|t| (t["name"].as_str().unwrap().into(), t["sha256"].as_str().unwrap().into()))
            .collect()
    };
    let ours: BTreeMap<String, String> = digest(&gguf)
        .unwrap()
        .into_iter()
        .flat_map(|file| file.tensors)
        .map(|t| (t.name, t.sha256))
        .collect();
    assert_eq!(ours, hashes(expected["tensors"].as_array().unwrap()));
}

#[test]
fn states_and_embeddings_are_those_of_transformers() {
    let scratch = Scratch::new("embedding-states");
    let gguf = scratch.path("f32.gguf");
    ok(quantize(&folder(), &gguf, "F32", &[]));
    let tokens: Vec<u32> =
        serde_json::from_value(read(&folder().join("expected.json"))["tokens"].clone()).unwrap();
    let cancel = AtomicBool::new(false);
    for path in [folder(), gguf] {
        let model = Model::open(&path, None).unwrap();
        assert_eq!(pooling_of(&model), Some(Pooling::Last));
        let pass = Pass { context: tokens.len(), memory: 1 << 28, cancel: &cancel, progress: &Silent };
        let hidden = model.hidden(&tokens, &pass, None, 0).unwrap();
        let states = model.head(0).unwrap().normed(hidden.rows(0, tokens.len()));
        assert_close("states", &states, &floats("hidden.f32"));
        // Other texts beside it, shorter and longer, change nothing that can be seen.
        let texts = [tokens[..3].to_vec(), tokens.clone(), [&tokens[..], &tokens].concat()];
        let run = Context { memory: 1 << 28, cancel: &cancel, progress: &Silent };
        let all = embeddings(&model, Pooling::Last, &texts, &run).unwrap();
        assert_close("embedding", &all[1], &floats("embedding.f32"));
        let short = embeddings(&model, Pooling::Last, &texts[..1], &run).unwrap();
        assert_eq!(short[0], all[0]);
    }
}

#[test]
fn embeddings_of_two_models_are_compared() {
    let scratch = Scratch::new("embedding-compare");
    let [q8, q4] = [("Q8_0", "q8.gguf"), ("Q4_0", "q4.gguf")].map(|(kind, name)| {
        let out = scratch.path(name);
        ok(quantize(&folder(), &out, kind, &[]));
        out
    });
    let (folder, text) = (folder(), data("corpora/eval-small.txt"));
    let run = |model: &Path, more: &[&str]| {
        let args = [
            "evaluate",
            model.to_str().unwrap(),
            "--embedding",
            text.to_str().unwrap(),
            "--paragraphs",
            "60",
        ];
        kquant(args.iter().chain(more))
    };
    let base = ["--base", folder.to_str().unwrap(), "--json"];
    let of = |model: &Path| -> Json { serde_json::from_str(&ok(run(model, &base))).unwrap() };
    let (better, worse, same) = (of(&q8), of(&q4), of(&folder));
    let number = |report: &Json, key: &str| report[key].as_f64().unwrap();
    assert!(number(&same, "mean_cosine") > 0.999_999 && number(&same, "shared_neighbours") == 1.0);
    for key in ["mean_cosine", "worst_cosine", "shared_neighbours"] {
        assert!(number(&better, key) > number(&worse, key), "{key}: {better} and {worse}");
    }
    assert!(number(&better, "mean_cosine") > 0.999 && better["texts"] == 60);
    assert!(ok(run(&q4, &base[..2])).contains("worst cosine"));
    let embedded: Json = serde_json::from_str(&ok(run(&q4, &["--json"]))).unwrap();
    assert_eq!(embedded["embeddings"].as_array().unwrap().len(), 60);
    assert_eq!(embedded["embeddings"][0].as_array().unwrap().len(), 64);
}

#[test]
fn each_kind_of_model_is_sent_to_its_command() {
    let text = data("corpora/eval-small.txt");
    let (folder, text) = (folder(), text.to_str().unwrap());
    let refused = kquant(["perplexity", folder.to_str().unwrap(), "--text", text]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("kquant evaluate MODEL --embedding"), "{}", stderr(&refused));
    let tiny = data("tiny-llama");
    let refused = kquant(["evaluate", tiny.to_str().unwrap(), "--embedding", text]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("is no embedding model"), "{}", stderr(&refused));
}
