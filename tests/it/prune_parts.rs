//! `kquant prune` of layers, experts and heads through the whole program.
use std::fs;
use std::path::Path;
use std::process::Output;

use kquant::checkpoint::{Origin, open};
use kquant_formats::gguf::{Array, Metadata, Value};
use serde_json::Value as Json;

use crate::support::{Scratch, data, kquant, ok, refused};

/// Runs `kquant prune MODEL -o OUT --type F32 ...`.
fn pruned(model: &Path, out: &Path, more: &[&str]) -> Output {
    let paths = ["prune", model.to_str().unwrap(), "-o", out.to_str().unwrap(), "--type", "F32"];
    kquant([&paths[..], &["-q", "--json", "--context", "64", "--chunks", "48"], more].concat())
}

fn by_text(more: &[&str]) -> Vec<String> {
    let text = data("corpora/calibration-small.txt");
    more.iter().copied().chain(["--text", text.to_str().unwrap()]).map(str::to_owned).collect()
}

/// Runs [`pruned`] with the calibration text of the tests, and returns the report.
fn report(model: &Path, out: &Path, more: &[&str]) -> Json {
    let more = by_text(more);
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    serde_json::from_str(&ok(pruned(model, out, &more))).unwrap()
}

/// Mean KL divergence of `file` from `model` on the small evaluation text.
fn divergence(file: &Path, model: &Path) -> f64 {
    let [file, model, text] =
        [file, model, &data("corpora/eval-small.txt")].map(|p| p.to_str().unwrap().to_owned());
    let args = ["perplexity", &file, "--base", &model, "--text", &text, "-q", "--json", "-"];
    let told = ok(kquant([&args[..], &["--context", "64", "--chunks", "32"]].concat()));
    serde_json::from_str::<Json>(&told).unwrap()["kl"]["mean"].as_f64().unwrap()
}

fn keys(file: &Path) -> Metadata {
    let Origin::Gguf { metadata } = open(file).unwrap().origin else { panic!("no GGUF") };
    metadata
}

fn number(keys: &Metadata, key: &str) -> Option<u64> {
    keys.get(key).and_then(Value::as_u64)
}

#[test]
fn layers_go_by_name_without_a_text_and_by_number_with_one() {
    let (scratch, model) = (Scratch::new("prune-layers"), data("tiny-llama"));
    let [named, chosen, shortgpt] = ["named", "chosen", "shortgpt"].map(|name| scratch.path(name));
    let told: Json = serde_json::from_str(&ok(pruned(&model, &named, &["--drop-layers", "1"]))).unwrap();
    assert_eq!((&told["layers_before"], &told["layers"]), (&2.into(), &1.into()));
    let found = keys(&named);
    assert_eq!(number(&found, "llama.block_count"), Some(1));
    assert_eq!(found.get("kquant.pruned.layers"), Some(&Value::Array(Array::U32(vec![1]))));

    let told = report(&model, &chosen, &["--layers", "1"]);
    let cut = told["cut"][0].as_u64().unwrap() as usize;
    let kl = |layer: usize| told["costs"][layer]["kl"].as_f64().unwrap();
    assert!(kl(cut) <= kl(1 - cut), "{told}");
    assert!(told["made_up"]["kl"].as_f64() < told["made_up"]["kl_before"].as_f64(), "{told}");
    assert!(keys(&chosen).get("kquant.pruned.text.sha256").is_some());
    // What is left makes up for the layer: the same layer cut by name costs more.
    let plain = scratch.path("plain");
    ok(pruned(&model, &plain, &["--drop-layers", &cut.to_string()]));
    let [made_up, plain] = [&chosen, &plain].map(|file| divergence(file, &model));
    assert!(made_up < plain, "{made_up} made up for, {plain} not");

    let told = report(&model, &shortgpt, &["--layers", "1", "--score", "shortgpt"]);
    assert!(told["costs"][0]["kl"].is_null() && told["costs"][0]["influence"].as_f64() > Some(0.0), "{told}");
}

#[test]
fn experts_and_heads_of_each_layer_are_fewer() {
    let scratch = Scratch::new("prune-experts");
    let (model, [absence, reap]) =
        (data("archs/mixtral"), ["absence", "reap"].map(|name| scratch.path(name)));
    let told = report(&model, &absence, &["--experts", "25%"]);
    assert_eq!((&told["experts_before"], &told["experts"]), (&4.into(), &3.into()));
    let found = keys(&absence);
    assert_eq!(number(&found, "llama.expert_count"), Some(3));
    assert_eq!(number(&found, "kquant.pruned.experts_before"), Some(4));
    report(&model, &reap, &["--experts", "3", "--score", "reap"]);
    let [ours, theirs] = [&absence, &reap].map(|file| divergence(file, &model));
    assert!(ours > 0.0 && ours <= theirs, "{ours} by absence, {theirs} by REAP");

    let (model, [second, wanda]) = (data("tiny-llama"), ["second", "wanda"].map(|name| scratch.path(name)));
    let before = keys_of_whole(&model, &scratch.path("whole"));
    let told = report(&model, &second, &["--heads", "1"]);
    let groups = number(&before, "llama.attention.head_count_kv").unwrap();
    assert_eq!(told["kv_heads"].as_u64(), Some(groups - 1));
    let found = keys(&second);
    let heads = |keys: &Metadata| number(keys, "llama.attention.head_count").unwrap();
    assert_eq!(heads(&found) * groups, heads(&before) * (groups - 1));
    let width = number(&before, "llama.embedding_length").unwrap() / heads(&before);
    assert_eq!(number(&found, "llama.attention.key_length"), Some(width));
    report(&model, &wanda, &["--heads", "1", "--score", "wanda"]);
    let [second, by_size] = [&second, &wanda].map(|file| divergence(file, &model));
    assert!(second < by_size, "{second} by second order, {by_size} by Wanda's score");
}

/// Keys of `model` written as it is.
fn keys_of_whole(model: &Path, out: &Path) -> Metadata {
    ok(kquant(["quantize", model.to_str().unwrap(), "-o", out.to_str().unwrap(), "--type", "F32", "-q"]));
    keys(out)
}

#[test]
fn what_cannot_be_cut_is_refused_and_leaves_no_file() {
    let scratch = Scratch::new("prune-parts-refused");
    let out = scratch.path("out.gguf");
    for (name, more, why) in [
        ("tiny-llama", ["--drop-layers", "2"], "layers 0 to 1"),
        ("tiny-llama", ["--drop-layers", "0,1"], "keep at least one"),
        ("tiny-llama", ["--layers", "2"], "must keep at least one layer"),
        ("tiny-llama", ["--experts", "25%"], "has no experts"),
        ("tiny-llama", ["--heads", "9"], "key-value heads"),
        ("archs/gpt2", ["--heads", "1"], "`gpt2`"),
        ("archs/gpt_oss", ["--layers", "1"], "multiples of 2"),
        ("archs/gpt_oss", ["--drop-layers", "0"], "`gpt-oss`"),
        ("archs/deepseek_v3", ["--experts", "25%"], "groups of the router"),
        ("archs/mixtral", ["--experts", "4"], "nothing would be cut"),
    ] {
        let more = by_text(&more);
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        refused(name, &pruned(&data(name), &out, &more), why, &out);
    }
    let model = data("tiny-llama");
    let both = pruned(&model, &out, &["--drop-layers", "0", "--heads", "1"]);
    refused("both", &both, "cannot be used with", &out);
    let score = by_text(&["--layers", "1", "--score", "reap"]);
    let score: Vec<&str> = score.iter().map(String::as_str).collect();
    refused("score", &pruned(&model, &out, &score), "--layers chooses by kl or shortgpt", &out);
    refused("no text", &pruned(&model, &out, &["--layers", "1"]), "--text", &out);
    assert!(fs::read_dir(scratch.path(".")).unwrap().next().is_none(), "a partial file is left");
}
