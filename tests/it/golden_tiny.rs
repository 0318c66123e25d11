//! The whole program on tests/data/tiny-llama against stock llama.cpp, tensor by tensor, for every file type.
//!
//! `scripts/refresh_golden.py` made the expectations.
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use kquant::hash::digest;
use serde::Deserialize;

use crate::support::{Scratch, data, ok, quantize};

/// Tensor -> GGUF type and SHA-256.
type Tensors = BTreeMap<String, (String, String)>;

#[derive(Deserialize)]
struct Golden {
    quantize: BTreeMap<String, Tensors>,
    quantize_imatrix: BTreeMap<String, Tensors>,
}

fn golden() -> Golden {
    serde_json::from_slice(&fs::read(data("golden/tiny-llama.json")).unwrap()).unwrap()
}

/// Quantizes in one step, reads the result back.
fn made(out: &Path, kind: &str, more: &[&str]) -> Tensors {
    let more = [&["--encoder", "ggml", "--force", "--quiet"], more].concat();
    ok(quantize(&data("tiny-llama"), out, kind, &more));
    let files = digest(out).unwrap();
    assert_eq!(files.len(), 1, "{kind}");
    files.into_iter().flat_map(|f| f.tensors).map(|t| (t.name, (t.kind, t.sha256))).collect()
}

/// Compares every file type of one section; tells all tensors that differ, not the first one.
fn compare(name: &str, expected: &BTreeMap<String, Tensors>, more: &[&str]) {
    let scratch = Scratch::new(name);
    let mut wrong = Vec::new();
    for (kind, expected) in expected {
        let made = made(&scratch.path("out.gguf"), kind, more);
        assert!(made.keys().eq(expected.keys()), "{kind}: tensors {:?}", made.keys());
        for (tensor, (block, hash)) in expected {
            let (made_block, made_hash) = &made[tensor];
            if made_block != block {
                wrong.push(format!("{kind}: {tensor} is {made_block}, not {block}"));
            } else if made_hash != hash {
                wrong.push(format!("{kind}: {tensor} has other bytes of {block}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} tensors are not llama.cpp's:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_file_type_is_that_of_llama_quantize() {
    let golden = golden();
    assert_eq!(golden.quantize.len(), 24);
    compare("golden-plain", &golden.quantize, &[]);
}

#[test]
fn every_file_type_is_that_of_llama_quantize_with_importance() {
    let golden = golden();
    assert_eq!(golden.quantize_imatrix.len(), 22);
    let importance = data("golden/tiny-llama.imatrix.gguf");
    compare("golden-weighted", &golden.quantize_imatrix, &["--imatrix", importance.to_str().unwrap()]);
}

#[test]
fn the_legacy_importance_matrix_gives_the_same_bytes() {
    let mut golden = golden();
    golden.quantize_imatrix.retain(|kind, _| ["Q4_K_M", "Q3_K_S", "Q4_0"].contains(&kind.as_str()));
    let importance = data("golden/tiny-llama.imatrix.dat");
    compare("golden-legacy", &golden.quantize_imatrix, &["--imatrix", importance.to_str().unwrap()]);
}
