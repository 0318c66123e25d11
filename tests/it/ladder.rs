//! Files of several sizes in one run.

use std::fs;
use std::path::Path;

use serde_json::Value as Json;

use crate::support::{Scratch, data, kquant, ok, refused, stderr};

/// How all runs are calibrated.
fn calibrated() -> Vec<String> {
    let text = data("corpora/calibration-small.txt").to_str().unwrap().to_owned();
    let menu = ["--menu", "Q3_K,Q4_0,Q8_0"];
    let text = ["--calibrate", &text, "--context", "64", "--chunks", "8", "-q"];
    menu.iter().chain(&text).map(|&option| option.to_owned()).collect()
}

/// Runs `kquant ladder tiny-llama --sizes SIZES -o OUT ...`.
fn ladder(sizes: &str, out: &Path, more: &[&str]) -> std::process::Output {
    let (model, all) = (data("tiny-llama"), calibrated());
    let args = ["ladder", model.to_str().unwrap(), "--sizes", sizes, "-o", out.to_str().unwrap()];
    kquant(args.iter().copied().chain(all.iter().map(String::as_str)).chain(more.iter().copied()))
}

#[test]
fn files_are_those_of_single_runs_and_the_card_lists_them() {
    let scratch = Scratch::new("ladder");
    let (out, eval) = (scratch.path("new"), data("corpora/eval-small.txt"));
    let verify = ["--verify", eval.to_str().unwrap(), "--base-model", "org/tiny", "--json"];
    let printed: Json = serde_json::from_str(&ok(ladder("1.4M,1.2M", &out, &verify))).unwrap();
    let mut names: Vec<String> =
        fs::read_dir(&out).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let files = ["1.2M.gguf", "1.2M.manifest.json", "1.4M.gguf", "1.4M.manifest.json"];
    let expected: Vec<String> = files.iter().map(|end| format!("tiny-llama-{end}")).collect();
    assert_eq!(names, [&["README.md".to_owned()], &expected[..]].concat());
    let card = fs::read_to_string(out.join("README.md")).unwrap();
    assert!(card.contains("base_model:\n- org/tiny\n"), "{card}");
    let mut kl = Vec::new();
    for (size, rung) in ["1.2M", "1.4M"].iter().zip(printed.as_array().unwrap()) {
        let single = scratch.path("single.gguf").to_str().unwrap().to_owned();
        let model = data("tiny-llama");
        let args = ["quantize", model.to_str().unwrap(), "-o", &single, "--size", size, "--force"];
        let all = calibrated();
        ok(kquant(args.iter().copied().chain(all.iter().map(String::as_str))));
        let file = out.join(format!("tiny-llama-{size}.gguf"));
        assert!(fs::read(&file).unwrap() == fs::read(&single).unwrap(), "{size}");
        let manifest = out.join(format!("tiny-llama-{size}.manifest.json"));
        ok(kquant(["verify", file.to_str().unwrap(), "--manifest", manifest.to_str().unwrap()]));
        let sha256 = rung.pointer("/files/0/sha256").unwrap().as_str().unwrap();
        assert!(card.contains(&format!("\n{sha256}  tiny-llama-{size}.gguf\n")), "{card}");
        kl.push(rung.pointer("/proof/kl/mean").unwrap().as_f64().unwrap());
        assert!(card.contains(&format!(" | {:.5} | ", kl[kl.len() - 1])), "{card}");
    }
    assert!(kl[0] > kl[1], "{kl:?}");
}

#[test]
fn what_cannot_be_made_is_refused_before_any_file() {
    let scratch = Scratch::new("ladder-refused");
    let out = scratch.path("ladder");
    refused("too small", &ladder("1.2M,10K", &out, &[]), "10240", &out);
    refused("no size", &ladder("1.2M,none", &out, &[]), "unknown unit", &out);
    refused("twice", &ladder("1.2M,1.2M", &out, &[]), "two outputs", &out);
    refused("no folder around it", &ladder("1.2M", &out.join("sub"), &[]), "ladder", &out);
    fs::create_dir(&out).unwrap();
    fs::write(out.join("README.md"), "mine").unwrap();
    let run = ladder("1.2M", &out, &[]);
    assert!(run.status.code() == Some(2) && stderr(&run).contains("exists"), "{}", stderr(&run));
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
}
