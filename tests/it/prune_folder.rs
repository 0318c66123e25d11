//! `kquant prune` with a Hugging Face folder as its output.
use std::fs;
use std::path::{Path, PathBuf};

use kquant::checkpoint::{Origin, open};
use serde_json::{Value as Json, json};

use crate::support::{
    Scratch, data, kquant, micro_config, micro_llama, ok, quantize, refused, safetensors_bytes,
    safetensors_header,
};

/// Runs `kquant prune MODEL -o OUT --text TEXT ...` with the calibration text of the tests.
fn pruned(model: &Path, out: &str, more: &[&str]) -> std::process::Output {
    let text = data("corpora/calibration-small.txt");
    let paths = ["prune", model.to_str().unwrap(), "-o", out, "--text", text.to_str().unwrap()];
    kquant([&paths[..], &["-q", "--context", "64", "--chunks", "32"], more].concat())
}

/// Names and hashes of the tensors of an F32 GGUF made of `model`.
fn hashes(model: &Path, scratch: &Path) -> Vec<(String, String)> {
    ok(quantize(model, scratch, "F32", &["--force", "-q"]));
    let told: Json =
        serde_json::from_str(&ok(kquant(["hash", scratch.to_str().unwrap(), "--json"]))).unwrap();
    let tensors = told["files"][0]["tensors"].as_array().or_else(|| told[0]["tensors"].as_array()).unwrap();
    let text = |tensor: &Json, key: &str| tensor[key].as_str().unwrap().to_owned();
    let mut all: Vec<_> = tensors.iter().map(|t| (text(t, "name"), text(t, "sha256"))).collect();
    all.sort();
    all
}

fn json_in(path: PathBuf) -> Json {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_folder_is_the_same_model_as_the_gguf() {
    let (scratch, model) = (Scratch::new("prune-folder"), data("tiny-llama"));
    let source = Scratch::new("prune-folder-source");
    for entry in fs::read_dir(&model).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), source.path(entry.file_name().to_str().unwrap())).unwrap();
    }
    fs::write(source.path("LICENSE"), "as it was").unwrap();
    fs::write(source.path("notes.txt"), "of no use to a model").unwrap();
    let model = source.path("");
    let empty = scratch.path("empty");
    fs::create_dir(&empty).unwrap();
    for (name, more) in [
        ("narrow/", ["--ffn", "512"].as_slice()),
        ("trimmed/", &["--vocab", "1024"]),
        ("f32/", &["--ffn", "75%", "--type", "F32"]),
        ("empty", &["--vocab", "1500", "--threads", "1", "--memory", "64M"]),
    ] {
        let (folder, gguf) = (scratch.path(name), scratch.path("out.gguf"));
        ok(pruned(&model, folder.to_str().unwrap(), more));
        ok(pruned(&model, gguf.to_str().unwrap(), &[more, &["--force"]].concat()));
        assert_eq!(
            hashes(&folder, &scratch.path("a.gguf")),
            hashes(&gguf, &scratch.path("b.gguf")),
            "{name}"
        );
        let text = data("corpora/eval-small.txt");
        let [ours, theirs] = [&folder, &gguf]
            .map(|model| ok(kquant(["tokenize", model.to_str().unwrap(), "--text", text.to_str().unwrap()])));
        assert!(ours == theirs, "{name}: tokens differ");
        assert_eq!(fs::read_to_string(folder.join("LICENSE")).unwrap(), "as it was");
        assert!(!folder.join("notes.txt").exists());
        let kinds: Vec<&str> = open(&folder).unwrap().checkpoint.tensors().iter().map(|t| t.dtype).collect();
        let expected = if name == "f32/" { "F32" } else { "BF16" };
        assert!(kinds.iter().all(|kind| *kind == expected), "{name}: {kinds:?}");
    }
    assert_eq!(json_in(scratch.path("narrow/config.json"))["intermediate_size"], 512);
    assert_eq!(json_in(scratch.path("trimmed/config.json"))["vocab_size"], 1024);
    assert_eq!(json_in(scratch.path("f32/config.json"))["torch_dtype"], "float32");
    // What is left is a source like any other.
    ok(pruned(&scratch.path("narrow"), scratch.path("again/").to_str().unwrap(), &["--vocab", "1024"]));
    let again = json_in(scratch.path("again/config.json"));
    assert_eq!([&again["intermediate_size"], &again["vocab_size"]], [512, 1024]);
}

#[test]
fn a_gguf_says_what_it_was_made_of() {
    let (scratch, model) = (Scratch::new("prune-base"), data("tiny-llama"));
    let (first, second) = (scratch.path("first.gguf"), scratch.path("second.gguf"));
    ok(pruned(&model, first.to_str().unwrap(), &["--ffn", "512"]));
    ok(pruned(&first, second.to_str().unwrap(), &["--vocab", "1024"]));
    let keys = |path: &Path| match open(path).unwrap().origin {
        Origin::Gguf { metadata } => metadata,
        Origin::HuggingFace { .. } => panic!("no GGUF"),
    };
    let [whole, once, twice] = {
        let plain = scratch.path("plain.gguf");
        ok(quantize(&model, &plain, "F32", &["-q"]));
        [plain, first, second].map(|path| (keys(&path), open(&path).unwrap()))
    };
    let weights = |(_, opened): &(_, kquant::checkpoint::Opened)| -> u64 {
        opened.checkpoint.tensors().iter().map(|t| t.shape.iter().product::<u64>()).sum()
    };
    let text = |of: &(kquant_formats::gguf::Metadata, _), key: &str| {
        of.0.get(key).and_then(|v| v.as_str()).map(str::to_owned)
    };
    let number = |of: &(kquant_formats::gguf::Metadata, _), key: &str| of.0.get(key).and_then(|v| v.as_u64());
    let name = text(&whole, "general.name");
    assert!(name.is_some());
    for made in [&once, &twice] {
        assert_eq!(text(made, "general.base_model.0.name"), name);
        assert_eq!(number(made, "general.base_model.count"), Some(1));
        assert_eq!(number(made, "kquant.pruned.parameters_before"), Some(weights(&whole)));
        assert_eq!(number(made, "kquant.pruned.parameters"), Some(weights(made)));
        assert_ne!(text(made, "general.size_label"), text(&whole, "general.size_label"));
    }
}

#[test]
fn what_cannot_be_a_folder_is_refused_before_the_text_is_run() {
    let (scratch, model) = (Scratch::new("prune-folder-refused"), data("tiny-llama"));
    let gguf = scratch.path("model.gguf");
    ok(quantize(&model, &gguf, "F16", &["-q"]));
    let out = scratch.path("out/");
    refused(
        "gguf",
        &pruned(&gguf, out.to_str().unwrap(), &["--ffn", "512"]),
        "the source is a GGUF",
        &scratch.path("out"),
    );
    for (out, why) in
        [(model.clone(), "a folder that holds files"), (scratch.path("model.gguf/"), "no folder")]
    {
        let output = pruned(&model, out.to_str().unwrap(), &["--ffn", "512", "--force"]);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && message.contains(why), "{message}");
    }
    assert_eq!(fs::read_dir(scratch.path("")).unwrap().count(), 1, "left over");
    let (source, mut config) = (scratch.path("fp8"), micro_config());
    fs::create_dir(&source).unwrap();
    let mut tensors = micro_llama();
    let weight = tensors.iter_mut().find(|t| t.name.ends_with("up_proj.weight")).unwrap();
    let rows = weight.shape[0];
    (weight.dtype, weight.data) = ("F8_E4M3", vec![0x38; weight.shape.iter().product::<u64>() as usize]);
    let name = format!("{}_scale_inv", weight.name);
    tensors.push(crate::support::Tensor::f32(
        &name,
        &[rows.div_ceil(128), 2],
        &vec![1.0; rows.div_ceil(128) as usize * 2],
    ));
    config["quantization_config"] =
        json!({ "quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128] });
    fs::write(source.join("config.json"), config.to_string()).unwrap();
    fs::write(source.join("model.safetensors"), safetensors_bytes(&safetensors_header(&tensors), &tensors))
        .unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(data("archs/gpt2").join(file), source.join(file)).unwrap();
    }
    let output = pruned(&source, scratch.path("out/").to_str().unwrap(), &["--vocab", "300"]);
    refused("quantized", &output, "is quantized", &scratch.path("out"));
    // A dry run writes nothing.
    ok(pruned(&model, scratch.path("out/").to_str().unwrap(), &["--vocab", "1024", "--dry-run"]));
    assert!(!scratch.path("out").exists());
}
