//! Inputs that are no regular files: they neither hang a run nor fill its memory, and pipes give texts.
#![cfg(unix)]
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value as Json;

use crate::support::{Scratch, data, kquant, micro_llama, ok, refused, stderr, write_folder};

/// Makes a pipe.
pub fn mkfifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Runs the binary, which must end within two minutes.
fn timely(args: &[&str]) -> Output {
    let run =
        Command::new("timeout").arg("120").arg(env!("CARGO_BIN_EXE_kquant")).args(args).output().unwrap();
    assert_ne!(run.status.code(), Some(124), "{args:?} hangs");
    run
}

/// A small model of its own, a pipe that nobody writes to, and an output.
fn places(name: &str) -> (Scratch, PathBuf, PathBuf, PathBuf) {
    let scratch = Scratch::new(name);
    let (model, pipe, out) = (scratch.path("model"), scratch.path("pipe"), scratch.path("out.gguf"));
    write_folder(&model, &micro_llama());
    mkfifo(&pipe);
    (scratch, model, pipe, out)
}

#[test]
fn files_of_a_checkpoint_that_are_pipes_or_devices_are_refused() {
    let (_scratch, model, pipe, out) = places("special-checkpoint");
    let quantize =
        || timely(&["quantize", model.to_str().unwrap(), "-o", out.to_str().unwrap(), "--type", "Q8_0"]);
    for name in [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "added_tokens.json",
        "chat_template.jinja",
        "model.safetensors",
        "model.safetensors.index.json",
        "tokenizer.model",
    ] {
        let (path, aside) = (model.join(name), model.join("aside"));
        let there = fs::rename(&path, &aside).is_ok();
        for (to, kind) in [(&*pipe, "a pipe"), (Path::new("/dev/zero"), "a device")] {
            symlink(to, &path).unwrap();
            let run = quantize();
            // An optional file can be done without; the run must say so then.
            if run.status.success() {
                assert!(stderr(&run).contains(kind), "{name}: {}", stderr(&run));
                fs::remove_file(&out).unwrap();
            } else {
                refused(name, &run, kind, &out);
                assert!(stderr(&run).contains(name), "{name}: {}", stderr(&run));
            }
            fs::remove_file(&path).unwrap();
        }
        if there {
            fs::rename(&aside, &path).unwrap();
        }
    }
}

#[test]
fn a_model_card_that_cannot_be_read_is_a_warning() {
    let (scratch, model, pipe, out) = places("special-card");
    let card = model.join("README.md");
    let long = scratch.path("long");
    fs::File::create(&long).unwrap().set_len(5 << 20).unwrap();
    for (to, fragment) in [
        (&*pipe, "it is a pipe"),
        (Path::new("/dev/zero"), "it is a device"),
        (&long, "more than 4194304 bytes"),
    ] {
        symlink(to, &card).unwrap();
        let args =
            ["quantize", model.to_str().unwrap(), "-o", out.to_str().unwrap(), "--type", "Q8_0", "--force"];
        let run = timely(&args);
        assert!(stderr(&run).contains(fragment), "{}", stderr(&run));
        ok(run);
        fs::remove_file(&card).unwrap();
    }
}

#[test]
fn options_that_name_a_pipe_or_a_device_are_refused() {
    let (scratch, model, pipe, out) = places("special-options");
    let manifest = scratch.path("manifest");
    fs::write(&manifest, "sha256 00 x:a").unwrap();
    let manifest = manifest.to_str().unwrap();
    let (model, out_name) = (model.to_str().unwrap(), out.to_str().unwrap());
    let text = data("corpora/eval-small.txt");
    let text = text.to_str().unwrap();
    let quantize = ["quantize", model, "-o", out_name, "--type", "Q8_0"];
    for (path, kind) in [(pipe.to_str().unwrap(), "a pipe"), ("/dev/zero", "a device")] {
        for option in ["--metadata", "--tensor-type-file", "--imatrix"] {
            let run = timely(&[&quantize[..], &[option, path]].concat());
            refused(option, &run, kind, &out);
        }
        for args in [
            &["inspect", path][..],
            &["hash", path],
            &["verify", path, "--manifest", manifest],
            &["imatrix", "show", path],
            &["imatrix", "merge", path, "-o", out_name],
            &["tokenize", path, "--prompt", "a"],
            &["generate", path, "--prompt", "a"],
            &["quantize", path, "-o", out_name, "--type", "Q8_0"],
            &["perplexity", path, "--text", text],
            &["perplexity", model, "--text", text, "--base", path],
            &["calibrate", path, "--text", text, "-o", out_name],
        ] {
            refused(&args.join(" "), &timely(args), kind, &out);
        }
    }
    // Texts may be pipes, but no devices.
    for args in [
        &["perplexity", model, "--text", "/dev/zero"][..],
        &["tokenize", model, "--text", "/dev/zero"],
        &["calibrate", model, "--text", "/dev/zero", "-o", out_name],
        &[&quantize[..], &["--calibrate", "/dev/zero"]].concat(),
        &[&quantize[..], &["--verify", "/dev/zero"]].concat(),
    ] {
        refused(&args.join(" "), &timely(args), "it is a device", &out);
    }
    for (path, kind) in [(pipe.to_str().unwrap(), "a pipe"), ("/dev/zero", "a device")] {
        let verify = timely(&["verify", manifest, "--manifest", path]);
        refused("verify", &verify, kind, &out);
    }
}

/// Runs the binary with what `text` holds coming through a pipe called `pipe`.
fn through(pipe: &Path, text: &Path, args: &[&str]) -> Output {
    std::thread::scope(|scope| {
        scope.spawn(|| fs::copy(text, pipe).unwrap());
        timely(args)
    })
}

#[test]
fn a_text_through_a_pipe_is_the_same_text() {
    let scratch = Scratch::new("special-text");
    let (model, text) = (data("tiny-llama"), data("corpora/eval-small.txt"));
    // Of names as long as each other, which go into the files.
    let [file, pipe] = ["a", "b"].map(|name| scratch.path(name).join("pipe.txt"));
    for path in [&file, &pipe] {
        fs::create_dir(path.parent().unwrap()).unwrap();
    }
    fs::copy(&text, &file).unwrap();
    mkfifo(&pipe);
    let model = model.to_str().unwrap();
    let used = ["--context", "64", "--chunks", "3", "--quiet"];
    for before in [
        &["tokenize", model, "--text"][..],
        &[&["perplexity", model, "--json", "-"], &used[..], &["--text"]].concat(),
    ] {
        let with = |path: &Path| [before, &[path.to_str().unwrap()]].concat().join("\0");
        let [of_file, of_pipe] = [&file, &pipe].map(|path| with(path));
        let of_file = ok(kquant(of_file.split('\0')));
        let args: Vec<&str> = of_pipe.split('\0').collect();
        assert_eq!(ok(through(&pipe, &text, &args)), of_file);
    }
    let out = |name: &str| scratch.path(name).to_str().unwrap().to_owned();
    for more in [&["--hessian"][..], &[]] {
        let [one, two] = [out("one.gguf"), out("two.gguf")];
        let run = |path: &Path, out: &str| {
            let path = path.to_str().unwrap().to_owned();
            [&["calibrate", model, "-o", out, "--force", "--text", &path], &used[..], more]
                .concat()
                .join("\0")
        };
        ok(kquant(run(&file, &one).split('\0')));
        let args = run(&pipe, &two);
        ok(through(&pipe, &text, &args.split('\0').collect::<Vec<_>>()));
        let [one, two] = [one, two].map(|path| fs::read(path).unwrap());
        let different = one.iter().zip(&two).filter(|(a, b)| a != b).count();
        assert_eq!((one.len(), different), (two.len(), 1), "{more:?}: all but one letter of the text's path");
    }
    let [one, two, first, second] = ["three.gguf", "four.gguf", "3.json", "4.json"].map(out);
    for quality in ["fast", "good"] {
        let run = |path: &Path, out: &str, manifest: &str| {
            let path = path.to_str().unwrap().to_owned();
            let job = ["quantize", model, "-o", out, "--type", "Q4_0", "--force", "--quality", quality];
            [&job[..], &["--manifest", manifest, "--calibrate", &path], &used[..]].concat().join("\0")
        };
        ok(kquant(run(&file, &one, &first).split('\0')));
        let args = run(&pipe, &two, &second);
        ok(through(&pipe, &text, &args.split('\0').collect::<Vec<_>>()));
        let sources = |path: &str| -> Json {
            serde_json::from_slice::<Json>(&fs::read(path).unwrap()).unwrap()["sources"].clone()
        };
        assert_eq!(sources(&first), sources(&second), "{quality}");
        let named = sources(&first).as_array().unwrap().last().unwrap().clone();
        assert_eq!(named["name"], "pipe.txt");
        assert_eq!(named["bytes"], text.metadata().unwrap().len());
    }
}
