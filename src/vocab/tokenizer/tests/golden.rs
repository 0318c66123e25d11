//! Tests against llama.cpp's ids (scripts/refresh_tokens.py), by our own steps and by Hugging Face's library.

use std::fs;

use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::{Tokenizer, data, from_keys, json, library};

/// Recorded name, folder in tests/data and architecture of each model.
const MODELS: [(&str, &str, &str); 3] = [
    ("tiny-llama", "tiny-llama", "llama"),
    ("gpt2", "archs/gpt2", "gpt2"),
    ("gpt2-4m", "tokenizers/gpt2-4m", "gpt2"),
];

/// A way from text, with or without special tokens in it, to ids.
type Encode<'a> = dyn Fn(&str, bool) -> Vec<u32> + 'a;

/// Calls `check` with each model's name, both ways from text to ids, and what llama.cpp's are.
fn each_way(check: impl Fn(&str, &Encode, &Json)) {
    for (name, folder, architecture) in MODELS {
        let golden = json(&format!("tokens/{name}.json"));
        let (library, own) = (library(folder), from_keys(folder, architecture));
        check(&format!("{name}, library"), &|text, special| library.encode(text, special), &golden);
        check(&format!("{name}, own"), &|text, special| own.encode(text, special).unwrap(), &golden);
    }
}

/// Returns true if `ids` are the recorded ones, which are recorded in full, or as a number and a hash.
fn matches(ids: &[u32], recorded: &Json) -> bool {
    if recorded.is_array() {
        return *recorded == Json::from(ids);
    }
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    recorded["count"] == ids.len() && recorded["sha256"] == hash
}

/// Compares the ids with and without special tokens.
fn check(name: &str, encode: &Encode, text: &str, recorded: &Json) {
    for (key, parse_special) in [("plain", false), ("special", true)] {
        let ids = encode(text, parse_special);
        let start: String = text.chars().take(60).collect();
        assert!(matches(&ids, &recorded[key]), "{name}, {key}, {start:?}: {ids:?} is not {}", recorded[key]);
    }
}

#[test]
fn texts_are_cut_as_llama_cpp_cuts_them() {
    each_way(|name, encode, golden| {
        for (file, recorded) in golden["corpora"].as_object().unwrap() {
            let text = fs::read_to_string(data(&format!("corpora/{file}"))).unwrap();
            check(&format!("{name}, {file}"), encode, &text, recorded);
        }
    });
}

#[test]
fn hard_strings_are_cut_as_llama_cpp_cuts_them() {
    let strings = json("tokens/strings.json");
    let strings: Vec<String> = strings.as_array().unwrap().iter().map(expand).collect();
    each_way(|name, encode, golden| {
        let recorded = golden["strings"].as_array().unwrap();
        assert_eq!(recorded.len(), strings.len());
        for (text, recorded) in strings.iter().zip(recorded) {
            check(name, encode, text, recorded);
        }
    });
}

/// Returns a recorded text, which is written out, or given as what to repeat how often.
pub(super) fn expand(entry: &Json) -> String {
    match entry.as_str() {
        Some(text) => text.to_owned(),
        None => {
            let [unit, count] = entry["repeat"].as_array().unwrap().as_slice() else { panic!("{entry}") };
            unit.as_str().unwrap().repeat(count.as_u64().unwrap() as usize)
        }
    }
}

#[test]
fn roles_are_llama_cpps() {
    for (name, folder, architecture) in MODELS {
        let tokenizer: Tokenizer = from_keys(folder, architecture);
        let roles = &json(&format!("tokens/{name}.json"))["roles"];
        assert_eq!(roles["tokens"], tokenizer.vocab_size(), "{name}");
        assert_eq!(roles["bos"], tokenizer.bos().unwrap(), "{name}");
        assert_eq!(roles["eos"], tokenizer.eos().unwrap(), "{name}");
        assert_eq!(roles["add_bos"], tokenizer.add_bos().is_some(), "{name}");
        let ends: Vec<u32> = (0..tokenizer.vocab_size() as u32).filter(|&id| tokenizer.is_end(id)).collect();
        assert_eq!(roles["ends"], Json::from(ends), "{name}");
    }
}
