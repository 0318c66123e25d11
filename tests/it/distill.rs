//! `kquant distill` through the whole program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value as Json;

use crate::support::{Scratch, data, divergence, kquant, ok, refused, stderr};

/// The small model with 512 of its 768 channels.
fn student(scratch: &Scratch) -> PathBuf {
    let (out, text) = (scratch.path("student.gguf"), data("corpora/calibration-small.txt"));
    let model = data("tiny-llama");
    let paths =
        ["prune", model.to_str().unwrap(), "-o", out.to_str().unwrap(), "--text", text.to_str().unwrap()];
    ok(kquant(
        [&paths[..], &["-q", "--context", "64", "--chunks", "64", "--ffn", "512", "--type", "F32"]].concat(),
    ));
    out
}

/// Runs `kquant distill STUDENT --teacher tiny-llama --text TEXT -o OUT ...`.
fn distilled(student: &Path, out: &Path, more: &[&str]) -> Output {
    let (teacher, text) = (data("tiny-llama"), data("corpora/calibration-small.txt"));
    let paths = ["distill", student.to_str().unwrap(), "--teacher", teacher.to_str().unwrap()];
    let rest =
        ["--text", text.to_str().unwrap(), "-o", out.to_str().unwrap(), "-q", "--json", "--context", "64"];
    kquant([&paths[..], &rest, more].concat())
}

#[test]
fn students_come_closer_to_their_teacher() {
    let scratch = Scratch::new("distill");
    let student = student(&scratch);
    let before = divergence(&student, &data("tiny-llama"));
    for (optimizer, rate) in [("soap", "1e-4"), ("natural", "5e-3"), ("adamw", "1e-4")] {
        let out = scratch.path(&format!("{optimizer}.gguf"));
        let cut = ["--tokens", "16k", "--batch", "16", "--chunks", "300"];
        let more = [&["--optimizer", optimizer, "--rate", rate][..], &cut].concat();
        let report: Json = serde_json::from_str(&ok(distilled(&student, &out, &more))).unwrap();
        let course = report["course"].as_array().unwrap();
        assert!(course.len() > 5 && course[0]["step"] == 0, "{report}");
        let after = divergence(&out, &data("tiny-llama"));
        assert!(after < 0.9 * before, "{optimizer}: {before} became {after}");
    }
}

#[test]
fn threads_and_memory_change_no_byte() {
    let scratch = Scratch::new("distill-threads");
    let student = student(&scratch);
    let made = |more: &[&str]| {
        let out = scratch.path("out.gguf");
        let cut = ["--tokens", "4k", "--batch", "8", "--chunks", "300", "--top", "16", "--rate", "5e-5"];
        ok(distilled(&student, &out, &[&cut[..], &["--force"], more].concat()));
        fs::read(out).unwrap()
    };
    let expected = made(&["--threads", "1"]);
    assert!(made(&["--threads", "2"]) == expected, "threads");
    assert!(made(&["--memory", "200M"]) == expected, "memory");
    assert!(made(&["--seed", "1"]) != expected, "another order of the text gives others");
}

#[test]
fn a_folder_is_trained_to_a_folder() {
    let scratch = Scratch::new("distill-folder");
    let (student, out, chart) = (scratch.path("student"), scratch.path("out"), scratch.path("course.svg"));
    let (text, other) = (data("corpora/calibration-small.txt"), data("corpora/eval-small.txt"));
    let model = data("tiny-llama");
    let [asked_student, asked_out] = [&student, &out].map(|path| format!("{}/", path.display()));
    let paths = ["prune", model.to_str().unwrap(), "-o", &asked_student, "--text", text.to_str().unwrap()];
    ok(kquant([&paths[..], &["-q", "--context", "64", "--chunks", "64", "--ffn", "512"]].concat()));
    let cut = ["--tokens", "8k", "--batch", "16", "--chunks", "300", "--rate", "1e-4"];
    let more = ["--other-text", other.to_str().unwrap(), "--chart", chart.to_str().unwrap()];
    ok(distilled(&student, Path::new(&asked_out), &[&cut[..], &more].concat()));
    assert!(out.join("config.json").is_file() && out.join("model.safetensors").is_file());
    assert!(fs::read_to_string(&chart).unwrap().contains("other text"));
    let [before, after] = [&student, &out].map(|folder| divergence(folder, &model));
    assert!(after < before, "{before} became {after}");
}

#[test]
fn what_is_not_better_is_not_written() {
    let scratch = Scratch::new("distill-worse");
    let (student, out) = (student(&scratch), scratch.path("out.gguf"));
    let more = ["--optimizer", "adamw", "--rate", "0.05", "--tokens", "2k", "--batch", "4", "--chunks", "64"];
    let output = distilled(&student, &out, &more);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(!out.exists());
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_run() {
    let scratch = Scratch::new("distill-refused");
    let (student, out) = (student(&scratch), scratch.path("out.gguf"));
    for (more, why) in [
        (&["--rate", "0"][..], "above 0"),
        (&["--tokens", "none"], "500k or 2M"),
        (&["--batch", "500", "--chunks", "64"], "--batch"),
        (&["--batch", "0"], "--batch"),
        (&["--top", "0"], "--top"),
        (&["--memory", "1M"], "give --memory"),
    ] {
        refused(&more.join(" "), &distilled(&student, &out, more), why, &out);
    }
    let (other, text) = (data("archs/gpt2"), data("corpora/calibration-small.txt"));
    let args = ["distill", student.to_str().unwrap(), "--teacher", other.to_str().unwrap(), "--text"];
    let output = kquant([&args[..], &[text.to_str().unwrap(), "-o", out.to_str().unwrap()]].concat());
    refused("another vocabulary", &output, "token", &out);
}
