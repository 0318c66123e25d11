//! Splitting a GGUF and merging its files, against what llama-gguf-split writes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kquant::checkpoint::type_layout;
use kquant::context::{Context, Progress, Unit};
use kquant::hash::{bytes_sha256, digest, digest_with};
use kquant::shards::{self, Cut, ShardLimit, ShardsError};
use kquant_formats::gguf::{Array, Gguf, Metadata, TensorSpec, Value, layout};
use serde_json::Value as Json;

use crate::support::{Scratch, data, kquant, ok, quantize, refused, stderr};

/// The GGUF that `scripts/refresh_split.py` makes as well: keys of every type, tensors that padding follows.
fn made_up(path: &Path) {
    let mut keys = Metadata::new();
    let text = |t: &str| Value::String(t.to_owned());
    for (key, value) in [
        ("general.architecture", text("llama")),
        ("general.alignment", Value::U32(32)),
        ("split.count", Value::U16(0)),
        ("k.u8", Value::U8(200)),
        ("k.i8", Value::I8(-100)),
        ("k.i16", Value::I16(-30000)),
        ("k.i32", Value::I32(-2_000_000_000)),
        ("k.f32", Value::F32(0.5)),
        ("k.bool", Value::Bool(true)),
        ("k.u64", Value::U64(1 << 63)),
        ("k.i64", Value::I64(-(1 << 62))),
        ("k.f64", Value::F64(0.1)),
        ("k.text", text("näïve\n")),
        ("k.strings", Value::Array(Array::String(["a", "", "▁b"].map(str::to_owned).into()))),
        ("k.floats", Value::Array(Array::F32(vec![1.5, -2.0]))),
        ("k.bools", Value::Array(Array::Bool(vec![true, false, true]))),
        ("k.none", Value::Array(Array::I32(Vec::new()))),
    ] {
        keys.set(key, value);
    }
    let tensors: [(&str, &[u64], u32, u64); 7] = [
        ("few", &[3], 1, 6),
        ("q8", &[64, 9001], 8, 612_068),
        ("f32", &[256, 1000], 0, 1_024_000),
        ("ints", &[7, 11, 2], 26, 616),
        ("q4", &[256, 5000], 12, 720_000),
        ("bf16", &[100, 33, 3, 5], 30, 99_000),
        ("last", &[1], 0, 4),
    ];
    write_gguf(path, &keys, &tensors);
}

fn write_gguf(path: &Path, keys: &Metadata, tensors: &[(&str, &[u64], u32, u64)]) {
    let spec = |&(name, shape, type_id, bytes): &(&str, &[u64], u32, u64)| TensorSpec {
        name: name.to_owned(),
        shape: shape.to_vec(),
        type_id,
        bytes,
    };
    let specs: Vec<TensorSpec> = tensors.iter().map(spec).collect();
    let placed = layout(keys, &specs).unwrap();
    let mut file = placed.header;
    for (number, (spec, offset)) in specs.iter().zip(placed.offsets).enumerate() {
        file.resize(offset as usize, 0);
        file.extend((0..spec.bytes).map(|i| (i * 7 + i / 251 + 31 * number as u64) as u8));
    }
    file.resize(placed.total as usize, 0);
    fs::write(path, file).unwrap();
}

fn sha256(path: &Path) -> String {
    bytes_sha256(&fs::read(path).unwrap())
}

/// Runs `kquant split FILE -o OUT ...`.
fn split(file: &Path, out: &Path, more: &[&str]) -> std::process::Output {
    let args = ["split", file.to_str().unwrap(), "-o", out.to_str().unwrap()];
    kquant(args.iter().chain(more))
}

/// Runs `kquant merge FILE -o OUT ...`.
fn merge(file: &Path, out: &Path, more: &[&str]) -> std::process::Output {
    let args = ["merge", file.to_str().unwrap(), "-o", out.to_str().unwrap(), "-q"];
    kquant(args.iter().chain(more))
}

/// Names of the files in `folder` that begin with `start`, sorted.
fn names(folder: &Path, start: &str) -> Vec<String> {
    let all = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut own: Vec<String> = all.filter(|name| name.starts_with(start)).collect();
    own.sort();
    own
}

/// Asserts that the files of `folder` that begin with `start` are the recorded ones.
fn assert_recorded(case: &str, folder: &Path, start: &str, recorded: &Json) {
    let recorded = recorded.as_object().unwrap();
    assert_eq!(names(folder, start), recorded.keys().cloned().collect::<Vec<_>>(), "{case}");
    for (name, expected) in recorded {
        assert_eq!(sha256(&folder.join(name)), expected.as_str().unwrap(), "{case}: {name}");
    }
}

#[test]
fn files_are_those_of_llama_gguf_split() {
    let recorded: Json = serde_json::from_slice(&fs::read(data("split.json")).unwrap()).unwrap();
    let scratch = Scratch::new("split");
    let model = scratch.path("model.gguf");
    made_up(&model);
    assert_eq!(sha256(&model), recorded["model"].as_str().unwrap());
    for (number, case) in recorded["cases"].as_array().unwrap().iter().enumerate() {
        let name = case["options"].to_string();
        let folder = scratch.path(&number.to_string());
        fs::create_dir(&folder).unwrap();
        let options: Vec<String> = case["options"]
            .as_array()
            .unwrap()
            .iter()
            .map(|option| option.as_str().unwrap().replace("--split-max", "--max"))
            .collect();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        ok(split(&model, &folder.join("part"), &options));
        assert_recorded(&name, &folder, "part-", &case["files"]);
        let last = folder.join(names(&folder, "part-").pop().unwrap());
        ok(merge(&last, &folder.join("whole.gguf"), &[]));
        assert_eq!(sha256(&folder.join("whole.gguf")), case["merged"].as_str().unwrap(), "{name}");
        ok(split(&folder.join("whole.gguf"), &folder.join("again.gguf"), &["--max-tensors", "2", "-q"]));
        assert_recorded(&name, &folder, "again-", &case["again"]);
    }
}

#[test]
fn tensors_keep_their_hashes_and_the_model_its_score() {
    let scratch = Scratch::new("split-model");
    let (model, parts) = (scratch.path("m.v1.gguf"), scratch.path("parts"));
    ok(quantize(&data("tiny-llama"), &model, "Q4_K_M", &["-q"]));
    let printed = ok(split(&model, &parts.join(""), &["--max-size", "300K", "--json"]));
    let files: Json = serde_json::from_str(&printed).unwrap();
    assert!(files.as_array().unwrap().len() > 3);
    let first = parts.join(names(&parts, "m.v1-00001-of-").pop().unwrap());
    let hashes = |path: &Path| {
        let files = digest(path).unwrap();
        files.into_iter().flat_map(|file| file.tensors).map(|t| (t.name, t.sha256)).collect::<Vec<_>>()
    };
    assert_eq!(hashes(&first), hashes(&model));
    let printed: Vec<&str> =
        files.as_array().unwrap().iter().map(|f| f["sha256"].as_str().unwrap()).collect();
    let written: Vec<String> = digest(&first).unwrap().into_iter().map(|f| f.sha256).collect();
    assert_eq!(printed, written);
    assert_eq!(crate::support::divergence(&first, &model), 0.0);
    // What is split already is split anew, here into as many files as there are tensors and one for the keys.
    let again = scratch.path("again");
    let printed = ok(split(&first, &again, &["--max-tensors", "1", "--no-tensor-first-split", "--json"]));
    let count = hashes(&model).len();
    let last = scratch.path(&format!("again-{:05}-of-{:05}.gguf", count + 1, count + 1));
    assert_eq!(hashes(&last), hashes(&model));
    // All hashes are those of `kquant hash`, also of the file without tensors.
    assert_eq!(printed, ok(kquant(["hash", last.to_str().unwrap(), "--json"])));
    ok(merge(&last, &scratch.path("whole.gguf"), &[]));
    assert_eq!(hashes(&scratch.path("whole.gguf")), hashes(&model));
}

/// What a run told of its bytes.
#[derive(Default)]
struct Told {
    total: AtomicU64,
    done: AtomicU64,
}

impl Progress for Told {
    fn begin(&self, total: u64, _: Unit) {
        self.total.store(total, Ordering::Relaxed);
    }

    fn advance(&self, done: u64, _: &str) {
        assert!(self.done.swap(done, Ordering::Relaxed) <= done, "bytes are counted through all files");
    }
}

#[test]
fn hashing_tells_how_far_it_is() {
    let scratch = Scratch::new("split-progress");
    let (model, parts) = (scratch.path("model.gguf"), scratch.path("part"));
    ok(quantize(&data("tiny-llama"), &model, "Q4_K_M", &["-q"]));
    ok(split(&model, &parts, &["--max-size", "300K", "-q"]));
    let paths: Vec<PathBuf> =
        names(scratch.path("").as_path(), "part-").iter().map(|name| scratch.path(name)).collect();
    let bytes: u64 = paths.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    let told = Told::default();
    assert_eq!(digest_with(&paths[0], &told).unwrap(), digest(&paths[0]).unwrap());
    assert_eq!((told.total.into_inner(), told.done.into_inner()), (bytes, bytes));
}

#[test]
fn larger_alignments_stay_where_llama_gguf_split_loses_them() {
    let scratch = Scratch::new("split-aligned");
    let model = scratch.path("model.gguf");
    let mut keys = Metadata::new();
    keys.set("general.alignment", Value::U32(128));
    write_gguf(&model, &keys, &[("a", &[5], 0, 20), ("b", &[9], 0, 36), ("c", &[3], 0, 12)]);
    ok(split(&model, &scratch.path("part"), &["--max-size", "256", "-q"]));
    let second = scratch.path("part-00002-of-00002.gguf");
    let gguf = Gguf::open(&second, type_layout).unwrap();
    assert!(gguf.tensors().iter().all(|t| t.offset.is_multiple_of(128)), "{:?}", gguf.tensors());
    assert_eq!(gguf.tensors().iter().map(|t| t.shard).collect::<Vec<_>>(), [0, 0, 1]);
    ok(merge(&second, &scratch.path("whole.gguf"), &[]));
    assert_eq!(Gguf::open(&scratch.path("whole.gguf"), type_layout).unwrap().alignment(), 128);
}

#[test]
fn what_cannot_be_done_is_refused() {
    let scratch = Scratch::new("split-refused");
    let model = scratch.path("model.gguf");
    made_up(&model);
    let part = scratch.path("part");
    refused("no limit", &split(&model, &part, &[]), "--max-size", &part);
    let both = ["--max-size", "1M", "--max-tensors", "2"];
    refused("two limits", &split(&model, &part, &both), "cannot be used with", &part);
    refused("no tensors", &split(&model, &part, &["--max-tensors", "0"]), "--max-tensors", &part);
    refused("no size", &split(&model, &part, &["--max-size", "0"]), "out of range", &part);
    refused("a folder", &split(&data("tiny-llama"), &part, &["--max-tensors", "2"]), "GGUF", &part);
    let whole = scratch.path("whole.gguf");
    refused("one file", &merge(&model, &whole, &[]), "nothing to merge", &whole);

    ok(split(&model, &part, &["--max-tensors", "3", "-q"]));
    let first = scratch.path("part-00001-of-00003.gguf");
    let before = fs::read(&first).unwrap();
    let again = split(&model, &part, &["--max-tensors", "3"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("exists"), "{}", stderr(&again));
    let onto = split(&first, &part, &["--max-tensors", "3", "--force"]);
    assert!(stderr(&onto).contains("part of the input"), "{}", stderr(&onto));
    let onto = merge(&scratch.path("part-00002-of-00003.gguf"), &first, &["--force"]);
    assert!(stderr(&onto).contains("part of the input"), "{}", stderr(&onto));
    assert_eq!(fs::read(&first).unwrap(), before);
    ok(split(&model, &part, &["--max-tensors", "3", "--force", "-q"]));

    fs::remove_file(scratch.path("part-00002-of-00003.gguf")).unwrap();
    refused("a missing file", &merge(&first, &whole, &[]), "part-00002-of-00003.gguf", &whole);
}

#[test]
fn the_plan_alone_writes_nothing() {
    let scratch = Scratch::new("split-dry");
    let model = scratch.path("model.gguf");
    made_up(&model);
    let options = ["--max-size", "1M", "--dry-run", "--json"];
    let run = split(&model, &scratch.path("new/"), &options);
    assert!(stderr(&run).contains("1 tensors are larger than --max-size"), "{}", stderr(&run));
    let plan: Json = serde_json::from_str(&ok(run)).unwrap();
    let tensors: Vec<u64> = plan.as_array().unwrap().iter().map(|f| f["tensors"].as_u64().unwrap()).collect();
    assert_eq!(tensors, [2, 1, 4]);
    assert_eq!(names(&scratch.path(""), ""), ["model.gguf"]);
}

/// Sets `cancel` when half of the bytes are copied.
struct Stop<'a>(&'a AtomicBool);

impl Progress for Stop<'_> {
    fn advance(&self, done: u64, _what: &str) {
        self.0.store(done > 1_200_000, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn a_run_that_is_stopped_leaves_no_file() {
    let scratch = Scratch::new("split-stopped");
    let model = scratch.path("model.gguf");
    made_up(&model);
    let gguf = Gguf::open(&model, type_layout).unwrap();
    let cut = Cut { limit: ShardLimit::Bytes(1 << 20), keys_first: false };
    let plan = shards::split(&gguf, &cut).unwrap();
    let paths: Vec<PathBuf> = (0..plan.len()).map(|i| scratch.path(&format!("{i}.gguf"))).collect();
    let cancel = AtomicBool::new(false);
    let run = Context { memory: 0, cancel: &cancel, progress: &Stop(&cancel) };
    let result = shards::write(&gguf, &plan, &paths, false, &run);
    assert!(matches!(result, Err(ShardsError::Interrupted)), "{result:?}");
    assert_eq!(names(&scratch.path(""), ""), ["model.gguf"]);
}
