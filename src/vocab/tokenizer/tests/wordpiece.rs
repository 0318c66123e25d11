//! Tests of WordPiece vocabularies against Hugging Face's library.

use std::fs;

use kquant_formats::gguf::{Metadata, Value};
use serde_json::{Value as Json, json};

use super::golden::expand;
use super::{Library, Tokenizer, data, from_keys, json, keys_of, library, texts};
use crate::vocab::{Request, load};

fn all_texts() -> Vec<String> {
    let probes = include_str!("../../pre_tokenizer/probes.json");
    let mut all: Vec<String> = serde_json::from_str(probes).unwrap();
    all.extend(json("tokens/strings.json").as_array().unwrap().iter().map(expand));
    all.extend(
        ["calibration", "eval"]
            .map(|name| fs::read_to_string(data(&format!("corpora/{name}-small.txt"))).unwrap()),
    );
    all.extend(
        [
            "\u{c4}\u{307}o\u{302}\u{323} \u{1e69}",
            "tab\tline\u{b}feed\u{85}\u{ad}x",
            "\u{20000}\u{3042}a\u{2b820}",
            "~`$+\u{20ac}\u{a7}",
        ]
        .map(str::to_owned),
    );
    all
}

fn assert_equal(own: &Tokenizer, library: &Library) {
    for text in all_texts() {
        for parse_special in [false, true] {
            let start: String = text.chars().take(60).collect();
            let ids = own.encode(&text, parse_special).unwrap();
            assert!(ids == library.encode(&text, parse_special), "{start:?}, {parse_special}");
        }
    }
}

#[test]
fn words_are_cut_as_hugging_face_cuts_them() {
    for name in ["bert", "nomic_bert"] {
        assert_equal(&from_keys(&format!("archs/{name}"), "bert"), &library(&format!("archs/{name}")));
    }
}

/// A copy of the folder of BERT whose `tokenizer.json` is changed.
fn changed(change: impl FnOnce(&mut Json)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut file = json("archs/bert/tokenizer.json");
    change(&mut file);
    fs::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
    folder
}

fn load_from(folder: &tempfile::TempDir) -> Result<Metadata, String> {
    let config = json("archs/bert/config.json");
    let request =
        Request { folder: folder.path(), architecture: "bert", vocab_size: None, config: &config, pre: None };
    load(&request).map(|loaded| loaded.keys).map_err(|error| error.to_string())
}

#[test]
fn case_and_accents_stay_where_the_normalizer_says_so() {
    for (lowercase, strip_accents) in
        [(false, json!(null)), (true, json!(false)), (false, json!(true)), (true, json!(true))]
    {
        let folder = changed(|file| {
            file["normalizer"]["lowercase"] = json!(lowercase);
            file["normalizer"]["strip_accents"] = strip_accents;
            // Tokens that only one of the ways finds.
            for (text, id) in [("Caf\u{e9}", 315), ("caf\u{e9}", 316), ("Cafe", 317), ("A", 318)] {
                let vocab = file["model"]["vocab"].as_object_mut().unwrap();
                vocab.retain(|_, known| *known != id);
                vocab.insert(text.to_owned(), json!(id));
            }
        });
        let keys = load_from(&folder).unwrap();
        let own = Tokenizer::from_metadata(&keys).unwrap();
        assert_equal(&own, &Library::open(&folder.path().join("tokenizer.json")));
        assert_eq!(
            own.encode("Caf\u{e9}", false).unwrap().len() == 1,
            !lowercase || own.encode("caf\u{e9}", false).unwrap() == [316]
        );
    }
}

#[test]
fn keys_are_the_converters() {
    let keys = keys_of("archs/bert", "bert");
    let number = |key: &str| keys.get(&format!("tokenizer.ggml.{key}")).and_then(Value::as_u64);
    let ids = ["token_type_count", "bos_token_id", "eos_token_id", "seperator_token_id", "unknown_token_id"];
    assert_eq!(ids.map(number), [2, 2, 3, 3, 1].map(Some));
    let Some(Value::Array(kquant_formats::gguf::Array::String(tokens))) = keys.get("tokenizer.ggml.tokens")
    else {
        panic!("no tokens")
    };
    let place = |text: &str| tokens.iter().position(|token| token == text);
    assert_eq!(
        [place("[CLS]"), place("\u{2581}the"), place("ing"), place("##ing")],
        [Some(2), Some(111), Some(97), None]
    );
}

/// The oldest files have neither the flags nor the ids, for which there are the ids of the first BERT.
#[test]
fn texts_are_between_two_tokens_whatever_the_keys() {
    let mut list = vec!["[x]".to_owned(); 104];
    list.iter_mut().enumerate().for_each(|(id, text)| text.push_str(&id.to_string()));
    list[5] = "\u{2581}whale".to_owned();
    let mut keys = Metadata::new();
    keys.set("tokenizer.ggml.model", Value::from("bert"));
    keys.set("tokenizer.ggml.tokens", texts(&list.iter().map(String::as_str).collect::<Vec<_>>()));
    keys.set("tokenizer.ggml.add_bos_token", Value::Bool(false));
    let tokenizer = Tokenizer::from_metadata(&keys).unwrap();
    assert_eq!([tokenizer.add_bos(), tokenizer.add_eos()], [Some(101), Some(102)]);
    assert_eq!(tokenizer.encode("Whale whales", false).unwrap(), [5, 100]);
    assert_eq!(tokenizer.decode(&[5, 5]), "whale whale");
}

#[test]
fn what_llama_cpp_cannot_do_is_refused() {
    type Change = fn(&mut Json);
    let cases: [(Change, &str); 5] = [
        (|file| file["normalizer"] = json!(null), "no normalizer of a WordPiece vocabulary"),
        (|file| file["normalizer"] = json!({ "type": "Lowercase" }), "normalizer {\"type\":\"Lowercase\"}"),
        (|file| file["normalizer"]["handle_chinese_chars"] = json!(false), "normalizer {"),
        (|file| file["pre_tokenizer"] = json!({ "type": "Whitespace" }), "pre_tokenizer {"),
        (|file| file["model"]["continuing_subword_prefix"] = json!("@@"), "the prefix \"@@\""),
    ];
    for (change, expected) in cases {
        let error = load_from(&changed(change)).unwrap_err();
        assert!(error.contains(expected) && error.contains("BertPreTokenizer"), "{error}");
    }
}
