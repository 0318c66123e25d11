//! `kquant imatrix` through the whole program.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::{Scratch, kquant, ok, refused, stderr};
use kquant_formats::imatrix::Imatrix;
use serde_json::{Value as Json, json};

/// Files that llama-imatrix made.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("formats/tests/data").join(name)
}

fn merge(out: &Path, files: &[&Path], options: &[&str]) -> Output {
    let args = ["imatrix", "merge", "-o", out.to_str().unwrap()].into_iter();
    kquant(args.chain(files.iter().map(|f| f.to_str().unwrap())).chain(options.iter().copied()))
}

fn show(file: &Path, options: &[&str]) -> String {
    ok(kquant(["imatrix", "show", file.to_str().unwrap()].iter().chain(options)))
}

/// `imatrix` as a legacy file of one entry.
fn legacy(name: &str, calls: i32, values: &[f32]) -> Vec<u8> {
    let mut bytes = [1i32.to_le_bytes(), (name.len() as i32).to_le_bytes()].concat();
    bytes.extend(name.as_bytes());
    bytes.extend([calls.to_le_bytes(), (values.len() as i32).to_le_bytes()].concat());
    values.iter().for_each(|v| bytes.extend(v.to_le_bytes()));
    bytes
}

#[test]
fn merging_adds_up_as_llama_imatrix_does_in_any_order() {
    let scratch = Scratch::new("imatrix-merge");
    let (new, old) = (golden("llama-5m.imatrix.gguf"), golden("llama-5m.imatrix.dat"));
    let (a, b) = (scratch.path("a.gguf"), scratch.path("b.gguf"));
    let text = ok(merge(&a, &[&new, &old], &["--chunk-size", "256"]));
    assert!(text.contains("28 entries, 120 chunks of 256 tokens, from \"calibration-small.txt\""), "{text}");
    ok(merge(&b, &[&old, &new], &["--chunk-size", "256"]));
    assert!(fs::read(&a).unwrap() == fs::read(&b).unwrap());
    let expected = Imatrix::open(&golden("llama-5m.merged.gguf")).unwrap();
    // llama-imatrix names the text twice.
    let once = vec!["calibration-small.txt".to_owned()];
    assert!(Imatrix::open(&a).unwrap() == Imatrix { datasets: once, ..expected });
}

#[test]
fn one_file_is_converted() {
    let scratch = Scratch::new("imatrix-convert");
    for (from, to, options) in [
        ("llama-5m.imatrix.gguf", "llama-5m.imatrix.gguf", &[][..]),
        ("llama-5m.imatrix.gguf", "llama-5m.from-gguf.dat", &[]),
        ("llama-5m.imatrix.dat", "llama-5m.imatrix.dat", &[]),
        ("experts.imatrix.gguf", "experts.imatrix.dat", &[]),
    ] {
        let out = scratch.path(to);
        ok(merge(&out, &[&golden(from)], &[&["--force"], options].concat()));
        assert!(fs::read(&out).unwrap() == fs::read(golden(to)).unwrap(), "{from} to {to}");
    }
}

#[test]
fn a_merged_matrix_can_be_quantized_with() {
    let scratch = Scratch::new("imatrix-use");
    let (one, two) = (scratch.path("one.dat"), scratch.path("two.dat"));
    let name = "blk.0.ffn_up.weight";
    fs::write(&one, legacy(name, 1, &[1.0; 256])).unwrap();
    fs::write(&two, legacy("blk.0.attn_q.weight", 3, &[6.0; 256])).unwrap();
    let merged = scratch.path("merged.gguf");
    let run = merge(&merged, &[&one, &two], &["--chunk-size", "64"]);
    let warnings = stderr(&run);
    ok(run);
    assert_eq!(warnings.matches("has nothing on 1 of 2 tensors").count(), 2, "{warnings}");
    let folder = scratch.path("model");
    crate::support::write_folder(&folder, &crate::support::micro_llama());
    let out = scratch.path("out.gguf");
    ok(crate::support::quantize(&folder, &out, "Q4_K_M", &["--imatrix", merged.to_str().unwrap()]));
    let importance = Imatrix::open(&merged).unwrap().entries["blk.0.attn_q.weight"].importance();
    assert_eq!(importance, [2.0; 256]);
}

/// Case, files, options, output, what the message must say.
type Case<'a> = (&'a str, &'a [&'a Path], &'a [&'a str], &'a str, &'a str);

#[test]
fn what_cannot_be_merged_is_refused() {
    let scratch = Scratch::new("imatrix-refused");
    let (new, old, experts) =
        (golden("llama-5m.imatrix.gguf"), golden("llama-5m.imatrix.dat"), golden("experts.imatrix.gguf"));
    let other = scratch.path("other.dat");
    fs::write(&other, legacy("blk.0.ffn_down.weight", 1, &[1.0; 3])).unwrap();
    let missing = scratch.path("missing.gguf");
    let sized = &["--chunk-size", "256"][..];
    let cases: [Case; 8] = [
        ("legacy among others", &[&new, &old], &[], "out.gguf", "llama-5m.imatrix.dat: the legacy form"),
        ("legacy to GGUF", &[&old], &[], "out.gguf", "tokens per chunk"),
        ("chunk sizes", &[&new, &experts], &[], "out.gguf", "chunks of 256 tokens"),
        (
            "columns",
            &[&new, &other],
            sized,
            "out.gguf",
            "entry `blk.0.ffn_down.weight` has 1 matrices of 3 columns",
        ),
        ("unknown form", &[&new], &[], "out.bin", "out.bin: the name of an importance matrix ends in"),
        ("missing", &[&new, &missing], &[], "out.gguf", "missing.gguf"),
        ("no file", &[], &[], "out.gguf", "<FILE>"),
        ("chunk size 0", &[&old], &["--chunk-size", "0"], "out.gguf", "--chunk-size"),
    ];
    for (case, files, options, out, fragment) in cases {
        let out = scratch.path(out);
        refused(case, &merge(&out, files, options), fragment, &out);
    }
    let kept = scratch.path("kept.gguf");
    fs::write(&kept, "precious").unwrap();
    let run = merge(&kept, &[&new], &[]);
    assert_eq!(run.status.code(), Some(2));
    assert!(stderr(&run).contains("--force"), "{}", stderr(&run));
    assert_eq!(fs::read(&kept).unwrap(), b"precious");
}

#[test]
fn an_input_can_be_replaced_by_the_sum() {
    let scratch = Scratch::new("imatrix-in-place");
    let file = scratch.path("sum.gguf");
    fs::copy(golden("experts.imatrix.gguf"), &file).unwrap();
    ok(merge(&file, &[&file, &golden("experts.imatrix.gguf")], &["--force"]));
    let (sum, one) = (Imatrix::open(&file).unwrap(), Imatrix::open(&golden("experts.imatrix.gguf")).unwrap());
    assert_eq!(sum.chunk_count, Some(6));
    for (name, entry) in &one.entries {
        assert_eq!(sum.entries[name].counts, entry.counts.iter().map(|n| n * 2.0).collect::<Vec<_>>());
        assert_eq!(sum.entries[name].importance(), entry.importance(), "{name}");
    }
}

#[test]
fn show_tells_coverage_and_what_is_missing() {
    let text = show(&golden("experts.imatrix.gguf"), &[]);
    for fragment in [
        "experts.imatrix.gguf: 3 entries, 3 chunks of 64 tokens, from \"code.txt\", \"prose.txt\"",
        "layer 0: ffn_gate_inp, ffn_up_exps\n  layer 1: ffn_up_exps\n",
        "blk.0.ffn_up_exps.weight: 1 of 4 experts were never used",
        "blk.1.ffn_up_exps.weight: 4 of 4 experts were never used",
    ] {
        assert!(text.contains(fragment), "`{fragment}` in:\n{text}");
    }
    let text = show(&golden("llama-5m.imatrix.gguf"), &[]);
    let all = "layers 0 to 3: attn_k, attn_output, attn_q, attn_v, ffn_down, ffn_gate, ffn_up\n";
    assert!(text.contains(all), "{text}");
}

#[test]
fn show_as_json_sorted() {
    let file = golden("llama-5m.imatrix.gguf");
    let parse = |options: &[&str]| serde_json::from_str::<Json>(&show(&file, options)).unwrap();
    let by_name = parse(&["--json"]);
    assert_eq!(by_name["chunk_size"], 256);
    assert_eq!(by_name["coverage"].as_array().unwrap().len(), 1);
    let first = &by_name["entries"][0];
    assert_eq!(
        (&first["name"], &first["layer"], &first["columns"], &first["count"], &first["zero_columns"]),
        (&json!("blk.0.attn_k.weight"), &json!(0), &json!(256), &json!(25600), &json!(0))
    );
    let matrix = Imatrix::open(&file).unwrap();
    let values = matrix.entries["blk.0.attn_k.weight"].importance();
    let max = values.iter().copied().fold(0.0, f32::max);
    assert_eq!(first["max"].as_f64(), Some(max.into()));
    for key in ["total", "mean", "max", "entropy"] {
        let sorted = parse(&["--json", "--sort", key]);
        let values: Vec<f64> =
            sorted["entries"].as_array().unwrap().iter().map(|e| e[key].as_f64().unwrap()).collect();
        assert_eq!(values.len(), 28);
        assert!(values.is_sorted_by(|a, b| a >= b), "{key}: {values:?}");
    }
}
