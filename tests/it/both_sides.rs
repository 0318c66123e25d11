//! `kquant quantize --quality best` and `--feedback both`: rows that make up for each other, through the whole program.
use std::fs;
use std::path::Path;
use std::process::Output;

use crate::support::{Scratch, data, kquant, ok, quantize, refused, stderr};
use serde_json::Value as Json;

/// Text enough for a few tokens per column, some of it held out.
const TEXT: [&str; 4] = ["--context", "128", "--chunks", "32"];

fn calibrated(model: &str, out: &Path, kind: &str, more: &[&str]) -> Output {
    calibrated_by(&TEXT, model, out, kind, more)
}

fn calibrated_by(part: &[&str], model: &str, out: &Path, kind: &str, more: &[&str]) -> Output {
    let text = data("corpora/calibration-small.txt");
    let args = [&["--calibrate", text.to_str().unwrap()], part, more].concat();
    quantize(&data(model), out, kind, &args)
}

/// Mean KL divergence of what `output` says it made.
fn divergence(output: Output) -> f64 {
    let printed: Json = serde_json::from_str(&ok(output)).unwrap();
    printed["proof"]["kl"]["mean"].as_f64().unwrap()
}

#[test]
fn each_level_is_better_than_the_one_before() {
    let scratch = Scratch::new("both-levels");
    let eval = data("corpora/eval-small.txt");
    let made = |level: &str| {
        let more = ["--quality", level, "--verify", eval.to_str().unwrap(), "--json", "--quiet"];
        divergence(calibrated("tiny-llama", &scratch.path(level), "Q2_K_S", &more))
    };
    let [fast, good, best] = ["fast", "good", "best"].map(made);
    assert!(good < 0.9 * fast && best < 0.97 * good, "fast {fast}, good {good}, best {best}");
}

#[test]
fn threads_memory_and_instructions_change_no_byte() {
    let scratch = Scratch::new("both-bytes");
    let made = |name: &str, means: &[&str]| {
        let out = scratch.path(name);
        let more = [&["--quality", "best"], means].concat();
        ok(calibrated_by(&["--context", "128", "--chunks", "8"], "tiny-llama", &out, "Q3_K_S", &more));
        fs::read(&out).unwrap()
    };
    let expected = made("default", &["--threads", "2"]);
    let refusal = calibrated(
        "tiny-llama",
        &scratch.path("refused"),
        "Q3_K_S",
        &["--quality", "best", "--memory", "1M"],
    );
    refused("memory", &refusal, "give --memory", &scratch.path("refused"));
    for (name, means) in [
        ("one", &["--threads", "1"][..]),
        ("small", &["--threads", "3", "--memory", "44M"]),
        ("scalar", &["--isa", "scalar"]),
    ] {
        assert!(made(name, means) == expected, "{means:?}");
    }
    assert!(made("seed", &["--seed", "1"]) != expected, "other labels, other Fisher matrices");
}

#[test]
fn a_table_that_is_the_output_as_well_and_experts_get_feedback() {
    let scratch = Scratch::new("both-tied");
    for (model, tensor) in
        [("archs/gpt2", "token_embd.weight"), ("archs/mixtral", "blk.0.ffn_down_exps.weight[1]")]
    {
        let report = scratch.path("report.json");
        let more = ["--quality", "best", "--report", report.to_str().unwrap(), "--force", "--pure"];
        ok(calibrated(model, &scratch.path("out.gguf"), "Q4_0", &more));
        let report: Json = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
        let found = report["tensors"].as_array().unwrap().iter().find(|t| t["name"] == tensor);
        let found = found.unwrap_or_else(|| panic!("{model}: {tensor} is not in {report}"));
        assert!(found["written"].as_f64() <= found["search"].as_f64(), "{model}: {found}");
    }
}

#[test]
fn statistics_with_fisher_matrices_serve_without_a_text() {
    let scratch = Scratch::new("both-one-shot");
    let (text, eval) = (data("corpora/calibration-small.txt"), data("corpora/eval-small.txt"));
    let model = data("tiny-llama");
    let statistics = |name: &str, kind: &str| {
        let path = scratch.path(name);
        let args = ["calibrate", model.to_str().unwrap(), "--text", text.to_str().unwrap(), kind, "-o"];
        ok(kquant(args.iter().chain(&[path.to_str().unwrap()]).chain(&TEXT)));
        path
    };
    let (with, without) = (statistics("fisher.gguf", "--fisher"), statistics("hessian.gguf", "--hessian"));
    let made = |file: &Path, more: &[&str]| {
        let proof = ["--verify", eval.to_str().unwrap(), "--json", "--quiet", "--force", "--imatrix"];
        let all = [&proof[..], &[file.to_str().unwrap()], &TEXT, more].concat();
        quantize(&model, &scratch.path("out.gguf"), "Q3_K_S", &all)
    };
    let (columns, both) = (divergence(made(&with, &[])), divergence(made(&with, &["--feedback", "both"])));
    assert!(both < 0.9 * columns, "{both} with Fisher matrices, {columns} without");
    let refusal = made(&without, &["--feedback", "both"]);
    assert!(stderr(&refusal).contains("kquant calibrate --fisher"), "{}", stderr(&refusal));
    assert_eq!(refusal.status.code(), Some(2));
}

#[test]
fn statistics_that_do_not_know_the_output_leave_a_tied_table_alone_and_it_is_said() {
    let scratch = Scratch::new("both-tied-one-shot");
    let (model, text) = (data("archs/gpt2"), data("corpora/calibration-small.txt"));
    for (name, more) in [("without", &[][..]), ("with", &["--output-tensor"])] {
        let (file, report) = (scratch.path(&format!("{name}.gguf")), scratch.path(&format!("{name}.json")));
        let [model_at, text, file, report_at] =
            [&model, &text, &file, &report].map(|path| path.to_str().unwrap());
        let args = ["calibrate", model_at, "--text", text, "--fisher", "-o", file];
        ok(kquant([&args[..], &TEXT, more].concat()));
        let args = ["--imatrix", file, "--feedback", "both", "--pure", "--force", "--report", report_at];
        let output = quantize(&model, &scratch.path("out.gguf"), "Q4_0", &[&args[..], &TEXT].concat());
        let said = stderr(&output);
        ok(output);
        let report: Json = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
        let is_known = name == "with";
        let notes = report["notes"].as_array().unwrap();
        assert_eq!(notes.len(), usize::from(!is_known), "{name}: {notes:?}");
        assert_eq!(said.contains("note: token_embd.weight"), !is_known, "{name}: {said}");
        assert_eq!(said.contains("`kquant calibrate --fisher --output-tensor`"), !is_known, "{name}: {said}");
        let tensors = report["tensors"].as_array().unwrap();
        assert_eq!(tensors.iter().any(|t| t["name"] == "token_embd.weight"), is_known, "{name}");
    }
}

#[test]
fn levels_that_contradict_each_other_are_refused() {
    let scratch = Scratch::new("both-refused");
    for (more, says) in [
        (&["--quality", "fast", "--feedback", "both"][..], "leave out --feedback"),
        (&["--quality", "best", "--feedback", "columns"], "choose --quality good"),
        (&["--feedback", "both", "--encoder", "ggml"], "leave out --encoder"),
        (&["--quality", "best", "--encoder", "ggml"], "cannot be used with"),
    ] {
        let out = scratch.path("out.gguf");
        refused("levels", &calibrated("tiny-llama", &out, "Q3_K_S", more), says, &out);
    }
}
