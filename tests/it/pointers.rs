//! Git LFS pointers in the place of files.
use std::fs;
use std::path::Path;
use std::process::Output;

use crate::support::*;

fn make_pointer(path: &Path) {
    let text =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 123456\n", "0f".repeat(32));
    fs::write(path, text).unwrap();
}

/// The arguments that quantize `model` to `out`, and `more`.
fn made<'a>(model: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["quantize", model, "-o", out, "--type", "Q8_0"], more].concat()
}

/// Asserts that `output` says of `file` that it is a pointer, and how to get it.
fn named(output: &Output, file: &Path) {
    let message = stderr(output);
    let name = file.file_name().unwrap().to_str().unwrap();
    assert_eq!(output.status.code(), Some(2), "{name}: {message}");
    for fragment in [name, "is a Git LFS pointer", "123456 bytes", "git lfs pull"] {
        assert_eq!(
            message.matches(fragment).count().min(1),
            1,
            "{name}: expected `{fragment}` in: {message}"
        );
    }
}

#[test]
fn any_file_of_a_checkpoint() {
    let scratch = Scratch::new("pointers-checkpoint");
    let out = scratch.path("out.gguf");
    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let others = [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "added_tokens.json",
        "tokenizer.model",
        "model.safetensors.index.json",
        "model.safetensors",
        "hf_quant_config.json",
        "quantize_config.json",
        "quant_config.json",
    ];
    for file in shards.into_iter().chain(others) {
        let model = scratch.path(&format!("model-{file}"));
        write_sharded(&model, &micro_llama(), 2);
        make_pointer(&model.join(file));
        let run = quantize(&model, &out, "Q8_0", &[]);
        named(&run, &model.join(file));
        assert!(!out.exists());
    }
}

#[test]
fn optional_files_are_left_out_with_the_reason() {
    let scratch = Scratch::new("pointers-optional");
    let model = scratch.path("model");
    write_folder(&model, &micro_llama());
    let out = scratch.path("out.gguf");
    for file in ["generation_config.json", "README.md", "chat_template.jinja", "chat_template.json"] {
        make_pointer(&model.join(file));
        let run = quantize(&model, &out, "Q8_0", &["--force"]);
        let said = stderr(&run);
        ok(run);
        assert!(
            said.contains(file) && said.contains("is a Git LFS pointer") && said.contains("left out"),
            "{said}"
        );
        fs::remove_file(model.join(file)).unwrap();
    }
}

#[test]
fn files_given_by_name() {
    let scratch = Scratch::new("pointers-given");
    let model = scratch.path("model");
    write_folder(&model, &micro_llama());
    let out = scratch.path("out.gguf");
    let model = model.to_str().unwrap();
    let whole = scratch.path("whole.gguf");
    ok(quantize(Path::new(model), &whole, "Q8_0", &[]));
    let whole = whole.to_str().unwrap();
    let text = data("corpora/eval-small.txt");
    let text = text.to_str().unwrap();
    for name in ["x.gguf", "x.safetensors", "x.bin", "x", "x.dat", "x.json", "x.txt", "x-00001-of-00001.gguf"]
    {
        let path = scratch.path(name);
        make_pointer(&path);
        let file = path.to_str().unwrap();
        let out = out.to_str().unwrap();
        let runs: [Vec<&str>; 19] = [
            vec!["quantize", file, "-o", out, "--type", "Q8_0"],
            made(model, out, &["--imatrix", file]),
            made(model, out, &["--imatrix", file, "--encoder", "gptq"]),
            made(model, out, &["--metadata", file]),
            made(model, out, &["--tensor-type-file", file]),
            made(model, out, &["--calibrate", file]),
            made(model, out, &["--verify", file]),
            vec!["inspect", file],
            vec!["hash", file],
            vec!["verify", file, "--manifest", file],
            vec!["verify", whole, "--manifest", file],
            vec!["perplexity", file, "--text", text],
            vec!["perplexity", model, "--text", file],
            vec!["perplexity", model, "--text", text, "--base", file],
            vec!["calibrate", model, "--text", file, "-o", out],
            vec!["imatrix", "show", file],
            vec!["imatrix", "merge", file, "-o", out],
            vec!["tokenize", model, "--text", file],
            vec!["generate", file, "--prompt", "a"],
        ];
        for args in runs {
            named(&kquant(args), &path);
        }
    }
}

#[test]
fn a_shard_of_a_split_gguf() {
    let scratch = Scratch::new("pointers-split");
    let model = scratch.path("model");
    write_sharded(&model, &micro_llama(), 3);
    ok(quantize(&model, &scratch.path("x.gguf"), "Q8_0", &["--keep-split"]));
    let second = scratch.path("x-00002-of-00003.gguf");
    make_pointer(&second);
    let first = scratch.path("x-00001-of-00003.gguf");
    for args in [
        ["inspect", first.to_str().unwrap()],
        ["hash", first.to_str().unwrap()],
        ["inspect", second.to_str().unwrap()],
    ] {
        named(&kquant(args), &second);
    }
}
