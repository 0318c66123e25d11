//! The main job through the whole program.
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{
    HIDDEN, Scratch, Tensor, beginning_with, data, kquant, micro_llama, noise, ok, quantize, stderr,
    write_folder, write_sharded,
};
use kquant::checkpoint::type_layout;
use kquant_formats::gguf::{Gguf, Metadata, TensorSpec, Value, layout};
use kquant_kernels::block;
use kquant_kernels::isa::Isa;
use serde_json::{Value as Json, json};

/// SHA-256 of a file, by the program itself.
fn file_sha256(path: &Path) -> String {
    let files: Json = serde_json::from_str(&ok(kquant(["hash", "--json", path.to_str().unwrap()]))).unwrap();
    files[0]["sha256"].as_str().unwrap().to_owned()
}

/// Bytes of every tensor by name.
fn tensors(path: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let gguf = Gguf::open(path, type_layout).unwrap();
    gguf.tensors().iter().map(|t| (t.name.clone(), (t.type_id, gguf.data(t).unwrap()))).collect()
}

#[test]
fn threads_and_memory_change_no_byte() {
    let scratch = Scratch::new("determinism");
    let model = data("tiny-llama");
    let runs: [&[&str]; 5] = [
        &[],
        &["--threads", "1"],
        &["--threads", "7"],
        &["--memory", "64M"],
        &["--memory", "16K", "--threads", "3"],
    ];
    let hashes: Vec<String> = runs
        .iter()
        .enumerate()
        .map(|(i, options)| {
            let out = scratch.path(&format!("{i}.gguf"));
            ok(quantize(&model, &out, "Q4_K_M", options));
            file_sha256(&out)
        })
        .collect();
    assert!(hashes.iter().all(|h| *h == hashes[0]), "{hashes:?}");
}

#[test]
fn one_file_and_shards_give_the_same_output() {
    let scratch = Scratch::new("shards");
    let (single, sharded) = (scratch.path("single/model"), scratch.path("sharded/model"));
    write_folder(&single, &micro_llama());
    write_sharded(&sharded, &micro_llama(), 3);
    let (a, b, c) = (scratch.path("a.gguf"), scratch.path("b.gguf"), scratch.path("c.gguf"));
    ok(quantize(&single, &a, "Q4_K_M", &[]));
    ok(quantize(&sharded, &b, "Q4_K_M", &[]));
    ok(quantize(&single.join("model.safetensors"), &c, "Q4_K_M", &[]));
    assert_eq!(fs::read(&a).unwrap(), fs::read(&b).unwrap());
    assert_eq!(fs::read(&a).unwrap(), fs::read(&c).unwrap());
}

#[test]
fn the_two_step_way_gives_the_same_output() {
    let scratch = Scratch::new("two-step");
    let (full, one, two) = (scratch.path("full.gguf"), scratch.path("one.gguf"), scratch.path("two.gguf"));
    ok(quantize(&data("tiny-llama"), &full, "BF16", &[]));
    ok(quantize(&full, &two, "Q3_K_M", &[]));
    ok(quantize(&data("tiny-llama"), &one, "Q3_K_M", &[]));
    assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap());
}

#[test]
fn a_kept_split_is_read_back_as_one_model() {
    let scratch = Scratch::new("split");
    let folder = scratch.path("model");
    write_sharded(&folder, &micro_llama(), 3);
    let (split, whole) = (scratch.path("split.gguf"), scratch.path("whole.gguf"));
    ok(quantize(&folder, &split, "Q4_K_M", &["--keep-split"]));
    ok(quantize(&folder, &whole, "Q4_K_M", &[]));
    assert!(!split.exists());
    let second = scratch.path("split-00002-of-00003.gguf");
    assert_eq!(tensors(&second), tensors(&whole), "any shard opens all of them");
    // And once more: split in, split out.
    let again = scratch.path("again.gguf");
    ok(quantize(&second, &again, "COPY", &["--keep-split"]));
    assert_eq!(tensors(&scratch.path("again-00001-of-00003.gguf")), tensors(&whole));
    let merged = scratch.path("merged.gguf");
    ok(quantize(&second, &merged, "COPY", &[]));
    let metadata = Gguf::open(&merged, type_layout).unwrap().metadata().clone();
    assert!(metadata.get("split.count").is_none());
}

#[test]
fn float8_weights_are_multiplied_by_their_scales() {
    let scratch = Scratch::new("float8");
    let (n, block) = (HIDDEN as usize, 128);
    let codes: Vec<u8> =
        (0..n * n).map(|i| (i * 7 % 251) as u8).map(|c| if c & 0x7f == 0x7f { 0 } else { c }).collect();
    let scales = [0.5, 2.0, 0.25, 4.0];
    let mut tensors_in = micro_llama();
    let up = tensors_in.iter_mut().find(|t| t.name.contains("up_proj")).unwrap();
    (up.dtype, up.data) = ("F8_E4M3", codes.clone());
    let scale_name = format!("{}_scale_inv", up.name);
    tensors_in.push(Tensor::f32(&scale_name, &[2, 2], &scales));
    let folder = scratch.path("model");
    write_folder(&folder, &tensors_in);
    let out = scratch.path("out.gguf");
    ok(quantize(&folder, &out, "F32", &[]));
    let decoded: Vec<f32> =
        tensors(&out)["blk.0.ffn_up.weight"].1.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    for (i, &value) in decoded.iter().enumerate() {
        let scale = scales[i / n / block * 2 + i % n / block];
        assert_eq!(value, kquant_kernels::float8::decode_e4m3(codes[i]) * scale, "weight {i}");
    }
}

/// A GGUF of an architecture nobody knows, alignment 64, with a Q8_0 and a 3-dimensional tensor.
fn strange_gguf(path: &Path) -> BTreeMap<String, Vec<f32>> {
    let mut metadata = Metadata::new();
    metadata.set("general.architecture", Value::from("unheard-of"));
    metadata.set("general.alignment", Value::U32(64));
    metadata.set("zeta", Value::from("kept"));
    let values = [
        ("odd.weight", noise(1, 48 * 3)),
        ("blk.0.ffn_up_exps.weight", noise(2, 256 * 2 * 3)),
        ("blk.0.norm.weight", noise(3, 8)),
    ];
    let shapes: [Vec<u64>; 3] = [vec![48, 3], vec![256, 2, 3], vec![8]];
    let specs: Vec<TensorSpec> = values
        .iter()
        .zip(shapes)
        .map(|((name, v), shape)| TensorSpec {
            name: (*name).into(),
            shape,
            type_id: 0,
            bytes: 4 * v.len() as u64,
        })
        .collect();
    let placed = layout(&metadata, &specs).unwrap();
    let mut bytes = placed.header;
    bytes.resize(placed.total as usize, 0);
    for ((_, v), offset) in values.iter().zip(placed.offsets) {
        for (i, w) in v.iter().enumerate() {
            bytes[offset as usize + 4 * i..][..4].copy_from_slice(&w.to_le_bytes());
        }
    }
    fs::write(path, bytes).unwrap();
    values.into_iter().map(|(name, v)| (name.to_owned(), v)).collect()
}

#[test]
fn an_unknown_architecture_is_quantized_all_the_same() {
    let scratch = Scratch::new("unknown");
    let (model, out) = (scratch.path("in.gguf"), scratch.path("out.gguf"));
    let values = strange_gguf(&model);
    let run = quantize(&model, &out, "Q6_K", &["--override-kv", "zeta=str:changed"]);
    assert!(stderr(&run).contains("1 of 3 tensors"), "{}", stderr(&run));
    ok(run);
    let gguf = Gguf::open(&out, type_layout).unwrap();
    assert_eq!(gguf.metadata().get("zeta"), Some(&Value::from("changed")));
    assert!(gguf.tensors().iter().all(|t| t.offset.is_multiple_of(64)));
    let written = tensors(&out);
    for (name, kind) in
        [("odd.weight", "F16"), ("blk.0.ffn_up_exps.weight", "Q6_K"), ("blk.0.norm.weight", "F32")]
    {
        let (type_id, bytes) = &written[name];
        let block = block::by_name(kind).unwrap();
        assert_eq!(*type_id, block.id, "{name}");
        let mut expected = vec![0; bytes.len()];
        let columns = if kind == "Q6_K" { 256 } else { values[name].len() };
        let row_bytes = columns / block.elements * block.bytes;
        for (row, out) in values[name].chunks(columns).zip(expected.chunks_mut(row_bytes)) {
            block.encode.unwrap()(Isa::best(), row, None, out);
        }
        assert_eq!(*bytes, expected, "{name}");
    }
}

/// Writes an importance matrix for one tensor of 256 columns.
fn write_imatrix(path: &Path, name: &str, values: &[f32]) {
    let mut bytes = 1i32.to_le_bytes().to_vec();
    bytes.extend((name.len() as i32).to_le_bytes());
    bytes.extend(name.as_bytes());
    bytes.extend([1i32.to_le_bytes(), 256i32.to_le_bytes()].concat());
    values.iter().for_each(|v| bytes.extend(v.to_le_bytes()));
    fs::write(path, bytes).unwrap();
}

#[test]
fn importance_changes_the_bytes_and_is_recorded() {
    let scratch = Scratch::new("importance");
    let folder = scratch.path("model");
    write_folder(&folder, &micro_llama());
    let imatrix = scratch.path("imatrix.dat");
    let name = "blk.0.ffn_up.weight";
    let mut values: Vec<f32> = noise(5, 256).iter().map(|v| v * v + 1e-3).collect();
    values[64..128].fill(0.0);
    write_imatrix(&imatrix, name, &values);
    let with = |encoder: &str, out: &Path| {
        let options =
            ["--imatrix", imatrix.to_str().unwrap(), "--encoder", encoder, "--tensor-type", "ffn_up=Q6_K"];
        let run = quantize(&folder, out, "Q4_K_M", &options);
        let warnings = stderr(&run);
        ok(run);
        warnings
    };
    let (plain, ggml, guarded) =
        (scratch.path("plain.gguf"), scratch.path("ggml.gguf"), scratch.path("guarded.gguf"));
    ok(quantize(&folder, &plain, "Q4_K_M", &["--tensor-type", "ffn_up=Q6_K"]));
    let warnings = with("ggml", &ggml);
    assert!(warnings.contains("without any importance") && warnings.contains(name), "{warnings}");
    with("guarded", &guarded);
    let decode = |path: &Path| {
        let (_, bytes) = &tensors(path)[name];
        let mut out = vec![0.0; (HIDDEN * HIDDEN) as usize];
        (block::by_name("Q6_K").unwrap().decode)(bytes, &mut out);
        out
    };
    // ggml writes zeros where the importance is zero; guarded does not.
    assert!(decode(&ggml)[64..128].iter().all(|&w| w == 0.0));
    let (safe, reference) = (decode(&guarded), decode(&plain));
    let zeros = safe[64..128].iter().filter(|&&w| w == 0.0).count();
    assert!(zeros < 8, "{zeros} zeros");
    assert!(safe != reference);
    let metadata = Gguf::open(&ggml, type_layout).unwrap().metadata().clone();
    assert_eq!(metadata.get("quantize.imatrix.entries_count"), Some(&Value::U32(1)));
    assert_eq!(metadata.get("quantize.imatrix.file").and_then(Value::as_str), imatrix.to_str());
}

/// The squared error of tensor `name` of the micro model, made of `noise(seed)`, each column counting `importance`.
fn weighted_error(path: &Path, name: &str, seed: u64, importance: &[f32]) -> f64 {
    let (id, bytes) = &tensors(path)[name];
    let mut decoded = vec![0.0; (HIDDEN * HIDDEN) as usize];
    (block::by_id(*id).unwrap().decode)(bytes, &mut decoded);
    let original = noise(seed, decoded.len()).into_iter().map(|v| half::bf16::from_f32(v).to_f32());
    let errors = decoded.iter().zip(original).map(|(&y, x)| f64::from(y - x) * f64::from(y - x));
    errors.zip(importance.iter().cycle()).map(|(error, &a)| error * f64::from(a)).sum()
}

#[test]
fn search_lowers_the_weighted_error_with_and_without_importance() {
    let scratch = Scratch::new("search");
    let folder = scratch.path("model");
    write_folder(&folder, &micro_llama());
    let imatrix = scratch.path("imatrix.dat");
    let name = "blk.0.ffn_up.weight";
    let importance: Vec<f32> = noise(5, 256).iter().map(|v| v * v + 1e-3).collect();
    write_imatrix(&imatrix, name, &importance);
    let options = ["--imatrix", imatrix.to_str().unwrap()];
    for (i, (kind, options)) in
        [("Q4_K_S", &options[..]), ("Q4_K_S", &[]), ("Q3_K_S", &options[..]), ("Q3_K_S", &[]), ("Q8_0", &[])]
            .into_iter()
            .enumerate()
    {
        let importance = if options.is_empty() { &[1.0; 256] } else { importance.as_slice() };
        let error = |encoder: &str, more: &[&str]| {
            let out = scratch.path(&format!("{i}-{encoder}.gguf"));
            ok(quantize(&folder, &out, kind, &[options, &["--encoder", encoder, "--force"], more].concat()));
            (weighted_error(&out, name, 11, importance), file_sha256(&out))
        };
        let (guarded, search) = (error("guarded", &[]), error("search", &["--threads", "1"]));
        assert!(search.0 < 0.99 * guarded.0, "{kind}: {} against {}", search.0, guarded.0);
        assert_eq!(error("search", &["--threads", "3", "--memory", "64K"]).1, search.1, "{kind}");
    }
}

#[test]
fn a_dry_run_tells_what_would_be_written_and_writes_nothing() {
    let scratch = Scratch::new("dry");
    let folder = scratch.path("model");
    write_folder(&folder, &micro_llama());
    let model = folder.to_str().unwrap();
    let text = ok(kquant(["quantize", model, "--type", "q4_k_m", "--dry-run"]));
    assert!(text.contains("blk.0.ffn_down.weight") && text.contains("Q6_K"), "{text}");
    let json = ok(kquant(["quantize", model, "--type", "Q4_K_M", "--dry-run", "--json"]));
    let plan: Json = serde_json::from_str(&json).unwrap();
    let out = scratch.path("out.gguf");
    ok(quantize(&folder, &out, "Q4_K_M", &[]));
    assert_eq!(plan["file_bytes"], json!(fs::metadata(&out).unwrap().len()));
    for t in plan["tensors"].as_array().unwrap() {
        let (id, bytes) = &tensors(&out)[t["name"].as_str().unwrap()];
        assert_eq!(t["bytes"], json!(bytes.len()));
        assert_eq!(t["type"], json!(block::by_id(*id).unwrap().name));
    }
}

#[test]
fn a_manifest_vouches_for_every_byte() {
    let scratch = Scratch::new("manifest");
    let (out, manifest) = (scratch.path("out.gguf"), scratch.path("out.json"));
    let printed =
        ok(quantize(&data("tiny-llama"), &out, "Q4_0", &["--manifest", manifest.to_str().unwrap()]));
    assert!(printed.contains(&file_sha256(&out)), "the hash made while writing is that of the file");
    let verify =
        |manifest: &Path| kquant(["verify", out.to_str().unwrap(), "--manifest", manifest.to_str().unwrap()]);
    ok(verify(&manifest));
    let lines = scratch.path("out.sha256");
    fs::write(&lines, ok(kquant(["hash", out.to_str().unwrap()]))).unwrap();
    ok(verify(&lines));
    let parsed: Json = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    assert_eq!(parsed["sources"][0]["name"], "model.safetensors");
    assert_eq!(parsed["options"]["type"], "Q4_0");

    // One bit of one weight, then one bit of a name in the metadata.
    let good = fs::read(&out).unwrap();
    let gguf = Gguf::open(&out, type_layout).unwrap();
    let weight = gguf.tensors().iter().find(|t| t.name == "blk.1.attn_q.weight").unwrap().offset as usize;
    drop(gguf);
    let key = good.windows(12).position(|w| w == b"general.name").unwrap() + 30;
    for (at, what) in [(weight + 5, "tensor `blk.1.attn_q.weight`"), (key, "metadata")] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&out, bad).unwrap();
        for m in [&manifest, &lines] {
            let checked = verify(m);
            assert_eq!(checked.status.code(), Some(1));
            let text = String::from_utf8(checked.stdout).unwrap();
            assert!(text.contains(&format!("mismatch: {what}")), "{text}");
        }
    }
}

#[test]
fn inspect_shows_both_kinds_of_model() {
    let scratch = Scratch::new("inspect");
    let out = scratch.path("out.gguf");
    ok(quantize(&data("tiny-llama"), &out, "Q4_K_M", &[]));
    let text = ok(kquant(["inspect", out.to_str().unwrap()]));
    assert!(text.contains("llama.embedding_length") && text.contains("blk.0.attn_q.weight"), "{text}");
    let json: Json = serde_json::from_str(&ok(kquant(["inspect", "--json", out.to_str().unwrap()]))).unwrap();
    assert_eq!(json["metadata"]["llama.block_count"], json!({ "type": "u32", "value": 2 }));
    let source: Json =
        serde_json::from_str(&ok(kquant(["inspect", "--json", data("tiny-llama").to_str().unwrap()])))
            .unwrap();
    assert_eq!(source["tensors"].as_array().unwrap().len(), json["tensors"].as_array().unwrap().len());
}

#[cfg(unix)]
#[test]
fn an_interrupt_leaves_nothing_behind() {
    let scratch = Scratch::new("interrupt");
    let (mut run, out) = long_run(&scratch);
    let sent = Command::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let status = run.wait().unwrap();
    assert_eq!(status.code(), Some(2));
    assert!(beginning_with(&out).is_empty());
}

#[cfg(unix)]
#[test]
fn what_a_killed_run_leaves_is_removed_by_the_next_one() {
    let scratch = Scratch::new("killed");
    let (mut run, out) = long_run(&scratch);
    let second = quantize(&data("tiny-llama"), &out, "Q4_0", &[]);
    assert_eq!(second.status.code(), Some(2));
    assert!(
        stderr(&second).contains("out.gguf: cannot create: another run is writing it"),
        "{}",
        stderr(&second)
    );
    assert_eq!(beginning_with(&out).len(), 1, "the refused run touches nothing of the other's");
    run.kill().unwrap();
    run.wait().unwrap();
    assert_eq!(beginning_with(&out).len(), 1);
    ok(quantize(&data("tiny-llama"), &out, "Q4_0", &[]));
    assert_eq!(beginning_with(&out), ["out.gguf"]);
}

/// A run of some seconds that has started to write, and its output.
#[cfg(unix)]
fn long_run(scratch: &Scratch) -> (std::process::Child, std::path::PathBuf) {
    let (model, out) = (scratch.path("in.gguf"), scratch.path("out.gguf"));
    // 64 M weights in the slowest type: seconds of work.
    let spec = TensorSpec {
        name: "big.weight".into(),
        shape: vec![4096, 16384],
        type_id: 1,
        bytes: 2 * 4096 * 16384,
    };
    let placed = layout(&Metadata::new(), &[spec]).unwrap();
    fs::write(&model, &placed.header).unwrap();
    fs::File::options().write(true).open(&model).unwrap().set_len(placed.total).unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_kquant"))
        .args(["quantize", model.to_str().unwrap(), "-o", out.to_str().unwrap(), "--type", "IQ4_XS"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Past the trial of the path: of its size.
    let started = |path: &Path| path.metadata().is_ok_and(|found| found.len() > 0);
    let start = Instant::now();
    while !beginning_with(&out).iter().any(|name| started(&scratch.path(name))) {
        if start.elapsed() > Duration::from_secs(60) {
            run.kill().unwrap();
            run.wait().unwrap();
            panic!("the run does not start to write");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    (run, out)
}
