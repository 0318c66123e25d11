//! Outputs: what they may replace, and that they appear together or not at all.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use kquant::context::{Progress, Silent};
use kquant::encode;
use kquant::job::{Job, Outputs, Resources, Statistics, Types, prepare};
use kquant::recipe;

use crate::support::{
    Scratch, beginning_with, data, kquant, micro_llama, ok, quantize, refused, stderr, write_folder,
    write_sharded,
};

fn text() -> PathBuf {
    data("corpora/eval-small.txt")
}

/// Every option that names an output, as a run that writes only this output to a known place or all others beside it.
const OUTPUTS: [(&str, &str); 9] = [
    ("quantize -o", "x.gguf"),
    ("quantize --manifest", "x.json"),
    ("quantize --report", "x.json"),
    ("perplexity --json", "x.json"),
    ("perplexity --save-logits", "x.logits"),
    ("calibrate -o", "x.gguf"),
    ("calibrate -o .dat", "x.dat"),
    ("calibrate --hessian -o", "x.gguf"),
    ("imatrix merge -o", "x.gguf"),
];

/// Runs the command of `option` with the output `x`; what else it writes goes to files `other...` beside it.
fn write_to(option: &str, x: &Path, more: &[&str]) -> Output {
    let model = data("tiny-llama").to_str().unwrap().to_owned();
    let (text, other) = (text().to_str().unwrap().to_owned(), x.with_file_name("other.gguf"));
    let matrix = data("golden/tiny-llama.imatrix.gguf").to_str().unwrap().to_owned();
    let (x, other) = (x.to_str().unwrap(), other.to_str().unwrap());
    let used = ["--context", "64", "--chunks", "2", "--quiet", "--text", &text];
    let quantize = ["quantize", &model, "--type", "Q4_0", "-o"];
    let calibrated = ["--context", "64", "--chunks", "2", "--calibrate", &text];
    let args: Vec<&str> = match option {
        "quantize -o" => [&quantize[..], &[x]].concat(),
        "quantize --manifest" => [&quantize[..], &[other, "--manifest", x]].concat(),
        "quantize --report" => [&quantize[..], &[other, "--report", x], &calibrated].concat(),
        "perplexity --json" => [&["perplexity", &model, "--json", x], &used[..]].concat(),
        "perplexity --save-logits" => [&["perplexity", &model, "--save-logits", x], &used[..]].concat(),
        "calibrate -o" | "calibrate -o .dat" => [&["calibrate", &model, "-o", x], &used[..]].concat(),
        "calibrate --hessian -o" => [&["calibrate", &model, "--hessian", "-o", x], &used[..]].concat(),
        "imatrix merge -o" => vec!["imatrix", "merge", &matrix, "-o", x],
        _ => panic!("{option}"),
    };
    kquant(args.iter().chain(more))
}

#[cfg(unix)]
mod special {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::special_inputs::mkfifo;

    #[test]
    fn pipes_and_sockets_are_refused_with_force_as_well() {
        for (option, name) in OUTPUTS {
            let scratch = Scratch::new("outputs-special");
            let [x, pipe, socket] = [name, "pipe", "socket"].map(|name| scratch.path(name));
            mkfifo(&pipe);
            let _listening = UnixListener::bind(&socket).unwrap();
            let before = fs::read_dir(scratch.path("")).unwrap().count();
            for (to, kind) in [(&pipe, "a pipe"), (&socket, "a socket")] {
                for more in [&[][..], &["--force"]] {
                    symlink(to, &x).unwrap();
                    let run = write_to(option, &x, more);
                    let message = stderr(&run);
                    assert_eq!(run.status.code(), Some(2), "{option}: {message}");
                    assert!(
                        message.contains(&format!("{name} is or leads to {kind}")),
                        "{option}: {message}"
                    );
                    assert_eq!(fs::read_link(&x).unwrap(), *to);
                    fs::remove_file(&x).unwrap();
                    assert_eq!(fs::read_dir(scratch.path("")).unwrap().count(), before, "{option}");
                }
            }
            mkfifo(&x);
            let run = write_to(option, &x, &["--force"]);
            assert_eq!(run.status.code(), Some(2), "{option}");
            assert!(!x.metadata().unwrap().is_file());
        }
    }

    #[test]
    fn devices_and_open_files_are_refused() {
        for (option, name) in OUTPUTS {
            let scratch = Scratch::new("outputs-devices");
            let x = scratch.path(name);
            for (to, kind) in [("/dev/null", "a device"), ("/dev/stdout", "an open file of a process")] {
                symlink(to, &x).unwrap();
                let run = write_to(option, &x, &[]);
                assert_eq!(run.status.code(), Some(2), "{option}");
                assert!(stderr(&run).contains(kind), "{option}: {}", stderr(&run));
                fs::remove_file(&x).unwrap();
            }
        }
    }

    #[test]
    fn a_link_stays_and_the_file_that_it_leads_to_is_replaced() {
        for (option, name) in OUTPUTS {
            let scratch = Scratch::new("outputs-links");
            let x = scratch.path(name);
            let target = scratch.path("in").join(name);
            fs::create_dir(scratch.path("in")).unwrap();
            fs::write(&target, "old").unwrap();
            symlink(&target, &x).unwrap();
            let kept = write_to(option, &x, &[]);
            assert_eq!(kept.status.code(), Some(2), "{option}");
            assert!(stderr(&kept).contains("--force"), "{option}: {}", stderr(&kept));
            assert_eq!(fs::read(&target).unwrap(), b"old");
            ok(write_to(option, &x, &["--force"]));
            assert_eq!(fs::read_link(&x).unwrap(), target, "{option}");
            assert!(fs::read(&target).unwrap().len() > 3, "{option}");
            assert_eq!(fs::read_dir(scratch.path("in")).unwrap().count(), 1, "{option}");
        }
    }

    #[test]
    fn a_file_larger_than_the_system_allows_is_refused_and_not_a_signal() {
        let scratch = Scratch::new("outputs-limit");
        let out = scratch.path("out.gguf");
        let model = data("tiny-llama");
        let run = Command::new("sh")
            .args(["-c", "ulimit -f 100; exec \"$0\" quantize \"$1\" -o \"$2\" --type Q4_0"])
            .args([Path::new(env!("CARGO_BIN_EXE_kquant")), &model, &out])
            .output()
            .unwrap();
        refused("limit", &run, "ulimit -f", &out);
    }
}

#[test]
fn whatever_is_called_partial_is_left_alone() {
    let scratch = Scratch::new("outputs-partial");
    let (out, partial) = (scratch.path("out.gguf"), scratch.path("out.gguf.partial"));
    ok(quantize(&data("tiny-llama"), &partial, "Q8_0", &[]));
    let before = fs::read(&partial).unwrap();
    ok(quantize(&partial, &out, "Q4_0", &["--allow-requantize"]));
    assert!(fs::read(&partial).unwrap() == before);
    let failed = quantize(&partial, &out, "Q4_0", &["--force"]);
    assert_eq!(failed.status.code(), Some(2));
    assert!(fs::read(&partial).unwrap() == before);
}

#[test]
fn an_input_named_as_an_unfinished_file_is_kept() {
    let scratch = Scratch::new("outputs-unfinished");
    let (out, matrix, model, text_file) = (
        scratch.path("out.gguf"),
        scratch.path("out.gguf.kquant-aaaaaaaa.partial"),
        scratch.path("out.gguf.kquant-bbbbbbbb.partial"),
        scratch.path("out.gguf.kquant-cccccccc.partial"),
    );
    fs::copy(data("golden/tiny-llama.imatrix.gguf"), &matrix).unwrap();
    fs::copy(text(), &text_file).unwrap();
    let folder = data("tiny-llama");
    let elsewhere = scratch.path("model.gguf");
    ok(quantize(&folder, &elsewhere, "Q8_0", &[]));
    fs::rename(&elsewhere, &model).unwrap();
    let names = [&out, &matrix, &model, &text_file].map(|path| path.to_str().unwrap());
    let [out_name, matrix_name, model_name, text_name] = names;
    let folder = folder.to_str().unwrap();
    for args in [
        &["quantize", folder, "-o", out_name, "--type", "Q4_0", "--imatrix", matrix_name][..],
        &["quantize", folder, "-o", out_name, "--type", "Q4_0", "--calibrate", text_name],
        &["quantize", folder, "-o", out_name, "--type", "Q4_0", "--verify", text_name],
        &["quantize", model_name, "-o", out_name, "--type", "COPY"],
        &["calibrate", folder, "-o", out_name, "--text", text_name],
        &["perplexity", folder, "--save-logits", out_name, "--text", text_name],
        &["imatrix", "merge", matrix_name, "-o", out_name],
    ] {
        let run = kquant(args);
        assert_eq!(run.status.code(), Some(2), "{args:?}");
        assert!(stderr(&run).contains("named like an unfinished file"), "{args:?}: {}", stderr(&run));
        assert_eq!(beginning_with(&out).len(), 3, "{args:?}");
    }
}

#[test]
fn outputs_that_are_inputs_are_refused_before_the_work() {
    let scratch = Scratch::new("outputs-inputs");
    let [model, metadata, types, words, matrix, logits] =
        ["model", "metadata.json", "types.txt", "text.txt", "matrix.gguf", "base.logits"]
            .map(|name| scratch.path(name));
    write_folder(&model, &micro_llama());
    fs::write(&metadata, "{}").unwrap();
    fs::write(&types, "ffn_down=Q8_0").unwrap();
    fs::copy(text(), &words).unwrap();
    fs::copy(data("golden/tiny-llama.imatrix.gguf"), &matrix).unwrap();
    let name = |path: &Path| path.to_str().unwrap().to_owned();
    let (folder, own, other) = (name(&model), name(&words), name(&scratch.path("new.gguf")));
    let (config, weights) = (name(&model.join("config.json")), name(&model.join("model.safetensors")));
    let (tokenizer, matrix, metadata, types) =
        (name(&model.join("tokenizer.json")), name(&matrix), name(&metadata), name(&types));
    let logits = name(&logits);
    ok(kquant([
        "perplexity",
        &folder,
        "--text",
        &own,
        "--context",
        "64",
        "--chunks",
        "2",
        "--save-logits",
        &logits,
    ]));
    let files =
        [&config, &weights, &tokenizer, &matrix, &metadata, &types, &own, &logits].map(|f| f.to_owned());
    let content = || files.each_ref().map(|file| fs::read(file).unwrap());
    let before = content();
    let quantize = ["quantize", &folder, "--type", "Q8_0", "-o"];
    let cases: [Vec<&str>; 16] = [
        [&quantize[..], &[&config]].concat(),
        [&quantize[..], &[&weights]].concat(),
        [&quantize[..], &[&matrix, "--imatrix", &matrix]].concat(),
        [&quantize[..], &[&metadata, "--metadata", &metadata]].concat(),
        [&quantize[..], &[&types, "--tensor-type-file", &types]].concat(),
        [&quantize[..], &[&own, "--calibrate", &own]].concat(),
        [&quantize[..], &[&own, "--verify", &own]].concat(),
        [&quantize[..], &[&other, "--manifest", &tokenizer]].concat(),
        [&quantize[..], &[&other, "--manifest", &own, "--calibrate", &own]].concat(),
        [&quantize[..], &[&other, "--report", &own, "--calibrate", &own]].concat(),
        [&quantize[..], &[&other, "--report", &config, "--calibrate", &own]].concat(),
        vec!["perplexity", &folder, "--text", &own, "--json", &own],
        vec!["perplexity", &folder, "--text", &own, "--json", &weights],
        vec!["perplexity", &folder, "--text", &own, "--save-logits", &own],
        vec!["perplexity", &folder, "--base", &logits, "--save-logits", &logits],
        vec!["perplexity", &folder, "--text", &own, "--base", &folder, "--json", &tokenizer],
    ];
    for mut args in cases {
        args.push("--force");
        let run = kquant(&args);
        assert_eq!(run.status.code(), Some(2), "{args:?}");
        assert!(stderr(&run).contains("part of the input"), "{args:?}: {}", stderr(&run));
        assert!(content() == before, "{args:?}");
        assert!(beginning_with(&scratch.path("new.gguf")).is_empty(), "{args:?}");
    }
    // The names of importance matrices end in .gguf.
    let (named, model) = (name(&scratch.path("text.gguf")), name(&scratch.path("model.gguf")));
    fs::copy(&words, &named).unwrap();
    ok(kquant(["quantize", &folder, "-o", &model, "--type", "Q8_0"]));
    for out in [&named, &model] {
        let run = kquant(["calibrate", &model, "--text", &named, "-o", out, "--force"]);
        assert!(stderr(&run).contains("part of the input"), "{}", stderr(&run));
    }
    assert!(fs::read(&named).unwrap() == fs::read(&words).unwrap());
    for args in [
        [&quantize[..], &[&other, "--manifest", &other]].concat(),
        [&quantize[..], &[&other, "--report", &other, "--calibrate", &own]].concat(),
        vec!["perplexity", &folder, "--text", &own, "--json", &other, "--save-logits", &other],
    ] {
        refused("twice", &kquant(&args), "two outputs have this name", &scratch.path("new.gguf"));
    }
}

/// Makes a file of another program when the run comes to its first tensor.
struct Intruder {
    path: PathBuf,
    done: AtomicBool,
}

impl Progress for Intruder {
    fn advance(&self, _done: u64, _what: &str) {
        if !self.done.swap(true, Ordering::Relaxed) {
            fs::write(&self.path, "other").unwrap();
        }
    }
}

#[test]
fn outputs_of_a_run_appear_together_or_not_at_all() {
    let scratch = Scratch::new("outputs-together");
    let folder = scratch.path("model");
    write_sharded(&folder, &micro_llama(), 3);
    let [out, manifest] = ["out.gguf", "manifest.json"].map(|name| scratch.path(name));
    let shard = |no: u32| scratch.path(&format!("out-{no:05}-of-00003.gguf"));
    let job = Job {
        model: folder,
        types: Types::FileType(recipe::Options::new(recipe::file_type("Q8_0").unwrap())),
        statistics: Statistics::None,
        encoder: encode::by_name("ggml").unwrap(),
        metadata: None,
        overrides: Vec::new(),
        keep_split: true,
        pre: None,
    };
    let prepared = prepare(job).unwrap();
    let outputs = Outputs { model: out, manifest: Some(manifest.clone()), report: None, force: false };
    let resources = Resources { memory: 1 << 30, threads: 2 };
    let run =
        |progress: &dyn Progress| prepared.run(None, &outputs, &resources, &AtomicBool::new(false), progress);
    let names = || beginning_with(&scratch.path("out")).len() + beginning_with(&manifest).len();
    for path in [shard(1), shard(2), shard(3), manifest.clone()] {
        let error = run(&Intruder { path: path.clone(), done: AtomicBool::new(false) }).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(path.to_str().unwrap()) && message.contains("already exists"), "{message}");
        assert_eq!(fs::read(&path).unwrap(), b"other");
        assert_eq!(names(), 1, "{}", path.display());
        // And where it is there from the beginning.
        assert!(run(&Silent).is_err());
        assert_eq!(names(), 1, "{}", path.display());
        fs::remove_file(path).unwrap();
    }
    run(&Silent).unwrap();
    assert_eq!(names(), 4);
}

#[test]
fn a_reader_that_has_gone_costs_no_output() {
    let scratch = Scratch::new("outputs-closed");
    let [json, logits] = ["x.json", "x.logits"].map(|name| scratch.path(name));
    let mut run = Command::new(env!("CARGO_BIN_EXE_kquant"))
        .args([Path::new("perplexity"), &data("tiny-llama"), Path::new("--text"), &text()])
        .args(["--context", "64", "--chunks", "2", "--quiet", "--json"])
        .args([json.as_path(), Path::new("--save-logits"), &logits])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(run.stdout.take());
    assert!(run.wait().unwrap().success());
    assert!(fs::read_to_string(&json).unwrap().contains("\"perplexity\""));
    assert!(logits.is_file());
}

#[test]
fn more_threads_than_a_machine_can_use_are_not_started() {
    let scratch = Scratch::new("outputs-threads");
    let (model, words) = (data("tiny-llama"), text());
    let model = model.to_str().unwrap();
    for (number, threads) in ["1000000", "18446744073709551615"].iter().enumerate() {
        let out = scratch.path(&format!("{number}.gguf"));
        ok(quantize(&data("tiny-llama"), &out, "Q4_0", &["--threads", threads]));
        let args =
            ["perplexity", model, "--text", words.to_str().unwrap(), "--context", "64", "--chunks", "2"];
        ok(kquant(args.iter().chain(&["--threads", *threads])));
    }
}

#[test]
fn a_folder_gets_files_named_by_the_rule_of_gguf() {
    let scratch = Scratch::new("outputs-named");
    let (model, folder) = (data("tiny-llama"), scratch.path("new"));
    let run = |more: &[&str]| {
        let fixed = ["quantize", model.to_str().unwrap(), "--out-dir", folder.to_str().unwrap()];
        kquant(fixed.iter().chain(more))
    };
    let named = |name: &str| folder.join(name);
    let of_type = named("Tiny-Llama-2.1M-Q4_K_M.gguf");
    let shown = ok(run(&["--type", "Q4_K_M", "--dry-run"]));
    assert!(shown.ends_with(&format!("to be written: {}\n", of_type.display())), "{shown}");
    assert!(!folder.exists());
    ok(run(&["--type", "Q4_K_M", "--quiet"]));
    assert!(of_type.exists());
    let again = run(&["--type", "Q4_K_M", "--quiet"]);
    assert!(again.status.code() == Some(2) && stderr(&again).contains("exists"), "{}", stderr(&again));
    ok(run(&["--type", "COPY", "--quiet", "--override-kv", "general.name=str:../a b"]));
    assert!(named("..-a-b-2.1M-BF16.gguf").exists());
    let both = run(&["--type", "Q8_0", "-o", "x.gguf"]);
    assert_eq!(both.status.code(), Some(2));
}
