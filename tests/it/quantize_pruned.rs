//! `kquant quantize --prune` does in one go what `kquant prune` and `kquant quantize` do one after the other.
use std::fs;
use std::path::Path;

use kquant::checkpoint::{Origin, open};
use serde_json::Value as Json;

use crate::support::{Scratch, data, kquant, ok, quantize, refused};

#[test]
fn a_pruned_file_is_made_in_one_go() {
    let (scratch, model) = (Scratch::new("quantize-pruned"), data("tiny-llama"));
    let calibration = data("corpora/calibration-small.txt");
    let (text, eval) = (calibration.to_str().unwrap(), data("corpora/eval-small.txt"));
    let cut = ["-q", "--context", "64", "--chunks", "32"];
    let prune = |from: &Path, to: &Path, what: [&str; 2]| {
        let args = ["prune", from.to_str().unwrap(), "-o", to.to_str().unwrap(), "--text", text];
        ok(kquant([&args[..], &what, &cut].concat()))
    };
    let [narrow, small, apart, whole] =
        ["narrow.gguf", "small.gguf", "apart.gguf", "whole.gguf"].map(|n| scratch.path(n));
    prune(&model, &narrow, ["--ffn", "512"]);
    prune(&narrow, &small, ["--vocab", "1024"]);
    let calibrated = [&["--calibrate", text][..], &cut].concat();
    ok(quantize(&small, &apart, "Q8_0", &calibrated));
    let more = ["--prune", "ffn=512", "--prune", "vocab=1024", "--verify", eval.to_str().unwrap(), "--json"];
    let told: Json =
        serde_json::from_str(&ok(quantize(&model, &whole, "Q8_0", &[&calibrated[..], &more].concat())))
            .unwrap();
    assert!(fs::read(&apart).unwrap() == fs::read(&whole).unwrap(), "another file than step by step");
    let Origin::Gguf { metadata } = open(&whole).unwrap().origin else { panic!("no GGUF") };
    assert_eq!(metadata.get("llama.feed_forward_length").unwrap().as_u64(), Some(512));

    // It is judged against the whole model, as `kquant perplexity --base` does.
    let (whole, model, eval) = (whole.to_str().unwrap(), model.to_str().unwrap(), eval.to_str().unwrap());
    let args = ["perplexity", whole, "--base", model, "--text", eval, "--json", "-"];
    let report: Json = serde_json::from_str(&ok(kquant([&args[..], &cut].concat()))).unwrap();
    let kl = |report: &Json| report["kl"]["mean"].as_f64();
    assert!(kl(&report).is_some());
    assert_eq!(kl(&told["proof"]).or(kl(&told["proof"]["texts"][0])), kl(&report), "{told}");
}

#[test]
fn a_pruned_model_learns_before_it_is_quantized() {
    let (scratch, model) = (Scratch::new("quantize-distilled"), data("tiny-llama"));
    let calibration = data("corpora/calibration-small.txt");
    let text = calibration.to_str().unwrap();
    let cut = ["-q", "--context", "64", "--chunks", "192"];
    let [narrow, trained, apart, whole, small] =
        ["narrow.gguf", "trained.gguf", "apart.gguf", "whole.gguf", "small.gguf"].map(|n| scratch.path(n));
    let run = |command: &str, from: &Path, to: &Path, more: &[&str]| {
        let args = [command, from.to_str().unwrap(), "-o", to.to_str().unwrap(), "--text", text];
        ok(kquant([&args[..], more, &cut].concat()))
    };
    run("prune", &model, &narrow, &["--ffn", "512"]);
    run("distill", &narrow, &trained, &["--teacher", model.to_str().unwrap(), "--tokens", "16k"]);
    let calibrated = [&["--calibrate", text][..], &cut].concat();
    ok(quantize(&trained, &apart, "Q8_0", &calibrated));
    let more = ["--prune", "ffn=512", "--distill", "16k"];
    ok(quantize(&model, &whole, "Q8_0", &[&calibrated[..], &more].concat()));
    assert!(fs::read(&apart).unwrap() == fs::read(&whole).unwrap(), "another file than step by step");
    let more = ["--distill", "16k", "--teacher", model.to_str().unwrap()];
    ok(quantize(&narrow, &small, "Q8_0", &[&calibrated[..], &more].concat()));
    assert!(fs::read(&apart).unwrap() == fs::read(&small).unwrap(), "another file than step by step");
}

#[test]
fn what_cannot_be_pruned_so_is_refused() {
    let (scratch, model) = (Scratch::new("quantize-pruned-refused"), data("tiny-llama"));
    let (out, text) = (scratch.path("out.gguf"), data("corpora/calibration-small.txt"));
    let text = ["--calibrate", text.to_str().unwrap()];
    for (more, why) in [
        (vec!["--prune", "ffn=512"], "give --calibrate FILE"),
        (vec!["--distill", "1k", "--teacher", "m"], "give --calibrate FILE"),
        ([&text[..], &["--distill", "1k"]].concat(), "give --teacher"),
        ([&text[..], &["--teacher", "m"]].concat(), "--distill"),
        ([&text[..], &["--prune", "spaces=3"]].concat(), "is none of vocab=N"),
        ([&text[..], &["--prune", "vocab=many"]].concat(), "vocab: `many`"),
        ([&text[..], &["--prune", "ffn=768"]].concat(), "nothing would be cut"),
        ([&text[..], &["--prune", "ffn=512", "--manifest", "m.json"]].concat(), "cannot be used with"),
    ] {
        refused(why, &quantize(&model, &out, "Q8_0", &more), why, &out);
    }
}
