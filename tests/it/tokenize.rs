//! `kquant tokenize` through the whole program.
use std::fs;
use std::path::Path;

use crate::support::{Scratch, data, kquant, ok, quantize, stderr};

fn ids(model: &Path, more: &[&str]) -> Vec<Vec<u32>> {
    let args = [&["tokenize", model.to_str().unwrap()], more].concat();
    ok(kquant(args)).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn files_then_prompts_one_line_each_from_folder_and_gguf() {
    let scratch = Scratch::new("tokenize");
    let (folder, gguf, text) = (data("tiny-llama"), scratch.path("f32.gguf"), scratch.path("text.txt"));
    ok(quantize(&folder, &gguf, "F32", &["--quiet"]));
    let recorded: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(data("tokens/tiny-llama.json")).unwrap()).unwrap();
    let strings: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(data("tokens/strings.json")).unwrap()).unwrap();
    let recorded_ids = |text: &str, kind: &str| -> Vec<u32> {
        let at = strings.as_array().unwrap().iter().position(|s| s == text).unwrap();
        serde_json::from_value(recorded["strings"][at][kind].clone()).unwrap()
    };
    let (first, second, third) = ("line one\r\nline two\r\n", "Hello</s> world", "");
    fs::write(&text, first).unwrap();
    let texts = ["--prompt", second, "--text", text.to_str().unwrap(), "--prompt", third];
    for model in [&folder, &gguf] {
        for (kind, more) in [("plain", [].as_slice()), ("special", ["--special"].as_slice())] {
            let expected = [first, second, third].map(|text| recorded_ids(text, kind));
            assert_eq!(ids(model, &[texts.as_slice(), more].concat()), expected, "{kind}");
        }
    }
    assert_ne!(recorded_ids(second, "plain"), recorded_ids(second, "special"));
}

#[test]
fn unusable_input_is_refused() {
    let scratch = Scratch::new("tokenize-refused");
    let (model, text) = (data("tiny-llama"), scratch.path("latin1.txt"));
    let model = model.to_str().unwrap();
    let nothing = kquant(["tokenize", model]);
    assert_eq!(nothing.status.code(), Some(2));
    fs::write(&text, b"na\xefve").unwrap();
    let latin1 = kquant(["tokenize", model, "--text", text.to_str().unwrap()]);
    assert_eq!(latin1.status.code(), Some(2));
    assert!(stderr(&latin1).contains("the text is not UTF-8"), "{}", stderr(&latin1));
}
