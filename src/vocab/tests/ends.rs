//! Tests of ends of generation, given as numbers, lists and texts.

use kquant_formats::gguf::{Metadata, Value};
use serde_json::{Value as Json, json};

use super::{Folder, data};

fn id(keys: &Metadata, role: &str) -> Option<u64> {
    keys.get(&format!("tokenizer.ggml.{role}_token_id")).and_then(Value::as_u64)
}

/// Returns a folder of tiny-llama's `tokenizer.model` with four tokens from id 2048 on.
fn folder(texts: [&str; 4]) -> Folder {
    let added: Json =
        (2048..).zip(texts).map(|(id, text)| (id.to_string(), json!({ "content": text }))).collect();
    let folder = Folder::empty("llama").copy(&data("tiny-llama"), "tokenizer.model");
    folder.json("tokenizer_config.json", &json!({ "added_tokens_decoder": added }))
}

const ENDS: [&str; 4] = ["<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|stop|>"];

fn with(config: Json) -> Folder {
    let mut config = config;
    config["vocab_size"] = json!(2052);
    folder(ENDS).config(config)
}

#[test]
fn a_list_gives_the_end_of_text_of_turn_and_of_message() {
    let out = with(json!({ "eos_token_id": [2050, 2049, 2048] })).loaded().unwrap();
    assert_eq!(["eos", "eot", "eom"].map(|role| id(&out.keys, role)), [Some(2050), Some(2048), Some(2049)]);
    assert_eq!(out.warnings, [""; 0]);
}

#[test]
fn the_end_of_a_text_is_no_end_of_a_turn_where_turns_have_their_own() {
    let out = with(json!({ "eos_token_id": [2048, 2050, 2049] })).load().unwrap();
    assert_eq!(["eos", "eot", "eom"].map(|role| id(&out, role)), [Some(2048), None, Some(2049)]);
}

#[test]
fn ends_that_llama_cpp_cannot_know_are_named() {
    let out = with(json!({ "text_config": { "eos_token_id": [2050, 2051, 2048] } })).loaded().unwrap();
    assert_eq!(["eos", "eot"].map(|role| id(&out.keys, role)), [Some(2050), Some(2048)]);
    let wanted = "generation ends at token \"<|stop|>\" (2051), too (eos_token_id of the configuration); GGUF has no \
                  key for it, so llama.cpp does not stop there";
    assert_eq!(out.warnings, [wanted]);
}

#[test]
fn what_generation_config_lists_counts_too() {
    let generation = json!({ "eos_token_id": [2050, 2048, 2049, 2051] });
    let out = with(json!({})).json("generation_config.json", &generation).loaded().unwrap();
    assert_eq!(["eos", "eot", "eom"].map(|role| id(&out.keys, role)), [Some(2050), Some(2048), Some(2049)]);
    assert_eq!(out.warnings.len(), 1, "{:?}", out.warnings);
    let out = with(json!({ "eos_token_id": 2 })).json("generation_config.json", &generation).load().unwrap();
    assert_eq!(["eos", "eot", "eom"].map(|role| id(&out, role)), [Some(2), Some(2048), Some(2049)]);
}

#[test]
fn an_odd_generation_config_ends_nothing() {
    for text in ["[", "[1]", "{\"eos_token_id\": {}}", "{\"eos_token_id\": [\"2\", -1, 1.5, null]}"] {
        let out = with(json!({})).bytes("generation_config.json", text.as_bytes()).load().unwrap();
        assert_eq!(id(&out, "eos"), Some(2), "{text}");
    }
}

#[test]
fn a_model_files_roles_are_looked_up_then_configured_then_its_own() {
    let ids = |folder: Folder| {
        let out = folder.load().unwrap();
        ["bos", "eos", "unknown", "padding"].map(|role| id(&out, role))
    };
    let model = || Folder::empty("llama").copy(&data("tiny-llama"), "tokenizer.model");
    assert_eq!(ids(model()), [Some(1), Some(2), Some(0), None]);
    let config =
        json!({ "bos_token_id": [5, 6], "eos_token_id": [7, 8], "unk_token_id": 9, "pad_token_id": [10] });
    assert_eq!(ids(model().config(config.clone())), [Some(5), Some(7), Some(9), Some(10)]);
    let roles = json!({ "bos_token": "</s>", "eos_token": { "content": "<s>" }, "unk_token": "<s>", "pad_token": "<unk>" });
    let named = model().config(config).json("tokenizer_config.json", &roles);
    assert_eq!(ids(named), [Some(2), Some(1), Some(1), Some(0)]);
}

#[test]
fn ids_without_a_row_are_said() {
    let config = json!({ "vocab_size": 2048, "eos_token_id": [2, 2048], "pad_token_id": 4000 });
    let folder = Folder::empty("llama").copy(&data("tiny-llama"), "tokenizer.model").config(config);
    let folder = folder.json("generation_config.json", &json!({ "eos_token_id": 3000 }));
    let said = |role, file, id| {
        format!("{role}_token_id of {file} is {id}, but the embedding has 2048 rows; the id is left out")
    };
    assert_eq!(
        folder.loaded().unwrap().warnings,
        [
            said("eos", "config.json", 2048),
            said("pad", "config.json", 4000),
            said("eos", "generation_config.json", 3000)
        ]
    );
}
