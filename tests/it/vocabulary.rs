//! Vocabularies whose files differ, through the whole program.
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use crate::support::*;

/// Tokens of tests/data/tiny-llama.
const BASE: u64 = 2048;

/// A token of `added_tokens`, as the `tokenizers` library writes it.
fn token(id: u64, content: &str, special: bool) -> Json {
    json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": special })
}

/// A model with an embedding of so many rows and tiny-llama's two vocabulary files, of which tokenizer.json has four more
/// tokens.
fn folder(scratch: &Scratch, rows: u64, change: impl FnOnce(&mut Json)) -> PathBuf {
    let folder = scratch.path("model");
    let mut tensors = micro_llama();
    for name in ["model.embed_tokens.weight", "lm_head.weight"] {
        let tensor = tensors.iter_mut().find(|tensor| tensor.name == name).unwrap();
        *tensor = Tensor::bf16(name, &[rows, HIDDEN], 1);
    }
    write_folder(&folder, &tensors);
    let from = data("tiny-llama");
    let mut config = micro_config();
    config["vocab_size"] = json!(rows);
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    for name in ["tokenizer.model", "tokenizer_config.json"] {
        fs::copy(from.join(name), folder.join(name)).unwrap();
    }
    let mut tokenizer: Json =
        serde_json::from_slice(&fs::read(from.join("tokenizer.json")).unwrap()).unwrap();
    let more = [("<|user|>", true), ("<new>", false), ("<|other|>", false), ("two words", false)];
    let list = tokenizer["added_tokens"].as_array_mut().unwrap();
    list.extend((BASE..).zip(more).map(|(id, (content, special))| token(id, content, special)));
    change(&mut tokenizer);
    fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    folder
}

fn ids(model: &Path, more: &[&str]) -> Vec<u64> {
    let args = [&["tokenize", model.to_str().unwrap()], more].concat();
    serde_json::from_str(ok(kquant(args)).trim()).unwrap()
}

#[test]
fn added_tokens_of_tokenizer_json_are_tokens_of_the_output() {
    let scratch = Scratch::new("vocabulary-added");
    let (folder, gguf) = (folder(&scratch, BASE + 4, |_| {}), scratch.path("q8_0.gguf"));
    let output = quantize(&folder, &gguf, "Q8_0", &["--quiet"]);
    assert!(!stderr(&output).contains("added token"), "{}", stderr(&output));
    ok(output);
    let text = "a <|user|>b<new> c two words d<|other|>e";
    for more in [["--prompt", text].as_slice(), &["--prompt", text, "--special"]] {
        assert_eq!(ids(&folder, more), ids(&gguf, more));
    }
    let added =
        |more: &[&str]| -> Vec<u64> { ids(&gguf, more).into_iter().filter(|&id| id >= BASE).collect() };
    assert_eq!(added(&["--prompt", text]), [BASE + 1, BASE + 3]);
    assert_eq!(added(&["--prompt", text, "--special"]), [BASE, BASE + 1, BASE + 3, BASE + 2]);
}

#[test]
fn an_added_token_without_a_row_is_a_warning() {
    let scratch = Scratch::new("vocabulary-beyond");
    let (folder, gguf) = (folder(&scratch, BASE + 2, |_| {}), scratch.path("q8_0.gguf"));
    let output = quantize(&folder, &gguf, "Q8_0", &[]);
    let wanted = "the embedding has 2050 rows, which leaves none for 2 added tokens, and they are left out: \
                  \"<|other|>\" (2050), \"two words\" (2051)";
    assert!(stderr(&output).contains(wanted), "{}", stderr(&output));
    ok(output);
    assert_eq!(ids(&gguf, &["--prompt", "<new>"]), [BASE + 1]);
}

#[test]
fn contradictions_of_vocabulary_files_are_refused() {
    let scratch = Scratch::new("vocabulary-contradiction");
    let gguf = scratch.path("q8_0.gguf");
    let folder = folder(&scratch, BASE + 4, |t| t["added_tokens"][3]["id"] = json!(700));
    let output = quantize(&folder, &gguf, "Q8_0", &[]);
    refused("contradiction", &output, "but the added token \"<|user|>\" in ", &gguf);
    assert!(stderr(&output).contains("tokenizer.model") && stderr(&output).contains("tokenizer.json"));
}

#[test]
fn dropout_is_left_out_and_said() {
    let scratch = Scratch::new("vocabulary-dropout");
    let (folder, gguf) =
        (folder(&scratch, BASE + 4, |t| t["model"]["dropout"] = json!(0.5)), scratch.path("q8_0.gguf"));
    let output = quantize(&folder, &gguf, "Q8_0", &[]);
    assert!(stderr(&output).contains("model.dropout of tokenizer.json is 0.5"), "{}", stderr(&output));
    ok(output);
    let prompt = ["--prompt", "The whale swam over the water and the sea"];
    let wanted = ids(&gguf, &prompt);
    assert!((0..4).all(|_| ids(&folder, &prompt) == wanted));
}

#[test]
fn ids_beyond_every_vocabulary_are_refused_by_all() {
    let scratch = Scratch::new("vocabulary-ids");
    let (folder, gguf) = (scratch.path("model"), scratch.path("q8_0.gguf"));
    write_folder(&folder, &micro_llama());
    let path = folder.join("tokenizer.json");
    let mut tokenizer: Json = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    tokenizer["model"]["vocab"]["zzz"] = json!(u64::MAX);
    fs::write(path, tokenizer.to_string()).unwrap();
    let fragment = "tokenizer.json: model.vocab[\"zzz\"]: 18446744073709551615 is no token id";
    refused("quantize", &quantize(&folder, &gguf, "Q8_0", &[]), fragment, &gguf);
    let tokenize = kquant(["tokenize", folder.to_str().unwrap(), "--prompt", "a"]);
    refused("tokenize", &tokenize, fragment, &gguf);
}

#[test]
fn definitions_that_would_end_the_program_are_refused() {
    let scratch = Scratch::new("vocabulary-definitions");
    let (folder, gguf) = (scratch.path("model"), scratch.path("q8_0.gguf"));
    write_folder(&folder, &micro_llama());
    let path = folder.join("tokenizer.json");
    let good: Json = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let fixed = json!({ "type": "FixedLength", "length": 0 });
    let mut cut = good.clone();
    cut["pre_tokenizer"] = json!({ "type": "Sequence", "pretokenizers": [fixed, good["pre_tokenizer"]] });
    fs::write(&path, cut.to_string()).unwrap();
    refused("quantize", &quantize(&folder, &gguf, "Q8_0", &[]), "tokenizer.json: pre_tokenizer ", &gguf);
    // No normalizer is run: byte-level BPE has none in llama.cpp, which is said.
    for normalizer in [
        json!({ "type": "Precompiled", "precompiled_charsmap": "/////wAAAAAAAAAA" }),
        json!({ "type": "Replace", "pattern": { "String": "" }, "content": "x" }),
    ] {
        let mut changed = good.clone();
        changed["normalizer"] = normalizer;
        fs::write(&path, changed.to_string()).unwrap();
        let run = quantize(&folder, &gguf, "Q8_0", &["--force"]);
        assert!(stderr(&run).contains("byte-level BPE has no normalizer"), "{}", stderr(&run));
        ok(run);
        let ids = |model: &Path| ok(kquant(["tokenize", model.to_str().unwrap(), "--prompt", "a whale"]));
        assert_eq!(ids(&folder), ids(&gguf));
    }
}
