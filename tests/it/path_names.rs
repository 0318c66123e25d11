//! Names that paths tell: snapshots in the cache of Hugging Face, shards of a GGUF.
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::*;
use kquant_formats::gguf::{Metadata, Value, layout};
use serde_json::{Value as Json, json};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The keys `general.*` of what `model` gives.
fn general(scratch: &Scratch, model: &Path) -> Json {
    let out = scratch.path("out.gguf");
    ok(quantize(model, &out, "Q8_0", &["--force"]));
    let shown: Json =
        serde_json::from_str(&ok(kquant(["inspect", "--json", out.to_str().unwrap()]))).unwrap();
    shown["metadata"].clone()
}

fn snapshot(scratch: &Scratch, repository: &str) -> PathBuf {
    let model = scratch.path(&format!("hub/{repository}/snapshots/{COMMIT}"));
    write_folder(&model, &micro_llama());
    model
}

#[test]
fn a_snapshot_in_the_cache_is_called_what_was_published() {
    let scratch = Scratch::new("names-cache");
    let model = snapshot(&scratch, "models--some-lab--Fir-Chat-v2");
    for input in [model.clone(), model.join("model.safetensors"), model.join(".")] {
        let keys = general(&scratch, &input);
        let text = |key: &str| keys[format!("general.{key}")]["value"].clone();
        assert_eq!(text("name"), "Fir Chat v2");
        assert_eq!(text("organization"), "Some Lab");
        assert_eq!([text("finetune"), text("version"), text("basename")], ["Chat", "v2", "Fir"]);
    }
    let keys = general(&scratch, &snapshot(&scratch, "models--fir"));
    assert_eq!(keys["general.name"]["value"], "Fir");
    assert_eq!(keys["general.organization"], Json::Null);
    // The place of the model itself holds no files.
    let place = model.parent().unwrap().parent().unwrap();
    let out = scratch.path("none.gguf");
    refused("place", &quantize(place, &out, "Q8_0", &[]), &format!("snapshots/{COMMIT}"), &out);
}

#[test]
fn no_name_is_that_of_a_commit() {
    let scratch = Scratch::new("names-commit");
    let model = scratch.path(COMMIT);
    write_folder(&model, &micro_llama());
    let hex = |keys: &Json| keys.to_string().to_lowercase().contains(&COMMIT[..20]);
    let keys = general(&scratch, &model);
    assert_eq!(keys["general.name"]["value"], "llama");
    assert!(!hex(&keys), "{keys}");
    let mut config = micro_config();
    for path in [COMMIT.to_owned(), format!("snapshots/{COMMIT}")] {
        config["_name_or_path"] = json!(path);
        fs::write(model.join("config.json"), config.to_string()).unwrap();
        let keys = general(&scratch, &model);
        assert!(!hex(&keys), "{keys}");
    }
    // Training programs write such paths into cards.
    let base = format!("/root/.cache/huggingface/hub/models--some-lab--Fir-1B/snapshots/{COMMIT}");
    fs::write(model.join("README.md"), format!("---\nbase_model: {base}\n---\n")).unwrap();
    let keys = general(&scratch, &model);
    assert!(!hex(&keys), "{keys}");
    assert_eq!(keys["general.base_model.0.repo_url"]["value"], "https://huggingface.co/some-lab/Fir-1B");
    assert_eq!(keys["general.base_model.0.organization"]["value"], "Some Lab");
}

/// Three shards, `x-00001-of-00003.gguf` and so on.
fn split(scratch: &Scratch) -> Vec<PathBuf> {
    let model = scratch.path("model");
    write_sharded(&model, &micro_llama(), 3);
    ok(quantize(&model, &scratch.path("x.gguf"), "Q8_0", &["--keep-split"]));
    (1..=3).map(|i| scratch.path(&format!("x-0000{i}-of-00003.gguf"))).collect()
}

#[test]
fn shards_that_were_joined_byte_after_byte_are_named() {
    let scratch = Scratch::new("names-joined");
    let shards = split(&scratch);
    let joined: Vec<u8> = shards.iter().flat_map(|path| fs::read(path).unwrap()).collect();
    let second = fs::metadata(&shards[0]).unwrap().len();
    fs::create_dir(scratch.path("other")).unwrap();
    for name in ["joined.gguf", "other/x-00001-of-00003.gguf", "x-00001-of-00003.gguf", "joined"] {
        let path = scratch.path(name);
        fs::write(&path, &joined).unwrap();
        let out = scratch.path("out.gguf");
        let run = quantize(&path, &out, "COPY", &[]);
        refused(name, &run, &format!("at byte {second}: another GGUF begins here"), &out);
        refused(name, &run, "3 shards were joined", &out);
        refused(name, &run, "give the shards as they were", &out);
        for command in ["hash", "inspect"] {
            let run = kquant([command, path.to_str().unwrap()]);
            assert!(stderr(&run).contains("3 shards were joined"), "{command}: {}", stderr(&run));
        }
    }
}

/// llama-gguf-split can leave the first shard without tensors.
#[test]
fn a_first_shard_without_tensors_is_seen_as_well() {
    let scratch = Scratch::new("names-joined-empty");
    let mut first = Metadata::new();
    for (key, value) in [("split.no", 0), ("split.count", 3)] {
        first.set(key, Value::U16(value));
    }
    let header = layout(&first, &[]).unwrap().header;
    let rest = fs::read(&split(&scratch)[1]).unwrap();
    let path = scratch.path("joined.gguf");
    fs::write(&path, [header, rest].concat()).unwrap();
    let run = kquant(["inspect", path.to_str().unwrap()]);
    assert_eq!(run.status.code(), Some(2));
    assert!(stderr(&run).contains("another GGUF begins here"), "{}", stderr(&run));
}

#[test]
fn a_kept_split_is_called_what_the_output_is_called() {
    let scratch = Scratch::new("names-split");
    let shards = split(&scratch);
    for (number, name) in
        ["y-00001-of-00003.gguf", "y-00002-of-00003.gguf", "y-00001-of-00007.gguf", "y.gguf", "y"]
            .into_iter()
            .enumerate()
    {
        let folder = scratch.path(&format!("out{number}"));
        fs::create_dir(&folder).unwrap();
        ok(quantize(&scratch.path("model"), &folder.join(name), "Q8_0", &["--keep-split"]));
        let mut names: Vec<String> =
            fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, [1, 2, 3].map(|i| format!("y-0000{i}-of-00003.gguf")), "{name}");
        for (name, shard) in names.iter().zip(&shards) {
            assert!(fs::read(folder.join(name)).unwrap() == fs::read(shard).unwrap(), "{name}");
        }
    }
}

#[test]
fn a_published_name_stands_for_its_snapshot_in_the_cache() {
    let scratch = Scratch::new("names-hub");
    let snapshot = scratch.path(&format!("models--some-lab--Fir-1B/snapshots/{}", "0123456789".repeat(4)));
    write_folder(&snapshot, &micro_llama());
    let run = |model: &str, out: &Path| {
        std::process::Command::new(env!("CARGO_BIN_EXE_kquant"))
            .args(["quantize", model, "-o", out.to_str().unwrap(), "--type", "Q8_0"])
            .env("HF_HUB_CACHE", snapshot.ancestors().nth(3).unwrap())
            .output()
            .unwrap()
    };
    let [by_name, by_path] = ["name.gguf", "path.gguf"].map(|name| scratch.path(name));
    ok(run("some-lab/Fir-1B", &by_name));
    ok(run(snapshot.to_str().unwrap(), &by_path));
    assert!(std::fs::read(&by_name).unwrap() == std::fs::read(&by_path).unwrap());
    refused(
        "unknown",
        &run("some-lab/Fir-2B", &scratch.path("no.gguf")),
        "some-lab/Fir-2B",
        &scratch.path("no.gguf"),
    );
}
