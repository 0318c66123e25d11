//! Tests of Unigram vocabularies against Hugging Face's library.

use std::fs;

use kquant_formats::gguf::Value;
use tokenizers::Tokenizer as Library;

use super::golden::expand;
use super::{FIRST, data, encode, from_keys, json, spm};

/// Returns true for texts that the library treats differently from SentencePiece: it finds byte tokens and visible spaces
/// in the text, and maps characters by graphemes, of which it drops what follows the first match
/// (scripts/check_vocabularies.py).
fn differs(text: &str) -> bool {
    text.contains("<0x") || text.starts_with('▁') || text.contains("o\u{302}\u{323}")
}

#[test]
fn the_likeliest_tokens_are_hugging_faces() {
    let probes = include_str!("../../pre_tokenizer/probes.json");
    let mut texts: Vec<String> = serde_json::from_str(probes).unwrap();
    texts.extend(json("tokens/strings.json").as_array().unwrap().iter().map(expand));
    texts.push(fs::read_to_string(data("corpora/eval-small.txt")).unwrap());
    for name in ["unigram", "unigram-bytes"] {
        let library = Library::from_file(data(&format!("tokenizers/{name}/tokenizer.json"))).unwrap();
        let own = from_keys(&format!("tokenizers/{name}"), "llama");
        let mut equal = 0;
        for text in &texts {
            let wanted = library.encode_fast(text.as_str(), false).unwrap();
            let ids = own.encode(text, true).unwrap();
            let start: String = text.chars().take(60).collect();
            assert!(differs(text) || wanted.get_ids() == ids, "{name}, {start:?}");
            equal += usize::from(wanted.get_ids() == ids);
        }
        assert!(texts.len() - equal <= 6, "{name}: {equal} of {}", texts.len());
    }
}

#[test]
fn decoding_gives_the_text_back() {
    let own = from_keys("tokenizers/unigram-bytes", "llama");
    for text in ["Hello  world\n é 漢字 ", "  a", "x"] {
        assert_eq!(own.decode(&own.encode(text, false).unwrap()), text);
    }
}

#[test]
fn control_tokens_in_plain_text_are_text() {
    let own = from_keys("tokenizers/unigram", "llama");
    assert!(own.encode("<s>", false).unwrap().len() > 1);
    assert_eq!(own.encode("<s><sep>", true).unwrap(), [1, 4]);
    assert_eq!((own.bos(), own.eos(), own.add_bos(), own.add_eos()), (Some(1), Some(2), Some(1), None));
}

#[test]
fn a_run_of_unknown_characters_is_one_token() {
    let mut keys = spm(&[("▁a", -1.0, 1), ("b", -2.0, 1), ("▁", -3.0, 1), ("bb", -4.0, 1)]);
    keys.set("tokenizer.ggml.model", Value::from("t5"));
    keys.set("tokenizer.ggml.unknown_token_id", Value::U32(0));
    keys.set("tokenizer.ggml.add_space_prefix", Value::Bool(true));
    // This vocabulary has byte tokens, which are found.
    assert_eq!(encode(&keys, "aé"), [FIRST, 3 + 0xc3, 3 + 0xa9]);
    // Two tokens of score -2 are as likely as one of -4: the first found, which is longer, stays.
    assert_eq!(encode(&keys, "abb"), [FIRST, FIRST + 3]);
    let mut types = vec![1; FIRST as usize + 4];
    types[0] = 2;
    keys.set("tokenizer.ggml.token_type", Value::Array(kquant_formats::gguf::Array::I32(types)));
    assert_eq!(encode(&keys, "aéxb x"), [FIRST, 0, FIRST + 1, FIRST + 2, 0]);
}
