//! `kquant calibrate`, and `kquant quantize` with `--calibrate` and `--verify`, through the whole program.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::{Scratch, data, kquant, ok, quantize, refused, stderr};
use kquant_formats::imatrix::Imatrix;
use serde_json::Value as Json;

/// Enough chunks for three groups where memory is short.
const CHUNKS: [&str; 4] = ["--context", "64", "--chunks", "20"];

fn text() -> PathBuf {
    data("corpora/calibration-small.txt")
}

/// Runs `kquant calibrate tests/data/tiny-llama --text TEXT -o OUT --context 64 --chunks 20 ...`.
fn calibrate(out: &Path, more: &[&str]) -> Output {
    let (model, text) = (data("tiny-llama"), text());
    let (model, text, out) = (model.to_str().unwrap(), text.to_str().unwrap(), out.to_str().unwrap());
    let args = ["calibrate", model, "--text", text, "-o", out];
    kquant(args.iter().chain(&CHUNKS).chain(more))
}

/// Names, types and hashes of the tensors, as `kquant hash` sees them.
fn tensor_hashes(gguf: &Path) -> Json {
    let files: Json = serde_json::from_str(&ok(kquant(["hash", "--json", gguf.to_str().unwrap()]))).unwrap();
    assert!(files[0]["tensors"].as_array().unwrap().len() > 10);
    files[0]["tensors"].clone()
}

#[test]
fn threads_and_memory_change_no_byte() {
    let scratch = Scratch::new("calibrate-bytes");
    for form in ["gguf", "dat"] {
        let made = |name: &str, means: &[&str]| {
            let out = scratch.path(&format!("{name}.{form}"));
            let told = ok(calibrate(&out, means));
            assert!(told.contains("14 tensors, 20 chunks of 64 tokens"), "{told}");
            fs::read(&out).unwrap()
        };
        let expected = made("default", &[]);
        let refusal = calibrate(&scratch.path(&format!("refused.{form}")), &["--memory", "1K"]);
        let message = stderr(&refusal);
        let smallest = message.split(" need ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        for (name, means) in [
            ("one", &["--threads", "1"][..]),
            ("three", &["--threads", "3"]),
            ("small", &["--memory", smallest]),
            ("both", &["--memory", "16M", "--threads", "2"]),
        ] {
            assert!(made(name, means) == expected, "{form} with {means:?}");
        }
    }
}

#[test]
fn both_forms_say_the_same() {
    let scratch = Scratch::new("calibrate-forms");
    let (new, old) = (scratch.path("imatrix.gguf"), scratch.path("imatrix.dat"));
    ok(calibrate(&new, &["--output-tensor"]));
    ok(calibrate(&old, &["--output-tensor", "--quiet"]));
    let shown = ok(kquant(["imatrix", "show", new.to_str().unwrap()]));
    assert!(shown.contains("15 entries, 20 chunks of 64 tokens"), "{shown}");
    assert!(shown.contains("attn_k, attn_output, attn_q, attn_v, ffn_down, ffn_gate, ffn_up"), "{shown}");
    ok(kquant(["imatrix", "show", old.to_str().unwrap()]));
    let (new, old) = (Imatrix::open(&new).unwrap(), Imatrix::open(&old).unwrap());
    assert!(new.entries.keys().eq(old.entries.keys()));
    for (name, entry) in &new.entries {
        assert_eq!(entry.counts, [1280.0], "{name}");
        for (a, b) in entry.importance().iter().zip(old.entries[name].importance()) {
            assert!((a - b).abs() <= 1e-6 * a.abs() && *a > 0.0, "{name}: {a}, {b}");
        }
    }
    // What three layers share is one input.
    let of = |name: &str| new.entries[&format!("blk.1.{name}.weight")].importance();
    assert_eq!((of("attn_q"), of("ffn_up")), (of("attn_v"), of("ffn_gate")));
    assert_ne!(of("attn_q"), of("attn_output"));
}

#[test]
fn one_step_and_two_give_the_same_tensors() {
    let scratch = Scratch::new("calibrate-steps");
    let (matrix, one, two, none) = (
        scratch.path("i.gguf"),
        scratch.path("one.gguf"),
        scratch.path("two.gguf"),
        scratch.path("none.gguf"),
    );
    let (model, text) = (data("tiny-llama"), text());
    ok(calibrate(&matrix, &[]));
    ok(quantize(
        &model,
        &one,
        "Q3_K_M",
        &[&["--calibrate", text.to_str().unwrap(), "--encoder", "guarded"], &CHUNKS[..]].concat(),
    ));
    ok(quantize(&model, &two, "Q3_K_M", &["--imatrix", matrix.to_str().unwrap(), "--encoder", "guarded"]));
    ok(quantize(&model, &none, "Q3_K_M", &[]));
    assert_eq!(tensor_hashes(&one), tensor_hashes(&two));
    assert_ne!(tensor_hashes(&one), tensor_hashes(&none), "importance changes what is written");
}

#[test]
fn the_check_decides_the_exit_code_and_the_output_is_kept() {
    let scratch = Scratch::new("quantize-verify");
    let (model, text) = (data("tiny-llama"), data("corpora/eval-small.txt"));
    let proof = [&["--verify", text.to_str().unwrap(), "--json", "--quiet"], &CHUNKS[..]].concat();
    let (plain, good, bad) =
        (scratch.path("plain.gguf"), scratch.path("good.gguf"), scratch.path("bad.gguf"));
    ok(quantize(&model, &plain, "Q4_K_M", &[]));
    let report: Json = serde_json::from_str(&ok(quantize(
        &model,
        &good,
        "Q4_K_M",
        &[&proof[..], &["--max-kl", "1"]].concat(),
    )))
    .unwrap();
    let kl = report["proof"]["kl"]["mean"].as_f64().unwrap();
    assert!(kl > 0.0 && kl < 1.0, "{report}");

    let args = ["perplexity", good.to_str().unwrap(), "--text", text.to_str().unwrap(), "--base"];
    let again =
        kquant(args.iter().chain(&[model.to_str().unwrap(), "--quiet", "--json", "-"]).chain(&CHUNKS));
    assert_eq!(report["proof"], serde_json::from_str::<Json>(&ok(again)).unwrap());

    let failed = quantize(&model, &bad, "Q4_K_M", &[&proof[..], &["--max-kl", "1e-9"]].concat());
    assert_eq!(failed.status.code(), Some(1), "{}", stderr(&failed));
    assert!(stderr(&failed).contains("is more than --max-kl 0.000000001"), "{}", stderr(&failed));
    for out in [&good, &bad] {
        assert!(fs::read(out).unwrap() == fs::read(&plain).unwrap(), "{}", out.display());
    }
}

#[test]
fn what_cannot_be_run_is_refused_before_anything_is_written() {
    let scratch = Scratch::new("calibrate-refused");
    let out = scratch.path("out.gguf");
    let short = scratch.path("short.txt");
    fs::write(&short, "Once upon a time").unwrap();
    let short = short.to_str().unwrap();
    let text = text();
    let text = text.to_str().unwrap();
    let model = data("tiny-llama");
    let to = |out: &Path, options: &[&str]| {
        let args = ["calibrate", model.to_str().unwrap(), "-o", out.to_str().unwrap()];
        kquant(args.iter().chain(options))
    };
    for (case, options, fragment) in [
        ("short text", &["--text", short][..], "use a longer text"),
        ("long context", &["--text", text, "--context", "300"], "more than the model's 256"),
    ] {
        refused(case, &to(&out, options), fragment, &out);
    }
    let odd = scratch.path("out.bin");
    refused("form", &to(&odd, &["--text", text]), "out.bin: the name of an importance matrix ends in", &odd);
    for (case, options, fragment) in [
        ("calibrate", &["--calibrate", short][..], "use a longer text"),
        ("verify", &["--verify", short], "use a longer text"),
        ("context", &["--verify", text, "--context", "300"], "more than the model's 256"),
        ("no --verify", &["--max-kl", "0.1"], "--verify"),
        ("two sources", &["--calibrate", text, "--imatrix", short], "cannot be used with"),
    ] {
        refused(case, &quantize(&model, &out, "Q4_K_M", options), fragment, &out);
    }

    let kept = scratch.path("kept.gguf");
    fs::write(&kept, "precious").unwrap();
    let run = to(&kept, &["--text", text]);
    assert_eq!(run.status.code(), Some(2));
    assert!(stderr(&run).contains("--force"), "{}", stderr(&run));
    assert_eq!(fs::read(&kept).unwrap(), b"precious");
}

/// tests/data/tiny-llama is tied: what is known of its output counts for its embeddings, from either kind of file.
#[test]
fn importance_of_a_tied_output_is_used() {
    let scratch = Scratch::new("calibrate-tied");
    let (model, out, plain) = (data("tiny-llama"), scratch.path("out.gguf"), scratch.path("plain.gguf"));
    let made = |name: &str, more: &[&str]| {
        let path = scratch.path(name);
        ok(calibrate(&path, more));
        path
    };
    let matrix = made("i.gguf", &["--output-tensor"]);
    let legacy = made("i.dat", &["--output-tensor"]);
    let statistics = made("s.gguf", &["--output-tensor", "--hessian"]);
    let entries = Imatrix::open(&matrix).unwrap().entries;
    assert!(entries.contains_key("token_embd.weight") && !entries.contains_key("output.weight"));
    let embedding = |path: &Path| {
        let all = tensor_hashes(path);
        all.as_array().unwrap().iter().find(|t| t["name"] == "token_embd.weight").unwrap().clone()
    };
    let none = made("none.gguf", &[]);
    for encoder in ["ggml", "auto"] {
        let more = ["--imatrix", none.to_str().unwrap(), "--encoder", encoder, "--force"];
        ok(quantize(&model, &plain, "Q4_K_S", &more));
        for path in [&matrix, &legacy, &statistics] {
            let more = ["--imatrix", path.to_str().unwrap(), "--encoder", encoder, "--force"];
            let run = quantize(&model, &out, "Q4_K_S", &more);
            assert!(!stderr(&run).contains("not in the model"), "{}", stderr(&run));
            ok(run);
            assert_ne!(embedding(&out), embedding(&plain), "{} {encoder}", path.display());
        }
    }
}
