//! Names that hold control characters: they neither forge lines nor reach the terminal.
use std::fs;
use std::path::{Path, PathBuf};

use crate::malformed::gguf::{gguf_bytes, metadata};
use crate::support::{
    Scratch, data, kquant, micro_llama, ok, quantize, refused, stderr, write_safetensors, write_surroundings,
};

/// A GGUF in which `from` is replaced by `to`, of the same length.
fn with_name(scratch: &Scratch, from: &str, to: &str) -> PathBuf {
    assert_eq!(from.len(), to.len());
    let mut bytes = gguf_bytes(&metadata());
    let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    let path = scratch.path("model.gguf");
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_gguf_whose_names_hold_control_characters_is_refused_by_all_commands() {
    let scratch = Scratch::new("names-gguf");
    let out = scratch.path("out.gguf");
    for (from, to, fragment) in [
        ("blk.0.ffn_xx.weight", "b\nsha256  0 f:other", "the tensor name \"b\\nsha256  0 f:other\" holds"),
        ("blk.0.ffn_xx.weight", "blk.0.ffn\u{1b}[2J.abcde", "\\u{1b}[2J"),
        ("blk.0.ffn_xx.weight", "blk.0.ffn\u{9b}2J.abcde", "\\u{9b}2J"),
        ("verbs", "v\nrbs", "\"v\\nrbs\", holds a control character"),
        ("verbs", "ver\r\t", "\"ver\\r\\t\", holds a control character"),
    ] {
        let model = with_name(&scratch, from, to);
        let name = model.to_str().unwrap();
        let manifest = model.to_str().unwrap();
        for args in [&["hash", name][..], &["inspect", name], &["inspect", name, "--json"]] {
            let run = kquant(args);
            assert!(run.stdout.is_empty(), "{args:?}");
            refused(to, &run, fragment, &out);
        }
        let verify = kquant(["verify", name, "--manifest", manifest]);
        assert_eq!(verify.status.code(), Some(2));
        refused(to, &quantize(&model, &out, "COPY", &[]), fragment, &out);
    }
}

#[test]
fn safetensors_and_importance_matrices_of_such_names_are_refused() {
    let scratch = Scratch::new("names-others");
    let folder = scratch.path("model");
    write_surroundings(&folder);
    let mut tensors = micro_llama();
    tensors[1].name = "model\u{1b}[2J.norm".into();
    write_safetensors(&folder.join("model.safetensors"), &tensors);
    let out = scratch.path("out.gguf");
    for run in [kquant(["inspect", folder.to_str().unwrap()]), quantize(&folder, &out, "Q8_0", &[])] {
        refused("safetensors", &run, "\\u{1b}[2J.norm\" holds a control character", &out);
    }
    let matrix = scratch.path("matrix.dat");
    let mut bytes = vec![1, 0, 0, 0, 3, 0, 0, 0];
    bytes.extend(b"a\nb");
    bytes.extend([1, 0, 0, 0, 1, 0, 0, 0]);
    bytes.extend(1f32.to_le_bytes());
    fs::write(&matrix, bytes).unwrap();
    let show = kquant(["imatrix", "show", matrix.to_str().unwrap()]);
    refused("matrix", &show, "entry 0 has the name \"a\\nb\"", &out);
}

#[cfg(unix)]
#[test]
fn names_of_files_and_of_a_manifest_are_escaped() {
    let scratch = Scratch::new("names-paths");
    let model = scratch.path("a\nsha256-file  0  forged\u{1b}[2J.gguf");
    ok(quantize(&data("tiny-llama"), &model, "Q4_0", &[]));
    let name = model.to_str().unwrap();
    let hashes = ok(kquant(["hash", name]));
    assert!(!hashes.lines().any(|line| line.starts_with("sha256-file  0")), "{hashes}");
    assert!(hashes.contains("a\\nsha256-file  0  forged\\u{1b}[2J.gguf"), "{hashes}");
    assert!(ok(kquant(["inspect", name])).starts_with(&printed(&scratch.path("a\\n"))));
    let manifest = scratch.path("manifest");
    fs::write(&manifest, "sha256 00 x:te\u{1b}[2Jst\n").unwrap();
    let verify = kquant(["verify", name, "--manifest", manifest.to_str().unwrap()]);
    assert_eq!(verify.status.code(), Some(1));
    let text = String::from_utf8(verify.stdout).unwrap();
    assert!(text.contains("missing: tensor `te\\u{1b}[2Jst`") && !text.contains('\u{1b}'), "{text}");
    let missing = kquant(["inspect", scratch.path("\u{1b}[2J").to_str().unwrap()]);
    assert!(stderr(&missing).contains("\\u{1b}[2J") && !stderr(&missing).contains('\u{1b}'));
}

fn printed(path: &Path) -> String {
    path.display().to_string()
}
