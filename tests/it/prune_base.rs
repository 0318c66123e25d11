//! `kquant perplexity --base` with the original of a trimmed vocabulary.
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use crate::support::{Scratch, data, kquant, ok, stderr};

const CUT: [&str; 5] = ["--context", "64", "--chunks", "20", "-q"];

/// A short text, since all of its tokens are kept.
fn short(scratch: &Scratch) -> PathBuf {
    let (whole, path) = (data("corpora/calibration-small.txt"), scratch.path("short.txt"));
    fs::write(&path, fs::read_to_string(whole).unwrap().chars().take(6000).collect::<String>()).unwrap();
    path
}

/// Trims the vocabulary of tiny-llama to `tokens` tokens by `text`, and returns the report.
fn prune(out: &Path, text: &Path, tokens: &str) -> Json {
    let model = data("tiny-llama");
    let args = ["prune", model.to_str().unwrap(), "-o", out.to_str().unwrap(), "--vocab", tokens, "--json"];
    let told = ok(kquant([&args[..], &["--text", text.to_str().unwrap()], &CUT].concat()));
    serde_json::from_str(&told).unwrap()
}

/// Runs `kquant perplexity MODEL --base BASE --text TEXT`, and returns what it prints as JSON.
fn score(model: &Path, base: &Path, text: &Path, more: &[&str]) -> String {
    let args = ["perplexity", model.to_str().unwrap(), "--base", base.to_str().unwrap(), "--json", "-"];
    ok(kquant([&args[..], &["--text", text.to_str().unwrap()], &CUT, more].concat()))
}

fn number(json: &str, pointer: &str) -> f64 {
    let json: Json = serde_json::from_str(json).unwrap();
    json.pointer(pointer).and_then(Json::as_f64).unwrap()
}

#[test]
fn a_trimmed_vocabulary_diverges_as_prune_says() {
    let scratch = Scratch::new("prune-base");
    let (model, out, text) = (data("tiny-llama"), scratch.path("out.gguf"), short(&scratch));
    let report = prune(&out, &text, "1000");
    let count = |key: &str| report[key].as_u64().unwrap();
    assert!(count("of_text") <= count("tokens") && count("tokens") < count("tokens_before"), "{report}");
    let told = report["kl"].as_f64().unwrap();
    let one = score(&out, &model, &text, &["--threads", "1"]);
    let kl = number(&one, "/kl/mean");
    assert!(told > 1e-3 && (kl - told).abs() < 1e-6, "prune: {told}, perplexity: {kl}");
    // The base is scored as by itself: its tokens are the same, with other ids.
    let alone = score(&model, &model, &text, &[]);
    assert_eq!(number(&one, "/base/perplexity/value"), number(&alone, "/perplexity/value"));
    assert!(
        number(&one, "/perplexity/value") < number(&alone, "/perplexity/value"),
        "fewer tokens to choose from"
    );
    let two = score(&out, &model, &text, &["--threads", "2", "--memory", "64M"]);
    assert_eq!(one, two);
}

#[test]
fn texts_of_lost_tokens_are_compared_in_those_that_are_left() {
    let scratch = Scratch::new("prune-base-lost");
    let (model, out, text) = (data("tiny-llama"), scratch.path("out.gguf"), scratch.path("text.txt"));
    prune(&out, &short(&scratch), "1000");
    fs::write(&text, "if (x != 0) { y[i] += 2; } 😀🎉 你好，世界 Quixotic zebras vex. ".repeat(20)).unwrap();
    let scored = score(&out, &model, &text, &[]);
    let kl = number(&scored, "/kl/mean");
    assert!(kl.is_finite() && kl > 0.01, "{kl}");
}

#[test]
fn bases_that_lack_a_token_are_refused() {
    let scratch = Scratch::new("prune-base-refused");
    let (model, out, text) = (data("tiny-llama"), scratch.path("out.gguf"), short(&scratch));
    prune(&out, &text, "1000");
    let other = PathBuf::from("tests/data/archs/mixtral");
    for (model, base) in [(&model, &out), (&out, &other)] {
        let args = ["perplexity", model.to_str().unwrap(), "--base", base.to_str().unwrap()];
        let output = kquant([&args[..], &["--text", text.to_str().unwrap()], &CUT].concat());
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains("different vocabularies") && message.contains("token "), "{message}");
    }
}
