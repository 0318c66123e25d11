//! config.json and the tokenizer.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use crate::malformed::check;
use crate::support::*;

/// A folder whose configuration is changed.
fn with_config(folder: &Path, change: impl FnOnce(&mut Json)) -> PathBuf {
    write_folder(folder, &micro_llama());
    let mut config = micro_config();
    change(&mut config);
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    folder.to_owned()
}

/// A folder whose tokenizer is changed.
fn with_tokenizer(folder: &Path, change: impl FnOnce(&mut Json)) -> PathBuf {
    write_folder(folder, &micro_llama());
    let path = folder.join("tokenizer.json");
    let mut tokenizer: Json = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut tokenizer);
    fs::write(path, tokenizer.to_string()).unwrap();
    folder.to_owned()
}

fn without(folder: &Path, file: &str) -> PathBuf {
    write_folder(folder, &micro_llama());
    fs::remove_file(folder.join(file)).unwrap();
    folder.to_owned()
}

#[test]
fn configurations() {
    check(
        "malformed-config",
        &[
            ("no configuration", |f| without(f, "config.json"), &[], "config.json"),
            (
                "configuration no JSON",
                |f| {
                    write_folder(f, &micro_llama());
                    fs::write(f.join("config.json"), "{\n  oops").unwrap();
                    f.to_owned()
                },
                &[],
                "config.json",
            ),
            (
                "unknown architecture",
                |f| {
                    with_config(f, |c| {
                        c["architectures"] = json!(["NoSuchModel"]);
                        c["model_type"] = json!("nosuch");
                    })
                },
                &[],
                "NoSuchModel",
            ),
            (
                "hidden size missing",
                |f| with_config(f, |c| drop(c.as_object_mut().unwrap().remove("hidden_size"))),
                &[],
                "hidden_size",
            ),
            (
                "hidden size a string",
                |f| with_config(f, |c| c["hidden_size"] = json!("256")),
                &[],
                "hidden_size",
            ),
            (
                "no heads",
                |f| with_config(f, |c| c["num_attention_heads"] = json!(0)),
                &[],
                "num_attention_heads",
            ),
            (
                "negative layers",
                |f| with_config(f, |c| c["num_hidden_layers"] = json!(-1)),
                &[],
                "num_hidden_layers",
            ),
            (
                "more layers than tensors",
                |f| with_config(f, |c| c["num_hidden_layers"] = json!(2)),
                &[],
                "model.layers.1",
            ),
            (
                "absurd number of layers",
                |f| with_config(f, |c| c["num_hidden_layers"] = json!(4_000_000_000u64)),
                &[],
                "",
            ),
            (
                "mixture of experts",
                |f| with_config(f, |c| c["num_local_experts"] = json!(8)),
                &[],
                "num_local_experts",
            ),
        ],
    );
}

#[test]
fn tokenizers() {
    check(
        "malformed-tokenizer",
        &[
            ("no tokenizer", |f| without(f, "tokenizer.json"), &[], "tokenizer.json"),
            (
                "tokenizer no JSON",
                |f| {
                    write_folder(f, &micro_llama());
                    fs::write(f.join("tokenizer.json"), "[").unwrap();
                    f.to_owned()
                },
                &[],
                "tokenizer.json",
            ),
            (
                "vocabulary larger than the embedding",
                |f| with_tokenizer(f, |t| t["model"]["vocab"]["more"] = json!(VOCAB)),
                &[],
                "320",
            ),
            (
                "two tokens of one id",
                |f| with_tokenizer(f, |t| t["model"]["vocab"]["more"] = json!(7)),
                &[],
                "7",
            ),
            (
                "Unigram model without scores",
                |f| with_tokenizer(f, |t| t["model"]["type"] = json!("Unigram")),
                &[],
                "no list of texts and scores",
            ),
            (
                "unknown pre-tokenizer",
                |f| {
                    with_tokenizer(f, |t| {
                        t["pre_tokenizer"] = json!({ "type": "Split", "pattern": { "Regex": "x+" } })
                    })
                },
                &[],
                "--pre",
            ),
            ("unknown --pre", |f| with_tokenizer(f, |_| {}), &["--pre", "nonsense"], "nonsense"),
        ],
    );
}
