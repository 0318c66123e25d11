//! Fisher matrices of outputs, through the whole program: made, cut into parts, added up, read, refused.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::AtomicBool;

use crate::support::{Scratch, data, kquant, ok, refused};
use kquant::context::Silent;
use kquant::model::{Model, ModelError};
use kquant::statistics::{Fishers, HessianFile};
use kquant::text::Chunks;
use kquant_formats::hessian::HessianFile as Statistics;

/// Eleven blocks of 512 tokens, the last half empty.
fn calibrate(model: &Path, out: &Path, options: &[&str]) -> Output {
    run(model, out, &[&["--chunks", "84"], options].concat())
}

fn run(model: &Path, out: &Path, options: &[&str]) -> Output {
    let text = data("corpora/calibration-small.txt");
    let [model, text, out] = [model, &text, out].map(|path| path.to_str().unwrap());
    kquant(["calibrate", model, "--text", text, "-o", out, "--context", "64"].iter().chain(options))
}

fn fisher(model: &Path, out: &Path, more: &[&str]) -> String {
    ok(calibrate(model, out, &[&["--fisher"], more].concat()))
}

fn merge(out: &Path, files: &[PathBuf]) -> Output {
    let files = files.iter().map(|file| file.to_str().unwrap());
    kquant(["imatrix", "merge", "-o", out.to_str().unwrap()].into_iter().chain(files))
}

/// All means of a file, of every tensor that it names.
fn means(path: &Path) -> Vec<(String, u64, Vec<f32>)> {
    let file = HessianFile::open(path).unwrap();
    let all = &file.description().fishers.as_ref().unwrap().tensors;
    let of = |name: &str| match file.fisher(name).unwrap() {
        Some(fisher) => (name.to_owned(), fisher.tokens, fisher.mean),
        None => (name.to_owned(), 0, file.output_fisher().unwrap().unwrap()),
    };
    all.iter().map(|fisher| of(&fisher.tensor)).collect()
}

/// Two blocks and a half.
const SHORT: [&str; 4] = ["--fisher", "--output-tensor", "--chunks", "20"];

/// A mixture, a window with bounded scores, positions that are learned.
const FAMILIES: [&str; 3] = ["archs/mixtral", "archs/gemma2", "archs/gpt2"];

#[test]
fn threads_and_memory_change_no_byte() {
    let scratch = Scratch::new("fisher-bytes");
    for model in ["tiny-llama"].iter().chain(&FAMILIES).map(|name| data(name)) {
        let made = |name: &str, means: &[&str]| {
            let out = scratch.path(name);
            ok(run(&model, &out, &[&SHORT[..], &["--force"], means].concat()));
            fs::read(&out).unwrap()
        };
        let expected = made("default.gguf", &[]);
        assert!(made("one.gguf", &["--threads", "1"]) == expected, "{model:?}");
        assert!(made("three.gguf", &["--threads", "3"]) == expected, "{model:?}");
        let out = scratch.path("refused.gguf");
        let refusal = run(&model, &out, &[&SHORT[..], &["--memory", "1K"]].concat());
        refused("memory", &refusal, "give --memory at least", &out);
        let message = crate::support::stderr(&refusal);
        let least = message.split(' ').find_map(|word| word.parse::<u64>().ok()).unwrap();
        // Nothing fits but a layer and a block: states lie in a file.
        let least = least.to_string();
        assert!(made("least.gguf", &["--memory", &least]) == expected, "{model:?}");
    }
}

#[test]
fn parts_add_up_to_the_whole() {
    let scratch = Scratch::new("fisher-parts");
    for model in ["tiny-llama", "archs/mixtral"].map(data) {
        let whole = scratch.path("whole.gguf");
        let told = fisher(&model, &whole, &["--seed", "3", "--force"]);
        let all = means(&whole).len();
        for fragment in [&format!("Fisher matrices of {all} outputs"), "labels drawn by seed 3: mean loss"] {
            assert!(told.contains(fragment), "{told}");
        }
        let shown = ok(kquant(["imatrix", "show", whole.to_str().unwrap()]));
        assert!(
            shown.contains(&format!("Fisher matrices of {all} outputs, labels drawn by seed 3")),
            "{shown}"
        );
        let expected = means(&whole);
        for of in [2, 3] {
            let part = |i: usize| {
                let path = scratch.path(&format!("part-{i}-{of}.gguf"));
                fisher(&model, &path, &["--part", &format!("{i}/{of}"), "--seed", "3", "--force"]);
                path
            };
            let mut parts: Vec<PathBuf> = (1..=of).map(part).collect();
            let sums = ["sum.gguf", "reversed.gguf"].map(|name| {
                let sum = scratch.path(&format!("{of}-{name}"));
                let _ = fs::remove_file(&sum);
                ok(merge(&sum, &parts));
                parts.reverse();
                assert!(means(&sum) == expected, "{model:?} {of}");
                fs::read(&sum).unwrap()
            });
            assert!(sums[0] == sums[1], "the order of the files changes no byte");
        }
    }
}

#[test]
fn matrices_are_what_they_must_be() {
    let scratch = Scratch::new("fisher-values");
    let (path, other, plain) =
        (scratch.path("fisher.gguf"), scratch.path("other.gguf"), scratch.path("plain.gguf"));
    fisher(&data("tiny-llama"), &path, &[]);
    fisher(&data("tiny-llama"), &other, &["--seed", "1"]);
    ok(calibrate(&data("tiny-llama"), &plain, &["--hessian"]));
    let (file, hessians) = (HessianFile::open(&path).unwrap(), HessianFile::open(&plain).unwrap());
    assert!(file.importance() == hessians.importance(), "a file without --fisher holds the same");
    assert!(hessians.fisher("blk.0.attn_q.weight").unwrap().is_none());
    let model = Model::open(&data("tiny-llama"), None).unwrap();
    let all = means(&path);
    assert_eq!(all.len(), 2 + 7 * model.hyper.layers);
    for (name, tokens, mean) in &all[..all.len() - 1] {
        let n = mean.len().isqrt();
        assert_eq!((*tokens, n * n), (84 * 64, mean.len()), "{name}");
        assert!((0..n).all(|i| mean[i * n + i] > 0.0), "{name}: every output counts");
        for (i, j) in (0..n).flat_map(|i| (0..i).map(move |j| (i, j))) {
            // Cauchy and Schwarz.
            let bound = f64::from(mean[i * n + i]) * f64::from(mean[j * n + j]) * (1.0 + 1e-4);
            let [ij, ji] = [mean[i * n + j], mean[j * n + i]];
            assert!(ij == ji && f64::from(ij).powi(2) <= bound, "{name} {i} {j}");
        }
    }
    let output = file.output_fisher().unwrap().unwrap();
    assert_eq!(output.len(), model.vocab_size());
    assert!(output.iter().all(|p| (0.0..=0.25).contains(p)) && output.iter().sum::<f32>() < 1.0);
    assert!(
        file.fisher("output.weight").unwrap().is_none()
            && file.fisher("blk.9.attn_q.weight").unwrap().is_none()
    );
    // Other labels give other sums of much the same size.
    for ((name, _, a), (_, _, b)) in all.iter().zip(&means(&other)) {
        let n = a.len().isqrt();
        let trace = |mean: &[f32]| (0..n).map(|i| f64::from(mean[i * n + i])).sum::<f64>();
        if name != "output.weight" {
            assert!(a != b && (trace(a) / trace(b)).ln().abs() < 0.2, "{name}: {} {}", trace(a), trace(b));
        }
    }
}

#[test]
fn what_is_collected_for_use_at_once_is_what_a_file_has() {
    let scratch = Scratch::new("fisher-store");
    let path = scratch.path("fisher.gguf");
    fisher(&data("tiny-llama"), &path, &["--seed", "5"]);
    let model = Model::open(&data("tiny-llama"), None).unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let text = fs::read_to_string(data("corpora/calibration-small.txt")).unwrap();
    let bos = tokenizer.add_bos();
    let tokens = bos.into_iter().chain(tokenizer.encode(&text, false).unwrap()).collect();
    let chunks = Chunks::new(tokens, 64, Some(84), bos).unwrap();
    let file = HessianFile::open(&path).unwrap();
    let collect = |memory| Fishers::collect(&model, &chunks, memory, 5, &AtomicBool::new(false), &Silent);
    let Err(ModelError::Memory { needed }) = collect(1) else { unreachable!("a byte is too little") };
    let stopped = Fishers::collect(&model, &chunks, 1 << 30, 5, &AtomicBool::new(true), &Silent);
    assert!(matches!(stopped, Err(ModelError::Interrupted)));
    for memory in [1 << 30, needed] {
        let fishers = collect(memory).unwrap();
        for (name, tokens, mean) in means(&path) {
            if name == "output.weight" {
                assert!(fishers.get(&name).unwrap().is_none());
                assert!(fishers.output().unwrap() == file.output_fisher().unwrap());
                continue;
            }
            let fisher = fishers.get(&name).unwrap().unwrap();
            assert_eq!(fisher.columns * fisher.columns, mean.len());
            assert!(fisher.tokens == tokens && fisher.mean == mean, "{name}");
        }
        assert!(fishers.get("blk.9.attn_q.weight").unwrap().is_none());
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let scratch = Scratch::new("fisher-refused");
    let model = data("tiny-llama");
    let [one, two, plain] = ["one.gguf", "two.gguf", "plain.gguf"].map(|name| scratch.path(name));
    fisher(&model, &one, &["--part", "1/2"]);
    fisher(&model, &two, &["--part", "2/2", "--seed", "1"]);
    ok(calibrate(&model, &plain, &["--hessian", "--part", "2/2"]));
    let out = scratch.path("out.gguf");
    let seeds = merge(&out, &[one.clone(), two]);
    refused("seeds", &seeds, "16 Fisher matrices of labels by seed 1; calibrate all parts", &out);
    refused("none", &merge(&out, &[one.clone(), plain]), "has no Fisher matrices", &out);
    refused("seed alone", &calibrate(&model, &out, &["--seed", "1"]), "--fisher", &out);
    let legacy = scratch.path("out.dat");
    refused("legacy", &calibrate(&model, &legacy, &["--fisher"]), "cannot hold Hessians", &legacy);

    // A square that is none.
    let file = Statistics::open(&one).unwrap();
    let value = {
        let mut sums = vec![0.0; 64];
        sums.resize(file.description().fishers.as_ref().unwrap().tensors[0].values(), 0.0);
        file.add_fisher(0, &mut sums).unwrap();
        sums[0]
    };
    let mut bytes = fs::read(&one).unwrap();
    let at = bytes.windows(8).position(|window| window == value.to_le_bytes()).unwrap();
    for (broken, fragment) in [(-1.0f64, "value 0 is -1"), (f64::NAN, "value 0 is NaN")] {
        bytes[at..at + 8].copy_from_slice(&broken.to_le_bytes());
        let path = scratch.path("broken.gguf");
        fs::write(&path, &bytes).unwrap();
        let error = HessianFile::open(&path).unwrap().fisher("token_embd.weight").unwrap_err().to_string();
        assert!(error.contains(fragment), "{error}");
    }
}
