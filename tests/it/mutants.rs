//! Damaged configurations, vocabularies, cards and manifests: they are taken or refused, without a panic.
use std::fs;
use std::path::Path;

use kquant::encode;
use kquant::hash::Expected;
use kquant::job::{Job, Statistics, Types, prepare};
use kquant::recipe::{Options, file_type};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value as Json, json};

use crate::support::{Scratch, data, micro_llama, ok, quantize, write_folder};

/// What is put in the place of a value, or done to it.
#[derive(Debug, Clone)]
enum Change {
    Value(Json),
    /// The value is left out of its object or list.
    Remove,
    /// The value is put into a list, again and again.
    Nest(usize),
    /// The value of another place of the document is put here.
    Copy(Index),
}

fn change() -> impl Strategy<Value = Change> {
    let value = prop::sample::select(vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1e300),
        json!(0.1),
        json!(u64::MAX),
        json!(u32::MAX),
        json!(i64::MIN),
        json!(1_000_000),
        json!(""),
        json!("\u{0}"),
        json!("a".repeat(300)),
        json!("(?i:("),
        json!([]),
        json!({}),
        json!([[], [1, "x"]]),
        json!({ "type": "Sequence", "pretokenizers": [] }),
        json!(7),
        json!("llama"),
        json!("float16"),
    ]);
    prop_oneof![
        6 => value.prop_map(Change::Value),
        2 => Just(Change::Remove),
        1 => (1usize..200).prop_map(Change::Nest),
        2 => any::<Index>().prop_map(Change::Copy),
    ]
}

fn changes() -> impl Strategy<Value = Vec<(Index, Change)>> {
    prop::collection::vec((any::<Index>(), change()), 1..4)
}

/// Pointers to all values in a document but itself. Of a long list or object the first and last values count, so that vocabularies
/// leave something to the rest.
fn places(json: &Json, at: &str, out: &mut Vec<String>) {
    let names: Vec<String> = match json {
        Json::Object(all) => all.keys().cloned().collect(),
        Json::Array(all) => (0..all.len()).map(|i| i.to_string()).collect(),
        _ => return,
    };
    for (number, name) in names.iter().enumerate() {
        if number < 8 || number + 4 > names.len() {
            let pointer = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
            if let Some(inner) = json.pointer(&pointer[at.len()..]) {
                places(inner, &pointer, out);
            }
            out.push(pointer);
        }
    }
}

fn changed(mut json: Json, changes: &[(Index, Change)]) -> Json {
    for (at, change) in changes {
        let mut all = Vec::new();
        places(&json, "", &mut all);
        if all.is_empty() {
            break;
        }
        let pointer: String = at.get(&all).clone();
        let copy = match change {
            Change::Copy(from) => json.pointer(from.get(&all).as_str()).cloned(),
            _ => None,
        };
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let name = name.replace("~1", "/").replace("~0", "~");
        let Some(value) = json.pointer_mut(&pointer) else { continue };
        match change {
            Change::Value(new) => *value = new.clone(),
            Change::Copy(_) => *value = copy.unwrap_or_default(),
            Change::Nest(depth) => (0..*depth).for_each(|_| *value = json!([value.take()])),
            Change::Remove => match json.pointer_mut(parent) {
                Some(Json::Object(all)) => drop(all.remove(&name)),
                Some(Json::Array(all)) => drop(all.remove(name.parse::<usize>().unwrap())),
                _ => {}
            },
        }
    }
    json
}

/// Plans the quantization of the model in `folder`, which reads everything but the tensors' data.
fn plan(folder: &Path) {
    let prepared = prepare(Job {
        model: folder.to_owned(),
        types: Types::FileType(Options::new(file_type("Q8_0").unwrap())),
        statistics: Statistics::None,
        encoder: encode::by_name("guarded").unwrap(),
        metadata: None,
        overrides: Vec::new(),
        keep_split: false,
        pre: None,
    });
    match prepared {
        Ok(prepared) => assert!(!prepared.plan.tensors.is_empty()),
        // Whatever is wrong, the message names a file or a key of one.
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A model's folder, made once for all cases of a test.
fn folder(name: &str) -> (Scratch, std::path::PathBuf) {
    let scratch = Scratch::new(name);
    let folder = scratch.path("model");
    write_folder(&folder, &micro_llama());
    (scratch, folder)
}

fn read(path: &Path) -> Json {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Changes the JSON file `name` of a model 500 times.
fn of_file(name: &str, whole: Json) {
    let (_scratch, folder) = folder(&format!("mutants-{name}"));
    let config = ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() };
    let run = proptest::test_runner::TestRunner::new(config).run(&changes(), |changes| {
        fs::write(folder.join(name), changed(whole.clone(), &changes).to_string()).unwrap();
        plan(&folder);
        Ok(())
    });
    run.unwrap();
}

#[test]
fn of_configurations() {
    let mut config = crate::support::micro_config();
    config["rope_scaling"] = json!({ "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64 });
    config["quantization_config"] =
        json!({ "quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": false });
    of_file("config.json", config);
}

#[test]
fn of_vocabularies() {
    of_file("tokenizer.json", read(&data("archs/gpt2/tokenizer.json")));
}

#[test]
fn of_tokenizer_configurations() {
    let mut config = read(&data("archs/gpt2/tokenizer_config.json"));
    config["chat_template"] = json!([{ "name": "default", "template": "{{ x }}" }]);
    config["added_tokens_decoder"] = json!({ "5": { "content": "<x>", "special": true } });
    of_file("tokenizer_config.json", config);
}

#[test]
fn of_generation_configurations() {
    of_file("generation_config.json", json!({ "eos_token_id": [1, 2], "temperature": 0.7, "top_k": 20 }));
}

/// Pieces of YAML that are put together at random.
fn yaml() -> impl Strategy<Value = String> {
    let pieces = [
        "license: mit\n",
        "- a\n",
        "base_model: a/b\n",
        "tags: [a, 'b', *x]\n",
        "x: &x y\n",
        "? \n",
        "  ",
        "\t",
        "<<: *x\n",
        "!!binary ",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "'",
        "|\n",
        ">-\n",
        "---\n",
        "...\n",
        "#",
        "\u{feff}",
        "- - - \n",
        "name: &n [*n]\n",
        ": ",
        "\u{0}",
    ];
    let piece =
        prop_oneof![3 => prop::sample::select(pieces.to_vec()).prop_map(str::to_owned), 1 => any::<String>()];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| format!("---\n{}\n---\n", pieces.concat()))
}

#[test]
fn of_model_cards() {
    let (_scratch, folder) = folder("mutants-card");
    let config = ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() };
    let run = proptest::test_runner::TestRunner::new(config).run(&yaml(), |card| {
        fs::write(folder.join("README.md"), card).unwrap();
        plan(&folder);
        Ok(())
    });
    run.unwrap();
}

#[test]
fn of_manifests() {
    let (scratch, folder) = folder("mutants-manifest");
    let (out, manifest) = (scratch.path("out.gguf"), scratch.path("manifest.json"));
    ok(quantize(&folder, &out, "Q8_0", &["--manifest", manifest.to_str().unwrap()]));
    let whole = read(&manifest);
    let config = ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() };
    let run = proptest::test_runner::TestRunner::new(config).run(&changes(), |changes| {
        fs::write(&manifest, changed(whole.clone(), &changes).to_string()).unwrap();
        let _ = Expected::open(&manifest);
        Ok(())
    });
    run.unwrap();
}
