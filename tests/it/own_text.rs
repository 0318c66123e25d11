//! Calibration on text that the model writes itself, and scores on several texts.
use std::fs;
use std::path::{Path, PathBuf};

use kquant::checkpoint::{Origin, open};
use kquant_formats::gguf::{Metadata, Value};
use kquant_formats::hessian::HessianFile;
use kquant_formats::imatrix::Imatrix;
use serde_json::Value as Json;

use crate::support::{Scratch, data, kquant, ok, quantize, refused, stderr};

/// Text enough for a few tokens per column.
const CUT: [&str; 4] = ["--context", "64", "--chunks", "64"];

fn calibration() -> PathBuf {
    data("corpora/calibration-small.txt")
}

fn metadata(file: &Path) -> Metadata {
    match open(file).unwrap().origin {
        Origin::Gguf { metadata } => metadata,
        Origin::HuggingFace { .. } => panic!("no GGUF"),
    }
}

/// A calibration key of a GGUF's metadata.
fn key(file: &Path, name: &str) -> Option<Value> {
    metadata(file).get(&format!("quantize.calibration.{name}")).cloned()
}

/// Mean KL divergence of `file` from `model` on the small evaluation text.
fn divergence(file: &Path, model: &Path) -> f64 {
    let [file, model, text] =
        [file, model, &data("corpora/eval-small.txt")].map(|p| p.to_str().unwrap().to_owned());
    let args =
        ["perplexity", &file, "--base", &model, "--text", &text, "--context", "128", "--chunks", "40", "-q"];
    let report: Json = serde_json::from_str(&ok(kquant([&args[..], &["--json", "-"]].concat()))).unwrap();
    report["kl"]["mean"].as_f64().unwrap()
}

#[test]
fn without_a_text_the_model_writes_one_and_rounding_gains_by_it() {
    let (scratch, model) = (Scratch::new("own-text"), data("tiny-llama"));
    let made = |name: &str, more: &[&str]| {
        let out = scratch.path(name);
        let output = quantize(&model, &out, "Q3_K_S", &[&CUT[..], more].concat());
        let told = stderr(&output);
        ok(output);
        (out, told)
    };
    let (own, told) = made("own.gguf", &["--quality", "good", "--threads", "1"]);
    assert!(told.contains("no text is given, so that the model writes its own"), "{told}");
    assert_eq!(key(&own, "text"), Some("own text".into()));
    assert_eq!(key(&own, "tokens"), Some(Value::U64(64 * 64)));
    assert_eq!(key(&own, "own_text_tokens"), Some(Value::U64(64 * 64)));
    assert_eq!(key(&own, "own_text_seed"), Some(Value::U64(0)));
    let (plain, _) = made("plain.gguf", &["--encoder", "ggml"]);
    let (gained, lost) = (divergence(&own, &model), divergence(&plain, &model));
    assert!(gained < 0.8 * lost, "{gained} after calibration on own text, {lost} without");

    let bytes = fs::read(&own).unwrap();
    for (name, more) in [
        ("threads.gguf", ["--own-text", "100%", "--threads", "2"]),
        ("memory.gguf", ["--own-text", "1", "--memory", "40M"]),
    ] {
        let (other, told) = made(name, &more);
        assert!(!told.contains("no text is given"), "{told}");
        assert!(fs::read(&other).unwrap() == bytes, "{more:?} changes the file");
    }
    let (other, _) = made("seed.gguf", &["--quality", "good", "--seed", "5"]);
    assert_eq!(key(&other, "own_text_seed"), Some(Value::U64(5)));
    assert!(fs::read(&other).unwrap() != bytes);
}

#[test]
fn a_share_of_a_text_is_the_models_own() {
    let (scratch, model) = (Scratch::new("own-share"), data("tiny-llama"));
    let text = calibration();
    let out = scratch.path("half.gguf");
    let half = ["--calibrate", text.to_str().unwrap(), "--own-text", "50%"];
    ok(quantize(&model, &out, "Q4_0", &[&CUT[..], &half, &["--quality", "fast"]].concat()));
    let source = metadata(&out).get("quantize.imatrix.file").cloned();
    assert!(format!("{source:?}").contains("calibration-small.txt + own text"), "{source:?}");

    let statistics = |name: &str, more: &[&str]| {
        let out = scratch.path(name);
        let paths = ["calibrate", model.to_str().unwrap(), "-o", out.to_str().unwrap(), "-q", "--hessian"];
        ok(kquant([&paths[..], more].concat()));
        HessianFile::open(&out).unwrap()
    };
    // Chunks that the option counts are those of both texts together; without it the text is used whole.
    let file = ["--text", text.to_str().unwrap(), "--context", "64"];
    let chunks = |file: &HessianFile| file.description().chunks;
    let whole = statistics("whole.gguf", &file);
    assert_eq!(
        chunks(&statistics("cut.gguf", &[&file[..], &["--own-text", "25%", "--chunks", "80"]].concat())),
        80
    );
    let beside = statistics("beside.gguf", &[&file[..], &["--own-text", "0.2"]].concat());
    assert_eq!(chunks(&beside), chunks(&whole) + (f64::from(chunks(&whole)) / 4.0).round() as u32);
    assert_ne!(beside.description().blocks, whole.description().blocks);
}

#[test]
fn parts_of_the_models_own_text_add_up() {
    let (scratch, model) = (Scratch::new("own-parts"), data("tiny-llama"));
    let calibrate = |name: &str, more: &[&str]| {
        let out = scratch.path(name);
        let paths = ["calibrate", model.to_str().unwrap(), "-o", out.to_str().unwrap(), "-q", "--hessian"];
        ok(kquant([&paths[..], &CUT, more].concat()));
        out
    };
    let whole = calibrate("whole.gguf", &[]);
    let parts = ["1/2", "2/2"].map(|part| calibrate(&format!("{}.gguf", &part[..1]), &["--part", part]));
    let merged = scratch.path("merged.gguf");
    let files = [&parts[0], &parts[1], &merged].map(|p| p.to_str().unwrap());
    ok(kquant(["imatrix", "merge", files[0], files[1], "-o", files[2]]));
    assert!(fs::read(&merged).unwrap() == fs::read(&whole).unwrap());
    assert_eq!(Imatrix::open(&whole).unwrap().datasets, ["own text"]);
}

#[test]
fn contradictions_about_own_text_are_refused() {
    let (scratch, model) = (Scratch::new("own-refused"), data("tiny-llama"));
    let (out, text) = (scratch.path("out.gguf"), calibration());
    let text = text.to_str().unwrap();
    let statistics = scratch.path("statistics.gguf");
    for (more, why) in [
        (&["--own-text", "50%"][..], "there is no text for the other part"),
        (&["--own-text", "150%"], "give 0% to 100%"),
        (&["--own-text", "half"], "give 0% to 100%"),
        (&["--own-text", "100%", "--calibrate", text], "nothing of the text would be used"),
        (&["--own-text", "60%", "--calibrate", text, "--chunks", "1"], "nothing of the text would be used"),
        (&["--own-text", "100%", "--statistics", statistics.to_str().unwrap()], "leave one out"),
        (&["--own-text", "100%", "--context", "2"], "at least 3 tokens"),
        (&["--own-text", "100%", "--chunks", "0"], "number of tokens to sample is 0"),
    ] {
        refused(&more.join(" "), &quantize(&model, &out, "Q4_0", more), why, &out);
    }
    // Without a word on a text, quality or size nothing is calibrated.
    ok(quantize(&model, &out, "Q4_0", &[]));
    assert_eq!(key(&out, "tokens"), None);
}

#[test]
fn several_texts_are_scored_and_the_worst_is_named() {
    let (scratch, model) = (Scratch::new("texts"), data("tiny-llama"));
    let (out, eval) = (scratch.path("out.gguf"), data("corpora/eval-small.txt"));
    let random = scratch.path("random.txt");
    let digits: String = (0..6000u32).map(|i| format!("{} ", i.wrapping_mul(2_654_435_761) >> 12)).collect();
    fs::write(&random, digits).unwrap();
    let texts = ["--verify", eval.to_str().unwrap(), "--verify", random.to_str().unwrap()];
    let cut = ["--context", "128", "--chunks", "8"];
    let told = ok(quantize(&model, &out, "Q3_K_S", &[&texts[..], &cut, &["--json", "-q"]].concat()));
    let proof = &serde_json::from_str::<Json>(&told).unwrap()["proof"];
    let kl = |i: usize| proof["texts"][i]["kl"]["mean"].as_f64().unwrap();
    let worst = usize::from(kl(1) > kl(0));
    assert_eq!(proof["worst"], [&eval, &random][worst].to_str().unwrap());
    assert!(kl(0) > 0.0 && kl(0) != kl(1));

    let scored = |more: &[&str]| {
        let args = ["perplexity", out.to_str().unwrap(), "--base", model.to_str().unwrap(), "-q"];
        kquant([&args[..], &cut, more].concat())
    };
    let [a, b] = [eval.to_str().unwrap(), random.to_str().unwrap()];
    let both = ok(scored(&["--text", a, "--text", b]));
    assert!(both.contains("worst of 2 texts: KL divergence"), "{both}");
    let json: Json = serde_json::from_str(&ok(scored(&["--text", b, "--text", a, "--json", "-"]))).unwrap();
    assert_eq!(
        [&json["texts"][0]["kl"], &json["texts"][1]["kl"]],
        [&proof["texts"][1]["kl"], &proof["texts"][0]["kl"]]
    );

    // The limit holds on each of the texts.
    let between = f64::midpoint(kl(0), kl(1)).to_string();
    let limited = [&texts[..], &cut, &["--max-kl", &between, "-q", "--force"]].concat();
    assert_eq!(quantize(&model, &out, "Q3_K_S", &limited).status.code(), Some(1));
    let logits = scratch.path("logits");
    let refusal = scored(&["--text", a, "--text", b, "--save-logits", logits.to_str().unwrap()]);
    refused("logits", &refusal, "of one text", &logits);
}
