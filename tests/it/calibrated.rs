//! `kquant quantize --calibrate`: layers rounded with feedback from a text, through the whole program.
use std::fs;
use std::path::Path;
use std::process::Output;

use crate::support::{Scratch, data, kquant, ok, quantize, refused, stderr};
use kquant::checkpoint::{Origin, open};
use kquant_formats::gguf::Value;
use serde_json::Value as Json;

/// Text enough for a few tokens per column, some of it held out.
const TEXT: [&str; 4] = ["--context", "128", "--chunks", "32"];

/// Quantizes tests/data/tiny-llama with the calibration text.
fn calibrated(out: &Path, kind: &str, more: &[&str]) -> Output {
    let text = data("corpora/calibration-small.txt");
    let args = [&["--calibrate", text.to_str().unwrap()], &TEXT[..], more].concat();
    quantize(&data("tiny-llama"), out, kind, &args)
}

#[test]
fn threads_and_memory_change_no_byte() {
    let scratch = Scratch::new("calibrated-bytes");
    let made = |name: &str, means: &[&str]| {
        let out = scratch.path(name);
        ok(calibrated(&out, "Q3_K_S", means));
        fs::read(&out).unwrap()
    };
    let expected = made("default", &["--threads", "2"]);
    let smallest = {
        let refusal = calibrated(&scratch.path("refused"), "Q3_K_S", &["--memory", "1M"]);
        refused("memory", &refusal, "give --memory", &scratch.path("refused"));
        let message = stderr(&refusal);
        message.split(" needs ").nth(1).unwrap().split(' ').next().unwrap().to_owned()
    };
    for (name, means) in
        [("one", &["--threads", "1"][..]), ("small", &["--threads", "3", "--memory", &smallest])]
    {
        assert!(made(name, means) == expected, "{means:?}");
    }
}

#[test]
fn codes_of_several_weights_are_the_same_by_any_means_and_nearer_than_ggml_s() {
    let scratch = Scratch::new("calibrated-vectors");
    let eval = data("corpora/eval-small.txt");
    for kind in ["IQ2_XS", "IQ3_XXS"] {
        let made = |name: &str, more: &[&str]| {
            let (out, pure) = (scratch.path(name), ["--pure", "--output-tensor-type", "Q8_0"]);
            let pure =
                [&pure[..], &["--token-embedding-type", "Q8_0", "--force", "--quiet", "--json"]].concat();
            let proof = ["--verify", eval.to_str().unwrap()];
            let printed = ok(calibrated(&out, kind, &[&pure[..], &proof, more].concat()));
            let printed: Json = serde_json::from_str(&printed).unwrap();
            (printed["proof"]["kl"]["mean"].as_f64().unwrap(), fs::read(out).unwrap())
        };
        let (ggml, _) = made("ggml", &["--encoder", "ggml"]);
        let (gptq, bytes) = made("gptq", &["--threads", "1"]);
        assert!(gptq < 0.75 * ggml, "{kind}: {gptq} with feedback, {ggml} without");
        assert!(made("again", &["--threads", "3"]).1 == bytes, "{kind}");
    }
    // Types of both kinds share an input, and the scalar code stands for every instruction set.
    let mixed = |name: &str, more: &[&str]| {
        let out = scratch.path(name);
        ok(calibrated(
            &out,
            "Q3_K_S",
            &[&["--tensor-type", "attn_k=IQ2_S", "--tensor-type", "ffn_up=IQ3_XXS"], more].concat(),
        ));
        fs::read(out).unwrap()
    };
    assert!(mixed("best", &[]) == mixed("scalar", &["--isa", "scalar"]));
}

#[test]
fn the_result_is_nearer_to_the_model_than_ggml_s() {
    let scratch = Scratch::new("calibrated-kl");
    let eval = data("corpora/eval-small.txt");
    let divergence = |encoder: &str| {
        let more = ["--encoder", encoder, "--verify", eval.to_str().unwrap(), "--json", "--quiet"];
        let printed = ok(calibrated(&scratch.path(encoder), "Q3_K_S", &more));
        let printed: Json = serde_json::from_str(&printed).unwrap();
        printed["proof"]["kl"]["mean"].as_f64().unwrap()
    };
    let (ggml, gptq) = (divergence("ggml"), divergence("gptq"));
    assert!(gptq < 0.75 * ggml, "{gptq} with feedback, {ggml} without");
}

#[test]
fn a_statistics_file_serves_without_a_text() {
    let scratch = Scratch::new("calibrated-one-shot");
    let (text, eval) = (data("corpora/calibration-small.txt"), data("corpora/eval-small.txt"));
    let (model, statistics) = (data("tiny-llama"), scratch.path("statistics.gguf"));
    let args = ["calibrate", model.to_str().unwrap(), "--text", text.to_str().unwrap(), "--hessian", "-o"];
    ok(kquant(args.iter().chain(&[statistics.to_str().unwrap()]).chain(&TEXT)));
    let divergence = |name: &str, more: &[&str]| {
        let proof = ["--verify", eval.to_str().unwrap(), "--json", "--quiet", "--imatrix"];
        let all = [&proof[..], &[statistics.to_str().unwrap()], &TEXT, more].concat();
        let printed = ok(quantize(&model, &scratch.path(name), "Q3_K_S", &all));
        let printed: Json = serde_json::from_str(&printed).unwrap();
        printed["proof"]["kl"]["mean"].as_f64().unwrap()
    };
    let (ggml, gptq) =
        (divergence("ggml", &["--encoder", "ggml"]), divergence("default", &["--threads", "1"]));
    assert!(gptq < 0.85 * ggml, "{gptq} with Hessians, {ggml} without");
    divergence("again", &["--encoder", "gptq", "--threads", "2", "--memory", "64M"]);
    assert!(fs::read(scratch.path("default")).unwrap() == fs::read(scratch.path("again")).unwrap());

    let (matrix, out) = (data("golden/tiny-llama.imatrix.gguf"), scratch.path("refused"));
    let plain = ["--encoder", "gptq", "--imatrix", matrix.to_str().unwrap()];
    refused("plain importance", &quantize(&model, &out, "Q4_K_S", &plain), "calibrate --hessian", &out);
}

#[test]
fn the_file_says_what_it_was_calibrated_with() {
    let scratch = Scratch::new("calibrated-keys");
    let (out, report) = (scratch.path("out.gguf"), scratch.path("report.json"));
    let told = ok(calibrated(&out, "Q4_K_S", &["--report", report.to_str().unwrap(), "--output-tensor"]));
    assert!(told.contains("blk.1.ffn_down.weight") && told.contains("held out"), "{told}");
    let Origin::Gguf { metadata } = open(&out).unwrap().origin else { panic!("no GGUF") };
    let key = |name: &str| metadata.get(&format!("quantize.calibration.{name}")).cloned();
    assert_eq!(key("tokens"), Some(Value::U64(32 * 128)));
    assert_eq!(key("context"), Some(Value::U32(128)));
    assert_eq!(key("text"), Some("calibration-small.txt".into()));
    let hash = key("text_sha256").and_then(|v| v.as_str().map(str::len));
    assert_eq!(hash, Some(64));
    let report: Json = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    let tensors = report["tensors"].as_array().unwrap();
    assert_eq!(tensors.len(), 14);
    for tensor in tensors {
        let error = |of: &str| tensor[of].as_f64().unwrap();
        assert!(error("written") > 0.0 && error("written") <= error("search"), "{tensor}");
        assert!((0.0..=1.0).contains(&error("correction")), "{tensor}");
    }
    assert_eq!(report["held_out_tokens"], 512);
}

#[test]
fn types_without_feedback_and_plain_ones_pass_through() {
    let scratch = Scratch::new("calibrated-mixed");
    let out = scratch.path("out.gguf");
    let types =
        ["--tensor-type", "ffn_up=F16", "--tensor-type", "attn_v=Q8_0", "--tensor-type", "attn_k=MXFP4"];
    ok(calibrated(&out, "Q4_0", &types));
    let written = open(&out).unwrap();
    let kind = |name: &str| written.checkpoint.tensors().iter().find(|t| t.name == name).unwrap().dtype;
    assert_eq!(kind("blk.0.ffn_up.weight"), "F16");
    assert_eq!(kind("blk.0.attn_v.weight"), "Q8_0");
    assert_eq!(kind("blk.1.attn_k.weight"), "MXFP4");
    ok(kquant(["generate", out.to_str().unwrap(), "--prompt", "The", "--tokens", "4"]));
}

#[test]
fn a_text_that_says_too_little_is_warned_of() {
    let scratch = Scratch::new("calibrated-refusals");
    let out = scratch.path("out.gguf");
    let text = data("corpora/calibration-small.txt");
    let few = ["--calibrate", text.to_str().unwrap(), "--context", "64", "--chunks", "3"];
    let warned = quantize(&data("tiny-llama"), &out, "Q4_K_S", &few);
    assert!(
        stderr(&warned).contains("192 tokens are 0.2 for each of up to 768 columns"),
        "{}",
        stderr(&warned)
    );
    ok(warned);
}

/// The times themselves are the machine's; that all steps have one, and that more text takes longer, is not.
#[test]
fn time_and_memory_are_told_before_they_are_spent() {
    let scratch = Scratch::new("calibrated-expected");
    let text = data("corpora/calibration-small.txt");
    let expected = |chunks: &str, more: &[&str]| {
        let model = data("tiny-llama");
        let fixed = ["quantize", model.to_str().unwrap(), "--type", "Q3_K_S", "--dry-run", "--json"];
        let of = ["--calibrate", text.to_str().unwrap(), "--context", "128", "--chunks", chunks];
        let printed = ok(kquant([&fixed[..], &of, more].concat()));
        serde_json::from_str::<Json>(&printed).unwrap()["expected"].clone()
    };
    let few = expected("16", &[]);
    let steps: Vec<&str> = few["steps"].as_array().unwrap().iter().map(|s| s[0].as_str().unwrap()).collect();
    assert_eq!(steps, ["backward", "forward", "moments", "factors", "targets", "rounding"]);
    let seconds = |of: &Json, step: usize| of["steps"][step][1].as_f64().unwrap();
    assert!((1..6).all(|step| seconds(&few, step) > 0.0) && seconds(&few, 0) == 0.0, "{few}");
    let sum: f64 = (0..6).map(|step| seconds(&few, step)).sum();
    assert!((few["seconds"].as_f64().unwrap() - sum).abs() < 1e-9);
    assert!(seconds(&expected("64", &["--quality", "best"]), 0) > 0.0);
    // The memory that is told is enough, and less is refused with the same words as without --dry-run.
    let least = few["least_memory"].to_string();
    let out = scratch.path("out.gguf");
    ok(calibrated(&out, "Q3_K_S", &["--memory", &least, "--quiet"]));
    let room = fs::metadata(&out).unwrap().len();
    assert!(few["disk"].as_u64().unwrap() > room, "{few}");
    let short = calibrated(&scratch.path("x.gguf"), "Q3_K_S", &["--memory", "100K", "--dry-run"]);
    refused("little memory", &short, "give --memory", &scratch.path("x.gguf"));
}
