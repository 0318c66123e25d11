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

use crate::support::{Scratch, archs, data, kquant, ok, quantize, stderr};

/// Largest absolute difference of a value: two orders of summation in f32.
const EXACT: f32 = 5e-5;

/// The model that is a decoder, whose folder is not among those of families.
fn decoder() -> PathBuf {
    data("embeddings/qwen3-embedding")
}

/// An encoder of each family.
fn encoders() -> Vec<PathBuf> {
    let is_encoder = |folder: &PathBuf| !folder.ends_with("qwen3-embedding");
    archs::embedding_models().into_iter().filter(is_encoder).collect()
}

fn all() -> Vec<PathBuf> {
    encoders().into_iter().chain([decoder()]).collect()
}

fn read(path: &Path) -> Json {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn floats(path: &Path) -> Vec<f32> {
    let bytes = fs::read(path).unwrap();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// A copy of `folder` with the configuration that transformers 5 writes.
fn newer(folder: &Path, scratch: &Scratch) -> PathBuf {
    let copy = scratch.path("newer");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let to = copy.join(entry.file_name().unwrap());
        if entry.is_dir() {
            fs::create_dir(&to).unwrap();
            for inner in fs::read_dir(&entry).unwrap().map(|inner| inner.unwrap().path()) {
                fs::copy(&inner, to.join(inner.file_name().unwrap())).unwrap();
            }
        } else {
            fs::copy(&entry, to).unwrap();
        }
    }
    fs::copy(folder.join("config-v5.json"), copy.join("config.json")).unwrap();
    copy
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
    for folder in all() {
        let scratch = Scratch::new("embedding-converter");
        for source in [folder.clone(), newer(&folder, &scratch)] {
            equals_converter(&source, &folder, &scratch);
        }
    }
}

fn equals_converter(source: &Path, folder: &Path, scratch: &Scratch) {
    let case = source.display();
    let gguf = scratch.path("model.gguf");
    ok(quantize(source, &gguf, "F32", &["--force"]));
    let expected = read(&folder.join("convert.json"));
    let shown: Json =
        serde_json::from_str(&ok(kquant(["inspect", "--json", gguf.to_str().unwrap()]))).unwrap();
    // The name is made of the folder's.
    let is_other = |key: &str| key.starts_with("tokenizer.") || key == "general.name";
    let ours = shown["metadata"].as_object().unwrap();
    let ours: Vec<(&String, &Json)> =
        ours.iter().map(|(key, shown)| (key, &shown["value"])).filter(|(key, _)| !is_other(key)).collect();
    let theirs = expected["kv"].as_object().unwrap();
    let file_type = |list: Vec<(&String, &Json)>| -> BTreeMap<String, Json> {
        list.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    let wanted: Vec<(&String, &Json)> = theirs.iter().filter(|(key, _)| !is_other(key)).collect();
    // The recipe's keys come at another place in the converter's file; the order of the others is the same.
    let order = |list: &[(&String, &Json)]| -> Vec<String> {
        let keys = list.iter().map(|(key, _)| (*key).clone());
        keys.filter(|key| !["general.file_type", "general.quantization_version"].contains(&key.as_str()))
            .collect()
    };
    assert_eq!(order(&ours), order(&wanted), "{case}");
    assert_eq!(file_type(ours), file_type(wanted), "{case}");
    let hashes = |list: &[Json]| -> BTreeMap<String, String> {
        let text = |json: &Json| json.as_str().unwrap().to_owned();
        list.iter().map(|t| (text(&t["name"]), text(&t["sha256"]))).collect()
    };
    let files = digest(&gguf).unwrap().into_iter().flat_map(|file| file.tensors);
    let ours: BTreeMap<String, String> = files.map(|t| (t.name, t.sha256)).collect();
    assert_eq!(ours, hashes(expected["tensors"].as_array().unwrap()), "{case}");
}

#[test]
fn states_and_embeddings_are_those_of_transformers() {
    for folder in all() {
        let scratch = Scratch::new("embedding-states");
        let gguf = scratch.path("f32.gguf");
        ok(quantize(&folder, &gguf, "F32", &[]));
        let newer = newer(&folder, &scratch);
        for path in [&folder, &gguf, &newer] {
            equals_transformers(path, &folder);
        }
    }
}

fn equals_transformers(path: &Path, folder: &Path) {
    let case = path.display().to_string();
    let expected = read(&folder.join("expected.json"));
    let tokens: Vec<u32> = serde_json::from_value(expected["tokens"].clone()).unwrap();
    let pooling = match expected["pooling"].as_str() {
        Some("cls") => Pooling::First,
        Some("mean") => Pooling::Mean,
        _ => Pooling::Last,
    };
    let cancel = AtomicBool::new(false);
    let model = Model::open_to_embed(path, None).unwrap();
    assert_eq!(pooling_of(&model), Some(pooling), "{case}");
    let pass = Pass { context: tokens.len(), memory: 1 << 28, cancel: &cancel, progress: &Silent };
    let hidden = model.hidden(&tokens, &pass, None, 0).unwrap();
    let states = model.head(0).unwrap().normed(hidden.rows(0, tokens.len()));
    assert_close(&format!("{case}: states"), &states, &floats(&folder.join("hidden.f32")));
    // Other texts beside it, shorter and longer, change nothing that can be seen.
    let texts = [tokens[..3].to_vec(), tokens.clone(), [&tokens[..], &tokens].concat()];
    let run = Context { memory: 1 << 28, cancel: &cancel, progress: &Silent };
    let all = embeddings(&model, pooling, &texts, &run).unwrap();
    assert_close(&format!("{case}: embedding"), &all[1], &floats(&folder.join("embedding.f32")));
    let short = embeddings(&model, pooling, &texts[..1], &run).unwrap();
    assert_eq!(short[0], all[0], "{case}");
}

/// Texts that llama.cpp's Unigram tokenizer cannot cut as the model does: a space at the end, and spaces beside added tokens.
const CUT_OTHERWISE: [(&str, &str); 2] =
    [("xlm-roberta", "  Two  spaces and\ttabs\nand lines "), ("xlm-roberta", "[MASK] <mask> </s>")];

#[test]
fn texts_of_encoders_are_cut_as_recorded() {
    let mut compared = 0;
    for folder in encoders() {
        let name = folder.file_name().unwrap().to_str().unwrap();
        let tokenizer = Model::open_to_embed(&folder, None).unwrap().tokenizer().unwrap();
        for recorded in read(&folder.join("expected.json"))["texts"].as_array().into_iter().flatten() {
            let text = recorded[0].as_str().unwrap();
            if CUT_OTHERWISE.contains(&(name, text)) {
                continue;
            }
            let expected: Vec<u32> = serde_json::from_value(recorded[1].clone()).unwrap();
            let inner = tokenizer.encode(text, true).unwrap();
            let ids: Vec<u32> =
                tokenizer.add_bos().into_iter().chain(inner).chain(tokenizer.add_eos()).collect();
            assert_eq!(ids, expected, "{name}: {text:?}");
            compared += 1;
        }
    }
    assert!(compared >= 28, "{compared} texts");
}

#[test]
fn encoders_are_quantized_and_compared() {
    let text = data("corpora/eval-small.txt");
    for folder in encoders() {
        let scratch = Scratch::new("embedding-types");
        let cosine = |kind: &str| {
            let out = scratch.path(&format!("{kind}.gguf"));
            ok(quantize(&folder, &out, kind, &[]));
            let [out, folder, text] = [&out, &folder, &text].map(|path| path.to_str().unwrap());
            let args =
                ["evaluate", out, "--embedding", text, "--base", folder, "--paragraphs", "20", "--json"];
            let report: Json = serde_json::from_str(&ok(kquant(args))).unwrap();
            report["mean_cosine"].as_f64().unwrap()
        };
        let [same, close, far] = ["BF16", "Q8_0", "Q4_K_M"].map(cosine);
        let case = folder.display();
        assert!(
            same > 0.999_999 && close > 0.999 && far < close && far > 0.9,
            "{case}: {same} {close} {far}"
        );
    }
}

/// What enters linear maps is all that calibration without gradients needs, and it makes up for errors in encoders as in decoders.
#[test]
fn encoders_are_calibrated() {
    let [calibration, text] = ["calibration", "eval"].map(|name| data(&format!("corpora/{name}-small.txt")));
    let [calibration, text] = [&calibration, &text].map(|path| path.to_str().unwrap());
    for folder in encoders() {
        let scratch = Scratch::new("embedding-calibrated");
        let loss = |more: &[&str]| {
            let out = scratch.path("out.gguf");
            ok(quantize(&folder, &out, "Q4_0", &[&["--force", "--pure"], more].concat()));
            let args =
                ["evaluate", out.to_str().unwrap(), "--embedding", text, "--paragraphs", "40", "--json"];
            let args = args.into_iter().chain(["--base", folder.to_str().unwrap()]);
            let report: Json = serde_json::from_str(&ok(kquant(args))).unwrap();
            1.0 - report["mean_cosine"].as_f64().unwrap()
        };
        let calibrated = ["--calibrate", calibration, "--context", "64", "--chunks", "64"];
        let [plain, good] = [loss(&["--encoder", "ggml"]), loss(&calibrated)];
        assert!(good < 0.8 * plain, "{}: {good} with calibration, {plain} without", folder.display());
    }
}

#[test]
fn encoders_are_refused_where_tokens_are_predicted() {
    let scratch = Scratch::new("embedding-refused");
    let folder = encoders().remove(0);
    let (model, text) = (folder.to_str().unwrap().to_owned(), data("corpora/eval-small.txt"));
    let (text, out) = (text.to_str().unwrap(), scratch.path("out.gguf"));
    let out = out.to_str().unwrap();
    for args in [
        &["perplexity", &model, "--text", text][..],
        &["generate", &model, "--prompt", "a"],
        &["sample", &model, "-o", out, "--tokens", "10"],
        &["calibrate", &model, "--text", text, "-o", out, "--fisher"],
        &["calibrate", &model, "-o", out],
        &["prune", &model, "-o", out, "--layers", "1", "--text", text],
        &["prune", &model, "-o", out, "--vocab", "200", "--text", text],
        &["prune", &model, "-o", out, "--drop-layers", "1"],
        &["teach", &model, "--text", text, "-o", out],
        &["distill", &model, "--teacher", &model, "--text", text, "-o", out],
        &["prices", &model, "-o", out],
        &["quantize", &model, "-o", out, "--type", "Q4_0", "--calibrate", text, "--quality", "best"],
        &["quantize", &model, "-o", out, "--type", "Q4_0", "--quality", "good"],
        &["quantize", &model, "-o", out, "--size", "100K", "--calibrate", text],
        &["quantize", &model, "-o", out, "--type", "Q4_0", "--verify", text],
    ] {
        let refused = kquant(args);
        let message = stderr(&refused);
        assert_eq!(refused.status.code(), Some(2), "{args:?}: {message}");
        assert!(message.contains("is an encoder, which embeds texts"), "{args:?}: {message}");
        assert!(!Path::new(out).exists(), "{args:?}");
    }
    let shown = ok(kquant(["inspect", &model]));
    assert!(shown.contains("an encoder"), "{shown}");
}

#[test]
fn embeddings_of_two_models_are_compared() {
    let scratch = Scratch::new("embedding-compare");
    let [q8, q4] = [("Q8_0", "q8.gguf"), ("Q4_0", "q4.gguf")].map(|(kind, name)| {
        let out = scratch.path(name);
        ok(quantize(&decoder(), &out, kind, &[]));
        out
    });
    let (folder, text) = (decoder(), data("corpora/eval-small.txt"));
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
    let (folder, text) = (decoder(), text.to_str().unwrap());
    let refused = kquant(["perplexity", folder.to_str().unwrap(), "--text", text]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("kquant evaluate MODEL --embedding"), "{}", stderr(&refused));
    let tiny = data("tiny-llama");
    let refused = kquant(["evaluate", tiny.to_str().unwrap(), "--embedding", text]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("is no embedding model"), "{}", stderr(&refused));
}
