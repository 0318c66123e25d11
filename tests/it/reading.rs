//! `--io`: files are read in different ways and the results are the same.
use std::fs;
use std::path::Path;

use crate::support::{
    Scratch, Tensor, data, kquant, micro_llama, ok, quantize, refused, stderr, write_folder, write_sharded,
};
use kquant::checkpoint::{Io, open_by};

const WAYS: [&str; 3] = ["auto", "mmap", "pread"];

/// Asserts that every way and a small budget give the same bytes.
fn same_bytes(scratch: &Scratch, model: &Path, kind: &str) {
    let outputs: Vec<Vec<u8>> = WAYS
        .iter()
        .flat_map(|io| [("2G", io), ("24K", io), ("200K", io)])
        .map(|(memory, io)| {
            let out = scratch.path("out.gguf");
            ok(quantize(model, &out, kind, &["--force", "--io", io, "--memory", memory, "--threads", "3"]));
            fs::read(&out).unwrap()
        })
        .collect();
    assert!(outputs.iter().all(|o| *o == outputs[0]), "{} {kind}", model.display());
}

#[test]
fn every_way_gives_the_same_output() {
    let scratch = Scratch::new("io");
    let (folder, shards) = (scratch.path("model"), scratch.path("shards"));
    write_folder(&folder, &micro_llama());
    write_sharded(&shards, &micro_llama(), 3);
    for model in [&folder, &shards] {
        same_bytes(&scratch, model, "Q4_K_M");
    }
    // A GGUF, and a copy of its bytes.
    let gguf = scratch.path("bf16.gguf");
    ok(quantize(&data("tiny-llama"), &gguf, "BF16", &["--io", "pread"]));
    same_bytes(&scratch, &gguf, "Q8_0");
    same_bytes(&scratch, &gguf, "COPY");
}

#[test]
fn transposed_tensors_are_read_in_every_way() {
    let scratch = Scratch::new("io-gpt2");
    same_bytes(&scratch, &data("archs/gpt2"), "Q8_0");
}

#[test]
fn evaluation_and_hashes_are_the_same() {
    let scratch = Scratch::new("io-evaluation");
    let text = data("corpora/calibration-small.txt");
    let run = |command: &str, io: &str, more: &[&str]| {
        let (model, text) = (data("tiny-llama"), text.to_str().unwrap());
        let args = [command, model.to_str().unwrap(), "--text", text, "--chunks", "2", "--quiet", "--io", io];
        ok(kquant(args.iter().chain(more)))
    };
    assert_eq!(run("perplexity", "mmap", &[]), run("perplexity", "pread", &[]));
    let matrix = |io: &str| {
        let out = scratch.path(&format!("{io}.gguf"));
        run("calibrate", io, &["-o", out.to_str().unwrap()]);
        fs::read(out).unwrap()
    };
    assert!(matrix("mmap") == matrix("pread"));
    let out = scratch.path("out.gguf");
    ok(quantize(&data("tiny-llama"), &out, "Q4_0", &[]));
    let hash = |io: &str| ok(kquant(["hash", out.to_str().unwrap(), "--io", io]));
    assert_eq!(hash("mmap"), hash("pread"));
}

#[test]
fn other_ways_are_refused() {
    let scratch = Scratch::new("io-unknown");
    let out = scratch.path("out.gguf");
    let run = quantize(&data("tiny-llama"), &out, "Q8_0", &["--io", "fast"]);
    refused("unknown", &run, "possible values: auto, mmap, pread", &out);
    assert!(stderr(&run).contains("'fast'"));
}

/// The path of a tiny safetensors file of one tensor, 64 rows of 512 F32 weights.
fn one_tensor(folder: &Path) -> std::path::PathBuf {
    write_folder(folder, &[Tensor::f32("w", &[64, 512], &crate::support::noise(1, 64 * 512))]);
    folder.join("model.safetensors")
}

#[test]
fn a_truncated_file_is_refused_in_every_way() {
    let scratch = Scratch::new("io-truncated");
    let (model, out) = (one_tensor(&scratch.path("model")), scratch.path("out.gguf"));
    let bytes = fs::read(&model).unwrap();
    for length in [0, 5, 40, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&model, &bytes[..length]).unwrap();
        for io in WAYS {
            let run = quantize(&model, &out, "F32", &["--io", io]);
            refused(&format!("{length} bytes, {io}"), &run, "model.safetensors", &out);
        }
    }
}

#[test]
fn a_file_truncated_while_it_is_open_is_an_error() {
    let scratch = Scratch::new("io-shrinks");
    for io in [Io::Mmap, Io::Pread] {
        let model = one_tensor(&scratch.path("model"));
        let opened = open_by(&model, io).unwrap();
        let whole = fs::metadata(&model).unwrap().len();
        fs::OpenOptions::new().write(true).open(&model).unwrap().set_len(whole - 1024).unwrap();
        let mut buffer = Vec::new();
        assert!(opened.checkpoint.fetch(0, 0..62, &mut buffer).is_ok());
        let error = opened.checkpoint.fetch(0, 60..64, &mut buffer).unwrap_err().to_string();
        assert!(error.contains("model.safetensors at byte") && error.contains("fetch it again"), "{error}");
        assert!(
            opened
                .checkpoint
                .fetch(0, 60..65, &mut buffer)
                .unwrap_err()
                .to_string()
                .contains("rows 60 to 65")
        );
    }
}
