//! `kquant distill` through the whole program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

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

/// Runs `kquant teach tiny-llama --text TEXT -o OUT ...`.
fn taught(out: &Path, more: &[&str]) {
    let (teacher, text) = (data("tiny-llama"), data("corpora/calibration-small.txt"));
    let paths =
        ["teach", teacher.to_str().unwrap(), "--text", text.to_str().unwrap(), "-o", out.to_str().unwrap()];
    ok(kquant([&paths[..], &["-q", "--context", "64", "--chunks", "300", "--top", "16"], more].concat()));
}

const SHORT: [&str; 6] = ["--tokens", "4k", "--batch", "8", "--rate", "5e-5"];

#[test]
fn files_of_a_teacher_say_what_it_says_beside() {
    let scratch = Scratch::new("distill-files");
    let student = student(&scratch);
    let [whole, first, second] =
        ["whole", "first", "second"].map(|name| scratch.path(&format!("{name}.gguf")));
    taught(&whole, &[]);
    taught(&first, &["--part", "1/2"]);
    taught(&second, &["--part", "2/2", "--student", student.to_str().unwrap()]);
    let tokens = 300 * 64;
    assert!(fs::metadata(&whole).unwrap().len() < tokens * (6 * 16 + 8) + 60_000, "6 bytes a prediction");

    let out = scratch.path("out.gguf");
    let beside = [&SHORT[..], &["--chunks", "300", "--top", "16", "--temperature", "1.5"]].concat();
    ok(distilled(&student, &out, &beside));
    let expected = fs::read(&out).unwrap();
    let by_files = |files: &[&Path]| {
        let mut args =
            vec!["distill", student.to_str().unwrap(), "-o", out.to_str().unwrap(), "-q", "--force"];
        args.extend(SHORT.iter().chain(&["--temperature", "1.5", "--targets"]));
        args.extend(files.iter().map(|file| file.to_str().unwrap()));
        kquant(args)
    };
    for files in [&[&whole][..], &[&second, &first]] {
        let files: Vec<&Path> = files.iter().map(|file| file.as_path()).collect();
        ok(by_files(&files));
        assert!(fs::read(&out).unwrap() == expected, "{files:?}");
    }
    for (files, why) in
        [(&[&second][..], "all parts"), (&[&first, &first], "all parts"), (&[&student], "teacher's file")]
    {
        let files: Vec<&Path> = files.iter().map(|file| file.as_path()).collect();
        let output = by_files(&files);
        assert_eq!(output.status.code(), Some(2), "{files:?}");
        assert!(stderr(&output).contains(why), "{}", stderr(&output));
    }
}

#[test]
fn a_run_that_was_stopped_goes_on_to_the_same_bytes() {
    let scratch = Scratch::new("distill-resume");
    let student = student(&scratch);
    let (out, state) = (scratch.path("out.gguf"), scratch.path("state.gguf"));
    for optimizer in ["soap", "natural"] {
        let cut =
            [&SHORT[..], &["--chunks", "300", "--top", "16", "--optimizer", optimizer, "--force"]].concat();
        ok(distilled(&student, &out, &cut));
        let expected = fs::read(&out).unwrap();
        fs::remove_file(&out).unwrap();
        let kept = ["--checkpoint", state.to_str().unwrap(), "--every", "0.001", "--resume"];
        let more = [&cut[..], &kept].concat();
        for _ in 0..2 {
            killed(&student, &out, &more, &state);
            assert!(!out.exists() && state.exists());
        }
        ok(distilled(&student, &out, &more));
        assert!(fs::read(&out).unwrap() == expected, "{optimizer}");
        assert!(!state.exists(), "the state is removed at the end");
        fs::remove_file(&out).unwrap();
    }
    let kept = ["--checkpoint", state.to_str().unwrap(), "--every", "0.001", "--resume", "--force"];
    let more =
        |seed| [&SHORT[..], &["--chunks", "300", "--optimizer", "adamw", "--seed", seed], &kept].concat();
    killed(&student, &out, &more("0"), &state);
    refused("another run", &distilled(&student, &out, &more("1")), "other models, texts or options", &out);
}

/// Runs `kquant distill` and kills it when it has written `state` once.
fn killed(student: &Path, out: &Path, more: &[&str], state: &Path) {
    let (teacher, text) = (data("tiny-llama"), data("corpora/calibration-small.txt"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_kquant"));
    command
        .arg("distill")
        .arg(student)
        .arg("--teacher")
        .arg(teacher)
        .arg("--text")
        .arg(text)
        .arg("-o")
        .arg(out);
    command.args(["-q", "--json", "--context", "64"]).args(more);
    let written = || fs::metadata(state).and_then(|of| of.modified()).ok();
    let before = written();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while written() == before {
        assert!(child.try_wait().unwrap().is_none(), "the run ended without a state");
        thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn minutes_end_a_run() {
    let scratch = Scratch::new("distill-minutes");
    let (student, out) = (student(&scratch), scratch.path("out.gguf"));
    let cut = ["--batch", "4", "--chunks", "64", "--optimizer", "adamw", "--rate", "5e-5"];
    // A slow machine may not have made it better in that time.
    let output = distilled(&student, &out, &[&["--minutes", "0.05"][..], &cut].concat());
    assert!(output.status.code() < Some(2), "{}", stderr(&output));
    let report: Json = serde_json::from_slice(&output.stdout).unwrap();
    let course = report["course"].as_array().unwrap();
    assert!(course.last().unwrap()["seconds"].as_f64().unwrap() >= 3.0 && course.len() > 1, "{report}");
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
        (&["--temperature", "0"], "--temperature"),
        (&["--minutes", "0"], "--minutes"),
        (&["--resume"], "--checkpoint"),
    ] {
        refused(&more.join(" "), &distilled(&student, &out, more), why, &out);
    }
    let (other, text) = (data("archs/gpt2"), data("corpora/calibration-small.txt"));
    let args = ["distill", student.to_str().unwrap(), "--teacher", other.to_str().unwrap(), "--text"];
    let output = kquant([&args[..], &[text.to_str().unwrap(), "-o", out.to_str().unwrap()]].concat());
    refused("another vocabulary", &output, "token", &out);
}
