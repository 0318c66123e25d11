//! JSON files of a checkpoint as Python writes and editors save them, and optional files that are odd.
use std::fs;
use std::path::Path;

use crate::support::*;
use serde_json::{Value as Json, json};

/// The bytes of the GGUF that the micro model gives after `change`, and what is said on the way.
fn converted(scratch: &Scratch, change: impl FnOnce(&Path)) -> (Vec<u8>, String) {
    let (model, out) = (scratch.path("model"), scratch.path("out.gguf"));
    let _ = fs::remove_dir_all(&model);
    write_sharded(&model, &micro_llama(), 2);
    fs::write(model.join("generation_config.json"), r#"{"temperature": 0.5}"#).unwrap();
    fs::write(model.join("added_tokens.json"), "{}").unwrap();
    change(&model);
    let run = quantize(&model, &out, "Q8_0", &["--force"]);
    let said = stderr(&run);
    ok(run);
    (fs::read(out).unwrap(), said)
}

/// The keys of the GGUF made last.
fn keys(scratch: &Scratch) -> Json {
    let out = scratch.path("out.gguf");
    let shown: Json =
        serde_json::from_str(&ok(kquant(["inspect", "--json", out.to_str().unwrap()]))).unwrap();
    shown["metadata"].clone()
}

fn with_mark(path: &Path) {
    let text = fs::read(path).unwrap();
    fs::write(path, [b"\xef\xbb\xbf".as_slice(), &text].concat()).unwrap();
}

/// Puts keys of numbers that are not finite, and texts of the same words, into the JSON object of `path`.
fn with_words(path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    let open = text.find('{').unwrap() + 1;
    let comma = if text[open..].trim_start().starts_with('}') { "" } else { "," };
    let words = r#""odd": NaN, "odds": [Infinity, {"a": -Infinity}], "text": "NaN, \"Infinity""#;
    fs::write(path, format!("{}{words}{comma}{}", &text[..open], &text[open..])).unwrap();
}

#[test]
fn byte_order_marks_change_nothing() {
    let scratch = Scratch::new("json-marks");
    let (plain, _) = converted(&scratch, |_| {});
    let files = [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "added_tokens.json",
        "generation_config.json",
        "model.safetensors.index.json",
    ];
    for file in files {
        let (bytes, said) = converted(&scratch, |model| with_mark(&model.join(file)));
        assert!(bytes == plain, "{file}");
        assert_eq!(said, "", "{file}");
    }
    // The library that tokenizes reads the file, too.
    let model = scratch.path("model");
    let tokens = || ok(kquant(["tokenize", model.to_str().unwrap(), "-p", "The whale swam"]));
    let expected = tokens();
    with_mark(&model.join("tokenizer.json"));
    assert_eq!(tokens(), expected);
    // Files that the user gives.
    let (own, manifest) = (scratch.path("own.json"), scratch.path("manifest.json"));
    fs::write(&own, "\u{feff}{\"general.author\": \"Someone\"}").unwrap();
    let out = scratch.path("out.gguf");
    let options = ["--force", "--metadata", own.to_str().unwrap(), "--manifest", manifest.to_str().unwrap()];
    ok(quantize(&model, &out, "Q8_0", &options));
    assert_eq!(keys(&scratch)["general.author"]["value"], "Someone");
    with_mark(&manifest);
    ok(kquant(["verify", out.to_str().unwrap(), "--manifest", manifest.to_str().unwrap()]));
}

#[test]
fn settings_of_quantized_weights_are_found_behind_a_mark() {
    let scratch = Scratch::new("json-marked-settings");
    let model = scratch.path("model");
    let mut tensors = micro_llama();
    tensors.push(Tensor { name: "a.weight.absmax".into(), dtype: "U8", shape: vec![1], data: vec![0] });
    write_folder(&model, &tensors);
    let mut config = micro_config();
    config["quantization_config"] = json!({ "quant_method": "hqq" });
    fs::write(model.join("config.json"), format!("\u{feff}{config}")).unwrap();
    let out = scratch.path("out.gguf");
    refused("hqq", &quantize(&model, &out, "Q8_0", &[]), "(hqq)", &out);
}

#[test]
fn numbers_that_are_not_finite_are_passed_over_where_nothing_needs_them() {
    let scratch = Scratch::new("json-words");
    let (plain, _) = converted(&scratch, |_| {});
    let files = ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"];
    for file in files {
        let (bytes, said) = converted(&scratch, |model| with_words(&model.join(file)));
        assert!(bytes == plain, "{file}");
        // Unknown keys of the configuration are named, whatever they hold.
        let named = said.contains("keys that are not known and count for nothing: `odd`, `odds`, `text`;");
        assert!(if file == "config.json" { named } else { said.is_empty() }, "{file}: {said}");
    }
}

#[test]
fn numbers_that_are_not_finite_are_refused_where_a_number_is_needed() {
    let scratch = Scratch::new("json-words-needed");
    let (model, out) = (scratch.path("model"), scratch.path("out.gguf"));
    write_folder(&model, &micro_llama());
    for key in ["rope_theta", "rms_norm_eps", "hidden_size", "num_hidden_layers", "max_position_embeddings"] {
        for word in ["NaN", "Infinity", "-Infinity"] {
            let mut config = micro_config();
            config[key] = json!("HERE");
            let text = config.to_string().replace("\"HERE\"", word);
            fs::write(model.join("config.json"), text).unwrap();
            let run = quantize(&model, &out, "Q8_0", &[]);
            refused(key, &run, &format!("config.json: `{key}` is \"{word}\", expected"), &out);
        }
    }
}

#[test]
fn positions_behind_such_words_are_those_of_the_file() {
    let scratch = Scratch::new("json-positions");
    let (model, out) = (scratch.path("model"), scratch.path("out.gguf"));
    write_folder(&model, &micro_llama());
    for (text, position) in [
        ("{\"a\": NaN, \"b\": Infinity, oops}", "line 1, column 27"),
        ("{\"a\": NaN,\n \"b\": -Infinity, oops}", "line 2, column 18"),
        ("\u{feff}{\n  oops}", "line 2, column 3"),
    ] {
        fs::write(model.join("config.json"), text).unwrap();
        let run = quantize(&model, &out, "Q8_0", &[]);
        refused(text, &run, &format!("config.json is not valid JSON: {position}: "), &out);
    }
    fs::write(model.join("config.json"), micro_config().to_string()).unwrap();
    fs::write(model.join("tokenizer.json"), "{\"a\": NaN,\n \"b\": [Infinity, oops]}").unwrap();
    refused("tokenizer", &quantize(&model, &out, "Q8_0", &[]), "tokenizer.json:2:18: expected", &out);
}

#[test]
fn recommendations_that_are_odd_are_left_out_with_a_note() {
    let scratch = Scratch::new("json-generation");
    let (without, said) =
        converted(&scratch, |model| fs::remove_file(model.join("generation_config.json")).unwrap());
    assert_eq!(said, "");
    for text in ["{", "", "[1]", "oops", "\u{fffd}"] {
        let (bytes, said) =
            converted(&scratch, |model| fs::write(model.join("generation_config.json"), text).unwrap());
        assert!(bytes == without, "{text}");
        let is_note = said.starts_with("note: ") && said.contains("generation_config.json");
        assert!(is_note && said.contains("recommendations for sampling are left out"), "{text}: {said}");
    }
    let (bytes, said) = converted(&scratch, |model| {
        let path = model.join("generation_config.json");
        fs::remove_file(&path).unwrap();
        fs::create_dir(path).unwrap();
    });
    assert!(bytes == without && said.contains("generation_config.json: cannot read"), "{said}");
    // What is usable stays.
    let odd = r#"{"temperature": "hot", "top_k": 1.5, "top_p": 0.75, "min_p": Infinity,
        "penalty_repeat": [1], "repetition_penalty": 1.5}"#;
    let (_, said) =
        converted(&scratch, |model| fs::write(model.join("generation_config.json"), odd).unwrap());
    for key in ["temperature", "top_k", "min_p", "penalty_repeat"] {
        let wanted = format!("generation_config.json: `{key}` is ");
        assert!(
            said.lines().any(|line| line.starts_with("note: ") && line.contains(&wanted)),
            "{key}: {said}"
        );
    }
    let keys = keys(&scratch);
    let sampling = |key: &str| keys[format!("general.sampling.{key}")]["value"].clone();
    assert_eq!([sampling("top_p"), sampling("penalty_repeat")], [json!(0.75), json!(1.5)]);
    assert_eq!(
        [sampling("temp"), sampling("top_k"), sampling("min_p")],
        [Json::Null, Json::Null, Json::Null]
    );
}

#[test]
fn chat_templates_that_are_odd_are_left_out_with_a_warning() {
    let scratch = Scratch::new("json-templates");
    let (without, _) = converted(&scratch, |_| {});
    for (file, content) in [
        ("chat_template.jinja", &b"a\xff"[..]),
        ("chat_template.json", b"{"),
        ("chat_template.json", br#"{"chat_template": 3}"#),
        ("additional_chat_templates/x.jinja", b"\xff"),
    ] {
        let (bytes, said) = converted(&scratch, |model| {
            let path = model.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        });
        assert!(bytes == without, "{file}");
        assert!(said.starts_with("warning: ") && said.contains(file), "{file}: {said}");
        assert!(said.contains("the chat template is left out"), "{said}");
    }
}
