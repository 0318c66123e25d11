//! Statistics files with Hessians, through the whole program: made, cut into parts, added up, shown, read, refused.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::{Scratch, data, kquant, ok, quantize, refused, stderr};
use kquant::encode::feedback::Hessian;
use kquant::statistics::{Half, HessianFile};
use kquant_formats::imatrix::Imatrix;
use serde_json::Value as Json;

/// Eleven blocks of 512 tokens, the last half empty: one is held out.
const CHUNKS: [&str; 4] = ["--context", "64", "--chunks", "84"];

/// Whose hidden states take more memory than the sums of a layer.
const MORE: [&str; 4] = ["--context", "64", "--chunks", "200"];

/// Runs `kquant calibrate tests/data/tiny-llama --text TEXT -o OUT ...`.
fn run(out: &Path, options: &[&str]) -> Output {
    let (model, text) = (data("tiny-llama"), data("corpora/calibration-small.txt"));
    let (model, text, out) = (model.to_str().unwrap(), text.to_str().unwrap(), out.to_str().unwrap());
    kquant(["calibrate", model, "--text", text, "-o", out].iter().chain(options))
}

fn calibrate(out: &Path, more: &[&str]) -> Output {
    run(out, &[&CHUNKS[..], more].concat())
}

fn statistics(out: &Path, more: &[&str]) -> String {
    ok(calibrate(out, &[&["--hessian"], more].concat()))
}

fn merge(out: &Path, files: &[&Path], more: &[&str]) -> Output {
    let files = files.iter().map(|f| f.to_str().unwrap());
    kquant(
        ["imatrix", "merge", "-o", out.to_str().unwrap()]
            .into_iter()
            .chain(files)
            .chain(more.iter().copied()),
    )
}

/// Every matrix of a file.
fn hessians(path: &Path) -> Vec<Option<Hessian>> {
    let file = HessianFile::open(path).unwrap();
    let all: Vec<_> = file.groups().flat_map(|g| Half::ALL.map(|half| g.read(0, half).unwrap())).collect();
    assert!(all.len() >= 16, "two layers of four groups");
    all
}

fn parts(scratch: &Scratch, of: usize) -> Vec<PathBuf> {
    let part = |i: usize| {
        let path = scratch.path(&format!("part-{i}-{of}.gguf"));
        statistics(&path, &["--part", &format!("{i}/{of}")]);
        path
    };
    (1..=of).map(part).collect()
}

#[test]
fn parts_add_up_to_the_whole() {
    let scratch = Scratch::new("hessian-parts");
    let (whole, plain) = (scratch.path("whole.gguf"), scratch.path("plain.gguf"));
    let told = statistics(&whole, &[]);
    let expected =
        "14 tensors, Hessians of 8 inputs, 84 chunks of 64 tokens, 4864 tokens to train and 512 held out";
    assert!(told.contains(expected), "{told}");
    ok(calibrate(&plain, &[]));
    let importance = Imatrix::open(&whole).unwrap();
    assert!(
        importance == Imatrix::open(&plain).unwrap(),
        "importance is what calibrate collects without Hessians"
    );
    let expected = hessians(&whole);
    for of in [2, 3] {
        let parts = parts(&scratch, of);
        let mut sums = Vec::new();
        for reversed in [false, true] {
            let mut files: Vec<&Path> = parts.iter().map(PathBuf::as_path).collect();
            if reversed {
                files.reverse();
            }
            let sum = scratch.path(&format!("sum-{of}-{reversed}.gguf"));
            let text = ok(merge(&sum, &files, &[]));
            assert!(text.contains("84 chunks of 64 tokens, 4864 tokens to train and 512 held out"), "{text}");
            sums.push(fs::read(&sum).unwrap());
            assert!(Imatrix::open(&sum).unwrap() == importance, "{of} parts");
            assert!(hessians(&sum) == expected, "{of} parts");
        }
        assert!(sums[0] == sums[1], "the order of the files changes no byte");
    }
}

#[test]
fn threads_and_memory_change_no_byte() {
    let scratch = Scratch::new("hessian-bytes");
    let made = |name: &str, means: &[&str]| {
        let out = scratch.path(name);
        ok(run(&out, &[&["--hessian", "--output-tensor"], &MORE[..], means].concat()));
        fs::read(&out).unwrap()
    };
    let expected = made("default.gguf", &[]);
    let out = scratch.path("refused.gguf");
    let refusal = run(&out, &[&["--hessian", "--output-tensor", "--memory", "1K"], &MORE[..]].concat());
    refused("memory", &refusal, "give --memory", &out);
    let message = stderr(&refusal);
    let numbers: Vec<u64> = message.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
    let [all, layer, enough] = numbers[..] else { panic!("{message}") };
    // So little that the text is run in groups, with the sums of all layers in memory.
    assert!(layer < all && all - layer < 200 * 64 * 256 * 4 && enough > all, "{message}");
    let enough = enough.to_string();
    for (name, means) in [
        ("one.gguf", &["--threads", "1"][..]),
        ("three.gguf", &["--threads", "3"]),
        ("enough.gguf", &["--memory", &enough, "--threads", "2"]),
    ] {
        assert!(made(name, means) == expected, "{means:?}");
    }
}

#[test]
fn hessians_are_those_of_the_inputs() {
    let scratch = Scratch::new("hessian-values");
    let path = scratch.path("statistics.gguf");
    statistics(&path, &["--output-tensor"]);
    let file = HessianFile::open(&path).unwrap();
    let names: Vec<&[String]> = file.groups().map(|g| g.tensors()).collect();
    assert_eq!(names.len(), 9);
    assert_eq!(names[4], ["blk.1.attn_q.weight", "blk.1.attn_k.weight", "blk.1.attn_v.weight"]);
    assert_eq!(names[8], ["output.weight"]);
    assert!(file.group_of("blk.1.attn_v.weight").unwrap().tensors() == names[4]);
    assert!(file.group_of("token_embd.weight").is_none());
    for group in file.groups() {
        let [train, held_out] = Half::ALL.map(|half| group.read(0, half).unwrap().unwrap());
        assert_eq!((train.tokens, held_out.tokens, train.columns), (4864, 512, group.columns()));
        let n = group.columns();
        let importance = &file.importance().entries[&group.tensors()[0]];
        for i in 0..n {
            let square = |h: &Hessian| f64::from(h.mean[i * n + i]) * h.tokens as f64;
            let expected = f64::from(importance.sums[i]);
            let sum = square(&train) + square(&held_out);
            assert!(
                (sum - expected).abs() <= 1e-5 * expected,
                "{:?} column {i}: {sum} {expected}",
                group.tensors()
            );
            for j in 0..n {
                let (ij, ji) = (train.mean[i * n + j], train.mean[j * n + i]);
                // Cauchy and Schwarz.
                let bound = f64::from(train.mean[i * n + i]) * f64::from(train.mean[j * n + j]);
                assert!(
                    ij == ji && f64::from(ij).powi(2) <= bound * (1.0 + 1e-4),
                    "{i} {j}: {ij} {ji} {bound}"
                );
            }
        }
        assert_ne!(train.mean, held_out.mean);
    }
}

#[test]
fn statistics_are_shown_and_quantized_with() {
    let scratch = Scratch::new("hessian-shown");
    let (path, plain) = (scratch.path("statistics.gguf"), scratch.path("plain.gguf"));
    statistics(&path, &["--part", "1/2"]);
    ok(calibrate(&plain, &["--part", "1/2"]));
    let show = |path: &Path, more: &[&str]| {
        ok(kquant(["imatrix", "show", path.to_str().unwrap()].iter().chain(more)))
    };
    let text = show(&path, &[]);
    for fragment in [
        "Hessians, one in 8 blocks of 512 tokens held out",
        "blk.0.attn_q.weight, blk.0.attn_k.weight, blk.0.attn_v.weight",
        "blocks 0 to 4",
        "nothing is held out: the text has fewer than 8 blocks",
        "layers with the most importance",
    ] {
        assert!(text.contains(fragment), "expected `{fragment}` in {text}");
    }
    let json: Json = serde_json::from_str(&show(&path, &["--json"])).unwrap();
    let group = &json["hessians"]["groups"][0];
    assert_eq!((&group["train_tokens"], &group["held_out_tokens"]), (&2560.into(), &0.into()));
    assert_eq!(json["entries"].as_array().unwrap().len(), 14);
    let json: Json = serde_json::from_str(&show(&plain, &["--json"])).unwrap();
    assert!(json.get("hessians").is_none());

    let outputs = [&path, &plain].map(|imatrix| {
        let out = imatrix.with_extension("model.gguf");
        let more = ["--imatrix", imatrix.to_str().unwrap(), "--encoder", "search"];
        ok(quantize(&data("tiny-llama"), &out, "Q3_K_M", &more));
        let hashes: Json =
            serde_json::from_str(&ok(kquant(["hash", "--json", out.to_str().unwrap()]))).unwrap();
        hashes[0]["tensors"].clone()
    });
    assert_eq!(outputs[0], outputs[1]);
}

/// Case, files, options, output, what the message must say.
type Case<'a> = (&'a str, &'a [&'a Path], &'a [&'a str], &'a str, &'a str);

#[test]
fn what_cannot_be_added_up_is_refused() {
    let scratch = Scratch::new("hessian-refused");
    let (one, two) = (scratch.path("one.gguf"), scratch.path("two.gguf"));
    let (plain, output, other) =
        (scratch.path("plain.gguf"), scratch.path("output.gguf"), scratch.path("other.gguf"));
    statistics(&one, &["--part", "1/2"]);
    statistics(&two, &["--part", "2/3"]);
    statistics(&output, &["--part", "2/2", "--output-tensor"]);
    ok(calibrate(&plain, &[]));
    let (model, text) = (data("tiny-llama"), data("corpora/eval-small.txt"));
    let args = ["calibrate", model.to_str().unwrap(), "--text", text.to_str().unwrap(), "--hessian", "-o"];
    ok(kquant(args.iter().chain(&[other.to_str().unwrap(), "--context", "32", "--chunks", "20"])));
    let cases: [Case; 7] = [
        ("twice", &[&one, &one], &[], "out.gguf", "one.gguf: blocks 0 to 4 of the text"),
        ("overlap", &[&one, &two], &[], "out.gguf", "two.gguf: blocks 3 to 4 of the text"),
        ("mixed", &[&one, &plain], &[], "out.gguf", "plain.gguf has no Hessians"),
        ("output tensor", &[&one, &output], &[], "out.gguf", "`output.weight` is not alike in both"),
        ("context", &[&one, &other], &[], "out.gguf", "calibrate again with the same --context"),
        ("legacy", &[&one], &[], "out.dat", "the legacy form cannot hold Hessians"),
        ("chunk size", &[&one], &["--chunk-size", "64"], "out.gguf", "--chunk-size is for"),
    ];
    for (case, files, options, out, fragment) in cases {
        let out = scratch.path(out);
        refused(case, &merge(&out, files, options), fragment, &out);
    }
    let out = scratch.path("out.gguf");
    for (case, options, fragment) in [
        (
            "too many parts",
            &["--part", "1/12"][..],
            "12 parts are too many for a text of 11 blocks of 512 tokens",
        ),
        ("no part", &["--part", "3/2"], "`3/2` is no part"),
    ] {
        refused(case, &calibrate(&out, options), fragment, &out);
        refused(case, &calibrate(&out, &[&["--hessian"], options].concat()), fragment, &out);
    }
    let legacy = scratch.path("out.dat");
    refused("legacy", &calibrate(&legacy, &["--hessian"]), "the legacy form cannot hold Hessians", &legacy);

    let kept = fs::read(&one).unwrap();
    let run = merge(&one, &[&one], &[]);
    assert!(run.status.code() == Some(2) && stderr(&run).contains("--force"), "{}", stderr(&run));
    ok(merge(&one, &[&one], &["--force"]));
    assert!(fs::read(&one).unwrap() == kept, "a sum of one is the one");
}
