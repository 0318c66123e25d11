//! Tests of pre-tokenizers from the files of published models, over one vocabulary whose tokens reach over the ends of
//! words, so that a cut in another place gives other ids.

use std::fs;

use serde_json::{Value as Json, json};

use super::folders::Folder;
use super::golden::expand;
use super::library::Library;
use super::{Tokenizer, data, json};
use crate::vocab::byte_letters::letter_of;
use crate::vocab::{Request, load};

const FOLDER: &str = "tokenizers/across-words";

/// Returns a `tokenizer.json` of the vocabulary with this definition of a pre-tokenizer.
fn tokenizer(definition: &Json) -> Json {
    let merges = fs::read_to_string(data(&format!("{FOLDER}/merges.txt"))).unwrap();
    let merges: Vec<&str> = merges.lines().collect();
    let mut letters: Vec<char> = (0..=255).map(letter_of).collect();
    letters.sort_unstable();
    let mut vocab = serde_json::Map::new();
    let texts = letters.iter().map(|letter| letter.to_string());
    let texts = std::iter::once("<|endoftext|>".to_owned()).chain(texts);
    for text in texts.chain(merges.iter().map(|merge| merge.replace(' ', ""))) {
        let id = vocab.len();
        vocab.entry(text).or_insert(json!(id));
    }
    json!({
        "added_tokens": [{ "id": 0, "content": "<|endoftext|>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true }],
        "pre_tokenizer": definition["pre_tokenizer"],
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE",
            "ignore_merges": definition["ignore_merges"],
            "vocab": vocab,
            "merges": merges,
        },
    })
}

/// Returns texts that are hard to cut, and an ordinary text. Some expressions take time that grows with the square of a
/// run of digits, so long strings are shortened.
fn texts() -> Vec<String> {
    let probes = include_str!("../../pre_tokenizer/probes.json");
    let mut texts: Vec<String> = serde_json::from_str(probes).unwrap();
    let strings = json("tokens/strings.json");
    let strings = strings.as_array().unwrap().iter().map(expand);
    texts.extend(strings.map(|text| text.chars().take(2000).collect::<String>()));
    texts.push(fs::read_to_string(data("corpora/eval-small.txt")).unwrap());
    texts
}

/// Checks that each definition of `file` has its name, and that a tokenizer made of the keys cuts as the library does.
fn check(file: &str) -> usize {
    let (definitions, texts) = (json(&format!("{FOLDER}/{file}.json")), texts());
    let definitions = definitions.as_array().unwrap();
    for (at, definition) in definitions.iter().enumerate() {
        let name = definition["name"].as_str().unwrap();
        let folder = Folder::new(&format!("{file}-{at}")).json("tokenizer.json", &tokenizer(definition));
        let config = json!({});
        let request = Request {
            folder: &folder.0,
            architecture: "llama",
            vocab_size: None,
            config: &config,
            pre: None,
        };
        let keys = load(&request).unwrap_or_else(|error| panic!("{name}: {error}")).keys;
        assert_eq!(keys.get("tokenizer.ggml.pre").and_then(|pre| pre.as_str()), Some(name), "{definition}");
        let library = Library::open(&folder.0.join("tokenizer.json"));
        let own = Tokenizer::from_metadata(&keys).unwrap();
        for text in &texts {
            let (one, other) = (library.encode(text, true), own.encode(text, true).unwrap());
            let start: String = text.chars().take(60).collect();
            assert_eq!(one, other, "{name}, {start:?}");
        }
    }
    definitions.len()
}

#[test]
fn published_definitions_are_found_and_cut_as_hugging_face_cuts() {
    assert_eq!(check("published"), 28);
}

#[test]
fn other_spellings_are_found_by_what_they_do() {
    assert_eq!(check("respelled"), 9);
}
