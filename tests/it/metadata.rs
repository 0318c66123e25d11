//! Who made a model, through the whole program: model cards, --metadata, the file type of what is in the file.
use std::fs;
use std::path::Path;

use crate::support::*;
use serde_json::{Value as Json, json};

/// The value of each key of a GGUF.
fn metadata(gguf: &Path) -> Json {
    let shown: Json =
        serde_json::from_str(&ok(kquant(["inspect", "--json", gguf.to_str().unwrap()]))).unwrap();
    shown["metadata"].clone()
}

/// A folder with a card.
fn with_card(scratch: &Scratch, card: &str) -> std::path::PathBuf {
    let model = scratch.path("Fir-1B-Chat");
    write_folder(&model, &micro_llama());
    fs::write(model.join("README.md"), card).unwrap();
    model
}

const CARD: &str = "---\nlicense: mit\nbase_model: some-lab/Fir-1B\ntags:\n- small\npipeline_tag: text-generation\n---\n# Fir\n";

#[test]
fn cards_and_what_the_user_says() {
    let scratch = Scratch::new("metadata-card");
    let (model, out) = (with_card(&scratch, CARD), scratch.path("out.gguf"));
    let own = scratch.path("own.json");
    fs::write(&own, json!({ "general.author": "Someone", "general.license": "apache-2.0" }).to_string())
        .unwrap();
    ok(quantize(&model, &out, "Q8_0", &[]));
    let keys = metadata(&out);
    let text = |keys: &Json, key: &str| keys[format!("general.{key}")]["value"].clone();
    assert_eq!(text(&keys, "license"), "mit");
    assert_eq!(text(&keys, "base_model.0.repo_url"), "https://huggingface.co/some-lab/Fir-1B");
    assert_eq!(text(&keys, "tags"), json!(["small", "text-generation"]));
    assert_eq!(text(&keys, "author"), Json::Null);
    ok(quantize(&model, &out, "Q8_0", &["--force", "--metadata", own.to_str().unwrap()]));
    let keys = metadata(&out);
    assert_eq!([text(&keys, "license"), text(&keys, "author")], ["apache-2.0", "Someone"]);
}

#[test]
fn a_card_that_is_no_yaml_is_left_out_with_a_warning() {
    let scratch = Scratch::new("metadata-bad-card");
    let (model, out) = (with_card(&scratch, "---\nlicense: [mit\nb: c\n---\n"), scratch.path("out.gguf"));
    let made = quantize(&model, &out, "Q8_0", &[]);
    let warning = stderr(&made);
    assert!(
        warning.contains("README.md: the front matter is not YAML") && warning.contains("left out"),
        "{warning}"
    );
    ok(made);
    assert_eq!(metadata(&out)["general.name"]["value"], "Fir 1B Chat");
}

#[test]
fn files_of_metadata_that_are_not_usable() {
    let scratch = Scratch::new("metadata-refused");
    let (model, out, file) = (with_card(&scratch, CARD), scratch.path("out.gguf"), scratch.path("own.json"));
    let path = file.to_str().unwrap();
    for (text, fragment) in [
        ("{", "own.json is not valid JSON"),
        (r#"{"general.nmae": "x"}"#, "`general.nmae`"),
        (r#"{"llama.context_length": 1}"#, "--override-kv"),
        (r#"{"general.sampling.top_k": "x"}"#, "`general.sampling.top_k`"),
    ] {
        fs::write(&file, text).unwrap();
        refused(text, &quantize(&model, &out, "Q8_0", &["--metadata", path]), fragment, &out);
    }
    let source = scratch.path("source.gguf");
    ok(quantize(&model, &source, "F16", &[]));
    refused("a GGUF", &quantize(&source, &out, "Q8_0", &["--metadata", path]), "--override-kv", &out);
}

/// The file type of what is copied is that of most of its weights.
#[test]
fn copies_have_a_file_type() {
    let scratch = Scratch::new("metadata-file-type");
    let out = scratch.path("out.gguf");
    ok(quantize(&with_card(&scratch, CARD), &out, "COPY", &[]));
    assert_eq!(metadata(&out)["general.file_type"]["value"], 32);
    ok(quantize(&out, &scratch.path("again.gguf"), "COPY", &[]));
    assert_eq!(metadata(&scratch.path("again.gguf"))["general.file_type"]["value"], 32);
}
