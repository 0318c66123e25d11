//! Messages say what the system or a parser answered once.
use std::fs;
use std::path::Path;
use std::process::Output;

use crate::support::*;

/// Asserts exit code 2 and a message in which no part, and neither the system's answer nor a position, stands twice.
fn once(case: &str, output: &Output, fragment: &str) {
    let message = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{case}: {message}");
    assert_eq!(message.matches(fragment).count(), 1, "{case}: expected `{fragment}` once in: {message}");
    for text in
        ["os error", "No such file", "s a directory", "Not a directory", "column", "EOF while", "UTF-8"]
    {
        assert!(message.matches(text).count() <= 1, "{case}: `{text}` twice in: {message}");
    }
    let places = usize::from(message.contains("at byte")) + message.matches("column").count();
    assert!(places <= 1, "{case}: two positions in: {message}");
    let parts: Vec<&str> = message.trim_end().split(": ").collect();
    let twice = parts.iter().enumerate().find(|(i, part)| part.len() > 8 && parts[..*i].contains(part));
    assert!(twice.is_none(), "{case}: {twice:?} twice in: {message}");
}

struct Inputs {
    scratch: Scratch,
    model: String,
    gguf: String,
    manifest: String,
    text: String,
}

impl Inputs {
    fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let model = scratch.path("model");
        write_folder(&model, &micro_llama());
        let gguf = scratch.path("whole.gguf");
        ok(quantize(&model, &gguf, "Q8_0", &[]));
        let manifest = scratch.path("manifest.sha256");
        fs::write(&manifest, ok(kquant(["hash", gguf.to_str().unwrap()]))).unwrap();
        let [model, gguf, manifest, text] = [model, gguf, manifest, data("corpora/eval-small.txt")]
            .map(|path| path.to_str().unwrap().to_owned());
        Self { scratch, model, gguf, manifest, text }
    }

    /// Every command, and every option that reads a file, on `file`.
    fn reading<'a>(&'a self, file: &'a str, out: &'a str) -> Vec<Vec<&'a str>> {
        let Self { model, gguf, manifest, text, .. } = self;
        let made = |more: &[&'a str]| [&["quantize", model, "-o", out, "--type", "Q8_0"], more].concat();
        vec![
            vec!["quantize", file, "-o", out, "--type", "Q8_0"],
            made(&["--imatrix", file]),
            made(&["--imatrix", file, "--encoder", "gptq"]),
            made(&["--metadata", file]),
            made(&["--tensor-type-file", file]),
            made(&["--calibrate", file]),
            made(&["--calibrate", file, "--encoder", "ggml"]),
            made(&["--verify", file]),
            vec!["inspect", file],
            vec!["hash", file],
            vec!["verify", file, "--manifest", manifest],
            vec!["verify", gguf, "--manifest", file],
            vec!["perplexity", file, "--text", text],
            vec!["perplexity", model, "--text", file],
            vec!["perplexity", model, "--text", text, "--base", file],
            vec!["calibrate", file, "--text", text, "-o", out],
            vec!["calibrate", model, "--text", file, "-o", out],
            vec!["imatrix", "show", file],
            vec!["imatrix", "merge", file, "-o", out],
            vec!["tokenize", file, "-p", "a"],
            vec!["tokenize", model, "--text", file],
            vec!["generate", file, "--prompt", "a"],
        ]
    }

    /// Every command that writes, into `file`.
    fn writing<'a>(&'a self, file: &'a str, out: &'a str) -> Vec<Vec<&'a str>> {
        let Self { model, text, .. } = self;
        let small = ["--context", "16", "--chunks", "1"];
        let with = |args: &[&'a str]| [args, &small].concat();
        vec![
            vec!["quantize", model, "--type", "Q8_0", "-o", file],
            vec!["quantize", model, "--type", "Q8_0", "-o", out, "--manifest", file],
            with(&["quantize", model, "--type", "Q4_0", "-o", out, "--calibrate", text, "--report", file]),
            with(&["perplexity", model, "--text", text, "--json", file]),
            with(&["perplexity", model, "--text", text, "--save-logits", file]),
            with(&["calibrate", model, "--text", text, "-o", file]),
            with(&["calibrate", model, "--text", text, "--hessian", "-o", file]),
        ]
    }
}

#[test]
fn what_the_system_says_of_an_input() {
    let inputs = Inputs::new("messages-inputs");
    let out = inputs.scratch.path("out.gguf").to_str().unwrap().to_owned();
    let missing = inputs.scratch.path("no-such-thing").to_str().unwrap().to_owned();
    for args in inputs.reading(&missing, &out) {
        once(&args.join(" "), &kquant(&args), "No such file");
    }
    // A folder in a file's place, which is none to read a model from.
    let folder = inputs.scratch.path("folder");
    fs::create_dir(&folder).unwrap();
    for args in inputs.reading(folder.to_str().unwrap(), &out) {
        let run = kquant(&args);
        let message = stderr(&run);
        if message.contains("irectory") {
            once(&args.join(" "), &run, "irectory");
        }
        assert_eq!(run.status.code(), Some(2), "{args:?}: {message}");
    }
}

#[test]
fn what_the_system_says_of_an_output() {
    let inputs = Inputs::new("messages-outputs");
    let out = inputs.scratch.path("out.gguf").to_str().unwrap().to_owned();
    let file = inputs.scratch.path("no-such-folder/x.gguf").to_str().unwrap().to_owned();
    for args in inputs.writing(&file, &out) {
        once(&args.join(" "), &kquant(&args), "No such file");
    }
    let folder = inputs.scratch.path("folder.gguf");
    fs::create_dir(&folder).unwrap();
    for args in inputs.writing(folder.to_str().unwrap(), &out) {
        once(&args.join(" "), &kquant(&args), "irectory");
    }
}

#[test]
fn what_is_said_of_a_checkpoints_files() {
    let inputs = Inputs::new("messages-files");
    let out = inputs.scratch.path("out.gguf");
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json", "added_tokens.json"] {
        let model = inputs.scratch.path(&format!("model-{file}"));
        write_folder(&model, &micro_llama());
        let _ = fs::remove_file(model.join(file));
        let run = || quantize(&model, &out, "Q8_0", &[]);
        if file == "config.json" {
            once(file, &run(), "No such file");
            let model = model.to_str().unwrap();
            once(file, &kquant(["perplexity", model, "--text", &inputs.text]), "No such file");
            once(file, &kquant(["tokenize", model, "-p", "a"]), "No such file");
        }
        fs::write(model.join(file), "{\"a\": [1,\n 2 3]}").unwrap();
        once(file, &run(), "expected `,` or `]`");
        fs::write(model.join(file), "{").unwrap();
        once(file, &run(), "EOF while parsing an object");
        fs::write(model.join(file), b"{\"a\": \"\xff\"}").unwrap();
        once(file, &run(), "invalid unicode code point");
        fs::remove_file(model.join(file)).unwrap();
        fs::create_dir(model.join(file)).unwrap();
        once(file, &run(), "s a directory");
    }
}

#[test]
fn what_a_parser_says_of_other_files() {
    let inputs = Inputs::new("messages-parsers");
    let scratch = &inputs.scratch;
    let (out, model) = (scratch.path("out.gguf"), Path::new(&inputs.model));
    let file = scratch.path("file.json");
    let name = file.to_str().unwrap();
    fs::write(&file, "{\"a\": [1,\n 2 3]}").unwrap();
    once("--metadata", &quantize(model, &out, "Q8_0", &["--metadata", name]), "expected `,` or `]`");
    once("--manifest", &kquant(["verify", &inputs.gguf, "--manifest", name]), "expected `,` or `]`");
    once("an index", &kquant(["inspect", name]), "expected `,` or `]`");
    fs::write(&file, b"\xff").unwrap();
    once("--manifest", &kquant(["verify", &inputs.gguf, "--manifest", name]), "UTF-8");
    once("a text", &kquant(["tokenize", &inputs.model, "--text", name]), "UTF-8");
    once("types", &quantize(model, &out, "Q8_0", &["--tensor-type-file", name]), "UTF-8");
    // Headers of safetensors: a fault of JSON, of an entry, of a value in it.
    for header in [
        "{\"a\": [1,\n 2 3]}",
        "{\"a\": 1}",
        "{\"a\": {\"dtype\": \"F32\", \"shape\": [-1], \"data_offsets\": [0, 0]}}",
        "{\"__metadata__\": 7}",
    ] {
        let path = scratch.path("x.safetensors");
        fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()).unwrap();
        once(header, &kquant(["inspect", path.to_str().unwrap()]), "at byte");
    }
    fs::write(model.join("README.md"), "---\nlicense: [mit\nb: c\n---\n").unwrap();
    let run = quantize(model, &out, "Q8_0", &[]);
    assert_eq!(stderr(&run).matches("line").count(), 1, "{}", stderr(&run));
    ok(run);
}
