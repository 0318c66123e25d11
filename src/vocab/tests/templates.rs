//! Tests of chat templates.

use kquant_formats::gguf::Value;
use serde_json::json;

use super::{Folder, keys, small, strings};

/// Returns the keys after the vocabulary's five, with their texts; the list of names is one text.
fn templates(folder: Folder) -> Vec<(String, String)> {
    let out = folder.load().unwrap();
    let text = |key: &str| match out.get(key) {
        Some(Value::String(text)) => text.clone(),
        _ => strings(&out, key).join(","),
    };
    keys(&out)[5..].iter().map(|key| (key.to_string(), text(&format!("tokenizer.{key}")))).collect()
}

fn folder() -> Folder {
    Folder::with_tokenizer("gpt2", &small()).json("tokenizer_config.json", &json!({ "legacy": true }))
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(key, text)| (key.to_string(), text.to_string())).collect()
}

#[test]
fn files_come_before_tokenizer_config_and_that_before_chat_template_json() {
    let folder = folder().json("tokenizer_config.json", &json!({ "chat_template": "T" }));
    let folder = folder.json("chat_template.json", &json!({ "chat_template": "J" }));
    let text = |folder: &Folder| match folder.load().unwrap().get("tokenizer.chat_template") {
        Some(Value::String(text)) => text.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(text(&folder), "T");
    let folder = folder.bytes("chat_template.jinja", b"D");
    assert_eq!(text(&folder), "D");
}

#[test]
fn several_in_tokenizer_config() {
    let list = json!([
        { "name": "default", "template": "D" },
        { "name": "tool use", "template": "U" },
        { "name": "", "template": "nameless" },
        { "name": "rag" },
    ]);
    let folder = folder().json("tokenizer_config.json", &json!({ "chat_template": list }));
    let wanted = [("chat_template.tool_use", "U"), ("chat_templates", "tool_use"), ("chat_template", "D")];
    assert_eq!(templates(folder), pairs(&wanted));
}

#[test]
fn null_in_tokenizer_config_says_nothing() {
    let folder = || folder().json("tokenizer_config.json", &json!({ "chat_template": null }));
    assert_eq!(templates(folder()), []);
    assert_eq!(templates(folder().bytes("chat_template.jinja", b"D")), pairs(&[("chat_template", "D")]));
    let json = folder().json("chat_template.json", &json!({ "chat_template": "J" }));
    assert_eq!(templates(json), pairs(&[("chat_template", "J")]));
}

#[test]
fn a_file_with_others_in_a_folder() {
    let folder = folder().bytes("chat_template.jinja", b"D").bytes("chat_template.json", b"{}");
    let folder = folder.bytes("additional_chat_templates/z.jinja", b"Z");
    let folder = folder.bytes("additional_chat_templates/a-b.jinja", b"A");
    let folder = folder.bytes("additional_chat_templates/readme.txt", b"no");
    let wanted = [
        ("chat_template.a_b", "A"),
        ("chat_template.z", "Z"),
        ("chat_templates", "a_b,z"),
        ("chat_template", "D"),
    ];
    assert_eq!(templates(folder), pairs(&wanted));
}

#[test]
fn a_json_file() {
    let folder = folder().json("chat_template.json", &json!({ "chat_template": "J" }));
    assert_eq!(templates(folder), pairs(&[("chat_template", "J")]));
}

#[test]
fn anything_else_is_left_out_with_a_warning() {
    let folder = folder().json("tokenizer_config.json", &json!({ "chat_template": 3 }));
    let loaded = folder.loaded().unwrap();
    let wanted = "tokenizer_config.json: chat_template is neither a text nor a list of named texts; the chat template is left out";
    assert!(loaded.warnings[0].ends_with(wanted), "{:?}", loaded.warnings);
    assert!(loaded.keys.get("tokenizer.chat_template").is_none());
}

#[test]
fn a_file_needs_no_configuration() {
    let bare = || Folder::with_tokenizer("gpt2", &small()).bytes("chat_template.jinja", b"D");
    assert_eq!(templates(bare()), pairs(&[("chat_template", "D")]));
    assert_eq!(templates(bare().json("tokenizer_config.json", &json!({}))), pairs(&[("chat_template", "D")]));
    let list = json!({ "chat_template": [{ "name": "rag", "template": "R" }] });
    let json = Folder::with_tokenizer("gpt2", &small()).json("chat_template.json", &list);
    assert_eq!(templates(json), pairs(&[("chat_template.rag", "R"), ("chat_templates", "rag")]));
}
