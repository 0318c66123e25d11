//! `kquant sample` through the whole program.
use std::fs;

use crate::support::{Scratch, data, kquant, ok, stderr};

#[test]
fn the_same_bytes_for_any_threads_and_memory() {
    let scratch = Scratch::new("sample");
    let model = data("tiny-llama");
    let model = model.to_str().unwrap();
    let sample = |name: &str, more: &[&str]| {
        let out = scratch.path(name);
        let args = ["sample", model, "--tokens", "2000", "--context", "40", "-o", out.to_str().unwrap()];
        let told = ok(kquant([args.as_slice(), more].concat()));
        (fs::read(&out).unwrap(), told)
    };
    let (plain, told) = sample("plain.txt", &["--threads", "1"]);
    assert!(told.contains("2000 tokens in 50 texts by seed 0"), "{told}");
    assert!(plain.len() > 1000, "{} bytes", plain.len());
    for (name, more) in [
        ("threads.txt", ["--threads", "2", "--memory", "4G"]),
        ("memory.txt", ["--threads", "2", "--memory", "4M"]),
    ] {
        assert!(sample(name, &more).0 == plain, "{more:?} changes the text");
    }
    assert!(sample("seed.txt", &["--seed", "1"]).0 != plain);
    let json: serde_json::Value = serde_json::from_str(&sample("json.txt", &["--json"]).1).unwrap();
    assert_eq!([&json["tokens"], &json["texts"], &json["seed"]], [2000, 50, 0]);
}

#[test]
fn unusable_options_and_an_existing_file_are_refused() {
    let scratch = Scratch::new("sample-refused");
    let (model, out) = (data("tiny-llama"), scratch.path("own.txt"));
    let (model, path) = (model.to_str().unwrap(), out.to_str().unwrap());
    let sample = |more: &[&str]| kquant([&["sample", model, "-o", path, "--quiet"], more].concat());
    for (more, why) in [
        (["--tokens", "0", "--context", "8"], "number of tokens to sample is 0"),
        (["--tokens", "9", "--context", "2"], "at least 3 tokens"),
        (["--tokens", "9", "--context", "99999999"], "99999999"),
        (["--tokens", "9", "--top-p", "0"], "top-p must be above 0"),
        (["--tokens", "9", "--temperature", "NaN"], "temperature of sampling"),
        (["--tokens", "9", "--memory", "1K"], "memory"),
    ] {
        let refused = sample(&more);
        assert_eq!(refused.status.code(), Some(2), "{more:?}");
        assert!(stderr(&refused).contains(why), "{more:?}: {}", stderr(&refused));
        assert!(!out.exists());
    }
    fs::write(&out, "mine").unwrap();
    let refused = sample(&["--tokens", "9", "--context", "8"]);
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(fs::read(&out).unwrap(), b"mine");
    ok(sample(&["--tokens", "9", "--context", "8", "--force"]));
    assert_ne!(fs::read(&out).unwrap(), b"mine");
}
