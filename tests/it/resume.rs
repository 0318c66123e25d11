//! Runs that are killed go on to the same bytes.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Scratch, data, kquant, ok, refused, stderr};

fn journal_of(out: &Path) -> PathBuf {
    PathBuf::from(format!("{}.kquant-journal", out.display()))
}

/// The time at which the journal of `out` was last written, if it was.
fn written(out: &Path) -> Option<std::time::SystemTime> {
    fs::metadata(journal_of(out).join("state.gguf")).ok()?.modified().ok()
}

/// Starts `args` into `out` and kills the run when it has written its journal again. Returns whether the run was killed, and did
/// not end before.
fn killed(args: &[&str], out: &Path) -> bool {
    let before = written(out);
    let mut run = Command::new(env!("CARGO_BIN_EXE_kquant"))
        .args(args)
        .args(["-o", out.to_str().unwrap(), "--quiet"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    let status = loop {
        if let Some(status) = run.try_wait().unwrap() {
            break Some(status);
        }
        if written(out) != before || start.elapsed() > Duration::from_secs(300) {
            run.kill().unwrap();
            run.wait().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    match status {
        Some(status) => assert!(status.success(), "{args:?}: {status}"),
        None => assert!(written(out) != before || out.exists(), "{args:?}: no end, and no journal"),
    }
    // The output may have been complete before the signal.
    !out.exists()
}

/// Kills runs of `args` until one comes to its end, each time with other threads and memory. Returns how many were killed.
fn until_done(args: &[&str], out: &Path) -> usize {
    let ways = [
        ["--threads", "2", "--memory", "1G"],
        ["--threads", "1", "--memory", "64M"],
        ["--threads", "3", "--memory", "256M"],
    ];
    for run in 0.. {
        let more: &[&str] = if run == 0 { &[] } else { &["--resume"] };
        if !killed(&[args, &ways[run % ways.len()], more].concat(), out) {
            return run;
        }
    }
    0
}

#[test]
fn a_run_that_is_killed_after_each_layer_ends_with_the_same_bytes() {
    let scratch = Scratch::new("resume");
    let (model, text) = (data("tiny-llama"), data("corpora/calibration-small.txt"));
    let (model, text) = (model.to_str().unwrap(), text.to_str().unwrap());
    let statistics = scratch.path("statistics.gguf");
    let statistics = statistics.to_str().unwrap();
    ok(kquant([
        "calibrate",
        model,
        "--text",
        text,
        "--chunks",
        "16",
        "-c",
        "128",
        "--fisher",
        "-o",
        statistics,
    ]));
    let by_text = ["quantize", model, "--type", "Q3_K_S", "--calibrate", text, "--chunks", "48", "-c", "128"];
    let by_file = ["quantize", model, "--type", "Q3_K_S", "--statistics", statistics, "--quality", "best"];
    let cases = [
        ("good", [&by_text[..], &["--quality", "good"]].concat()),
        ("best", [&by_text[..], &["--quality", "best", "--seed", "5"]].concat()),
        ("file", by_file.to_vec()),
    ];
    for (name, args) in cases {
        let [whole, resumed] = ["whole", "resumed"].map(|kind| scratch.path(&format!("{kind}-{name}.gguf")));
        ok(kquant(args.iter().chain(&["-o", whole.to_str().unwrap(), "--quiet"])));
        assert!(!journal_of(&whole).exists(), "{name}: a run that is done keeps no journal");
        let kills = until_done(&args, &resumed);
        assert!(kills > 0, "{name}: no run was killed");
        assert!(
            fs::read(&whole).unwrap() == fs::read(&resumed).unwrap(),
            "{name}: {kills} kills changed the result"
        );
        ok(kquant(["clean", resumed.to_str().unwrap()]));
        assert!(!journal_of(&resumed).exists() && resumed.exists(), "{name}");
    }
}

#[test]
fn a_journal_is_named_checked_and_removed() {
    let scratch = Scratch::new("resume-journal");
    let (model, text) = (data("tiny-llama"), data("corpora/calibration-small.txt"));
    let (out, text) = (scratch.path("out.gguf"), text.to_str().unwrap());
    let args = ["quantize", model.to_str().unwrap(), "--calibrate", text, "--chunks", "48", "-c", "128"];
    let run = |more: &[&str]| kquant(args.iter().chain(["-o", out.to_str().unwrap()].iter()).chain(more));
    assert!(killed(&[&args[..], &["--type", "Q4_0"]].concat(), &out));
    let holds = format!("{} holds ", journal_of(&out).display());
    for again in [&["--type", "Q4_0"][..], &["--type", "Q4_0", "--force"], &["--type", "Q8_0"]] {
        let again = run(again);
        assert_eq!(again.status.code(), Some(2));
        assert!(stderr(&again).contains(&holds) && stderr(&again).contains("--resume"), "{}", stderr(&again));
    }
    for other in [["--type", "Q4_K_S", "--seed", "0"], ["--type", "Q4_0", "--rounds", "2"]] {
        let other = run(&[&other[..], &["--resume"]].concat());
        assert_eq!(other.status.code(), Some(2));
        assert!(stderr(&other).contains("is of a run with other inputs, options"), "{}", stderr(&other));
    }
    // What is not the journal's stays.
    let foreign = journal_of(&out).join("notes.txt");
    fs::write(&foreign, "mine").unwrap();
    let clean = || kquant(["clean", out.to_str().unwrap()]);
    assert_eq!(clean().status.code(), Some(2));
    assert_eq!(fs::read_to_string(&foreign).unwrap(), "mine");
    fs::remove_file(&foreign).unwrap();
    ok(clean());
    assert!(!journal_of(&out).exists());
    assert!(ok(clean()).contains("nothing to remove"));
    fs::write(scratch.path("out.gguf.kquant-a1B2c3D4.partial"), "left").unwrap();
    assert!(ok(clean()).contains("removed 1 unfinished files"));
    refused("nothing", &kquant(["clean"]), "required", &out);
}

#[test]
fn a_damaged_journal_is_an_error_that_says_what_to_do() {
    let scratch = Scratch::new("resume-damaged");
    let (model, text) = (data("tiny-llama"), data("corpora/calibration-small.txt"));
    let out = scratch.path("out.gguf");
    let args = [
        "quantize",
        model.to_str().unwrap(),
        "--calibrate",
        text.to_str().unwrap(),
        "--chunks",
        "48",
        "-c",
        "128",
    ];
    let args = [&args[..], &["--type", "Q4_0"]].concat();
    assert!(killed(&args, &out));
    for name in ["state.gguf", "tensors-0.gguf", "run.json"] {
        let path = journal_of(&out).join(name);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let run = kquant(args.iter().chain(&["--resume", "-o", out.to_str().unwrap()]));
        assert_eq!(run.status.code(), Some(2), "{name}: {}", stderr(&run));
        assert!(!stderr(&run).contains("panicked") && !out.exists(), "{name}: {}", stderr(&run));
        fs::write(&path, whole).unwrap();
    }
    ok(kquant(args.iter().chain(&["--resume", "-o", out.to_str().unwrap()])));
}
