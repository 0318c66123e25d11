//! `kquant prune` through the whole program.
use std::fs;

use std::path::{Path, PathBuf};

use kquant::checkpoint::{Origin, open};
use serde_json::Value as Json;

use crate::support::{Scratch, data, divergence, kquant, ok, quantize, refused, stderr};

#[test]
fn trimmed_models_run_and_read_every_text() {
    let scratch = Scratch::new("prune");
    let (text, held_out) = (data("corpora/calibration-small.txt"), data("corpora/eval-small.txt"));
    let short = scratch.path("short.txt");
    fs::write(&short, fs::read_to_string(&text).unwrap().chars().take(1500).collect::<String>()).unwrap();
    let strange = scratch.path("strange.txt");
    fs::write(&strange, "if (x != 0) { y[i] += 2; } 😀🎉 你好，世界 ".repeat(20)).unwrap();
    {
        let (model, out) = (data("tiny-llama"), scratch.path("out.gguf"));
        let list = scratch.path("list.txt");
        fs::write(&list, "#5\n").unwrap();
        let args = ["prune", model.to_str().unwrap(), "-o", out.to_str().unwrap(), "--json", "--force", "-q"];
        let more = ["--keep-tokens", list.to_str().unwrap(), "--text", short.to_str().unwrap()];
        let last = ["--held-out", held_out.to_str().unwrap(), "--context", "32"];
        let told = ok(kquant([args.as_slice(), &more, &last].concat()));
        let report: serde_json::Value = serde_json::from_str(&told).unwrap();
        let number = |key: &str| report[key].as_f64().unwrap();
        assert!(number("tokens") < number("tokens_before"), "{told}");
        assert!(number("of_text") <= number("tokens") && number("kl") > 0.0, "{told}");
        assert_eq!(number("bytes"), fs::metadata(&out).unwrap().len() as f64);
        let scripts = report["scripts"].as_array().unwrap();
        let sum = |key: &str| scripts.iter().map(|of| of[key].as_f64().unwrap()).sum::<f64>();
        assert_eq!((sum("before"), sum("after")), (number("tokens_before"), number("tokens")), "{told}");
        assert!(scripts.iter().any(|of| of["script"] == "Latin"), "{told}");
        // Texts of what was never seen are still read.
        for path in [&short, &strange] {
            let args = ["perplexity", out.to_str().unwrap(), "--text", path.to_str().unwrap(), "-q"];
            ok(kquant([args.as_slice(), &["--context", "32", "--chunks", "2"]].concat()));
        }
    }
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let scratch = Scratch::new("prune-refused");
    let (model, out, text) =
        (data("tiny-llama"), scratch.path("out.gguf"), data("corpora/calibration-small.txt"));
    let args = ["prune", model.to_str().unwrap(), "-o", out.to_str().unwrap(), "--text"];
    for (more, why) in [
        (["--vocab", "99999999"], "ask for fewer"),
        (["--vocab", "1"], "tokens must be kept"),
        (["--vocab-kl", "0"], "above 0"),
        (["--vocab-kl", "1e-300"], "only the whole vocabulary"),
    ] {
        let output = kquant([args.as_slice(), &[text.to_str().unwrap()], &more].concat());
        assert!(!output.status.success() && stderr(&output).contains(why), "{more:?}: {}", stderr(&output));
        assert!(!out.exists());
    }
}

/// Runs `kquant prune MODEL -o OUT --text TEXT ...` with the calibration text of the tests.
fn pruned(model: &Path, out: &Path, more: &[&str]) -> std::process::Output {
    let text = data("corpora/calibration-small.txt");
    let paths =
        ["prune", model.to_str().unwrap(), "-o", out.to_str().unwrap(), "--text", text.to_str().unwrap()];
    kquant([&paths[..], &["-q", "--json", "--context", "64", "--chunks", "96"], more].concat())
}

/// Shape of a tensor of a GGUF, columns last.
fn shape(file: &Path, name: &str) -> Vec<u64> {
    let opened = open(file).unwrap();
    let tensors = opened.checkpoint.tensors();
    tensors.iter().find(|t| t.name == name).unwrap().shape.clone()
}

#[test]
fn channels_that_stay_make_up_for_those_that_are_cut() {
    let (scratch, model) = (Scratch::new("prune-ffn"), data("tiny-llama"));
    let cut = |name: &str, more: &[&str]| -> (PathBuf, Json) {
        let out = scratch.path(name);
        let told = ok(pruned(&model, &out, &[&["--ffn", "512", "--type", "F32"], more].concat()));
        (out, serde_json::from_str(&told).unwrap())
    };
    let (out, report) = cut("second.gguf", &["--threads", "1"]);
    assert_eq!([&report["channels_before"], &report["channels"]], [768, 512]);
    let kept: Vec<u64> = serde_json::from_value(report["layers"][0]["kept"].clone()).unwrap();
    assert!(kept.len() == 512 && kept.is_sorted());
    for (tensor, expected) in [("ffn_gate", [512, 256]), ("ffn_up", [512, 256]), ("ffn_down", [256, 512])] {
        assert_eq!(shape(&out, &format!("blk.1.{tensor}.weight")), expected);
    }
    let Origin::Gguf { metadata } = open(&out).unwrap().origin else { panic!("no GGUF") };
    let number = |key: &str| metadata.get(key).and_then(|value| value.as_u64());
    assert_eq!(number("llama.feed_forward_length"), Some(512));
    assert_eq!([number("kquant.pruned.ffn"), number("kquant.pruned.ffn_before")], [Some(512), Some(768)]);

    let (wanda, _) = cut("wanda.gguf", &["--score", "wanda"]);
    let (second, by_size) = (divergence(&out, &model), divergence(&wanda, &model));
    assert!(second < 0.6 * by_size, "{second} by second order, {by_size} by Wanda's score");

    let bytes = fs::read(&out).unwrap();
    for (name, more) in [("threads.gguf", ["--threads", "2"]), ("memory.gguf", ["--memory", "100M"])] {
        assert!(fs::read(cut(name, &more).0).unwrap() == bytes, "{more:?} changes the file");
    }
    // What is left is a model like any other: it keeps its type, is cut again and quantized.
    let (again, small) = (scratch.path("again.gguf"), scratch.path("small.gguf"));
    ok(pruned(&model, &again, &["--ffn", "25%"]));
    assert_eq!(shape(&again, "blk.0.ffn_down.weight"), [256, 576]);
    let [stored] = ["blk.0.ffn_down.weight"].map(|name| {
        open(&again).unwrap().checkpoint.tensors().iter().find(|t| t.name == name).unwrap().dtype
    });
    assert_eq!(stored, "BF16");
    ok(quantize(&again, &small, "Q4_0", &[]));
    let refusal = pruned(&small, &scratch.path("out"), &["--ffn", "512"]);
    refused("quantized", &refusal, "give --type F16", &scratch.path("out"));
    ok(pruned(&small, &scratch.path("f16.gguf"), &["--ffn", "512", "--type", "F16"]));
}

#[test]
fn channels_that_cannot_be_cut_are_refused_before_the_text_is_run() {
    let (scratch, model) = (Scratch::new("prune-ffn-refused"), data("tiny-llama"));
    let out = scratch.path("out.gguf");
    for (width, why) in [
        ("768", "nothing would be cut"),
        ("600", "possible widths are multiples of 32"),
        ("0%", "neither a share to cut"),
        ("many", "neither a share to cut"),
    ] {
        refused(width, &pruned(&model, &out, &["--ffn", width]), why, &out);
    }
    let both = pruned(&model, &out, &["--ffn", "512", "--vocab", "512"]);
    refused("both", &both, "cannot be used with", &out);
    refused("nothing", &pruned(&model, &out, &[]), "nothing to prune", &out);
}
