//! Tokenizers of folders with fewer tokens, against the same as GGUF keys.

use std::path::Path;

use serde_json::{Value as Json, json};

use super::data;
use crate::convert::Converted;
use crate::folder::{files, ids, tokenizer, tokens::Kept};
use crate::transform::{order, trim};
use crate::vocab::{self, Request, Tokenizer};

/// The vocabulary of a folder as a model without tensors.
fn vocabulary(folder: &Path, architecture: &str) -> Converted {
    let config = json!({});
    let request = Request { folder, architecture, vocab_size: None, config: &config, pre: Some("gpt-2") };
    let metadata = vocab::load(&request).unwrap().keys;
    Converted { metadata, tensors: Vec::new(), warnings: Vec::new(), notes: Vec::new(), limits: Vec::new() }
}

#[test]
fn every_kind_of_tokenizer_is_trimmed_alike() {
    let text = std::fs::read_to_string(data("corpora/calibration-small.txt")).unwrap();
    let text: String = text.chars().take(3000).collect();
    let strange = "if (x != 0) { y[i] += 2; } 😀🎉 你好，世界";
    // Each with both files and, where there are two, with either alone.
    for (name, architecture, without) in [
        ("tiny-llama", "llama", ""),
        ("tiny-llama", "llama", "tokenizer.json"),
        ("tiny-llama", "llama", "tokenizer.model"),
        ("tokenizers/gpt2-4m", "gpt2", ""),
        ("tokenizers/unigram", "t5", ""),
        ("tokenizers/unigram", "t5", "tokenizer.model"),
        ("tokenizers/unigram-bytes", "t5", "tokenizer.json"),
        ("tokenizers/unigram-bytes", "t5", "tokenizer.model"),
    ] {
        let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for file in ["tokenizer.json", "tokenizer.model", "tokenizer_config.json"] {
            if file != without && data(name).join(file).exists() {
                std::fs::copy(data(name).join(file), folder.path().join(file)).unwrap();
            }
        }
        let case = format!("{name} without {without:?}");
        let whole = vocabulary(folder.path(), architecture);
        let before = Tokenizer::from_metadata(&whole.metadata).unwrap();
        let mut counts = vec![0; before.vocab_size()];
        before.encode(&text, false).unwrap().iter().for_each(|&id| counts[id as usize] += 1);
        let order = order(&whole.metadata, &before, &[], &counts, &[]);
        let trimmed = trim(&whole, &order.ids[..order.of_text]).unwrap();
        assert!(order.of_text < before.vocab_size(), "{case}: nothing is lost");

        let kept = Kept::find(&whole.metadata, &trimmed.metadata).unwrap();
        for (file, content) in files::all(folder.path(), &kept).unwrap() {
            std::fs::write(out.path().join(file), content).unwrap();
        }
        let again = vocabulary(out.path(), architecture);
        let [ours, theirs] = [&again, &trimmed].map(|m| Tokenizer::from_metadata(&m.metadata).unwrap());
        assert_eq!(ours.vocab_size(), order.of_text, "{case}");
        for text in [text.as_str(), strange] {
            assert_eq!(ours.encode(text, true).unwrap(), theirs.encode(text, true).unwrap(), "{case}");
        }
        let keys = trimmed.metadata.iter().map(|(key, _)| key).filter(|key| !key.ends_with(".scores"));
        for key in keys {
            assert!(again.metadata.get(key) == trimmed.metadata.get(key), "{case}: {key}");
        }
    }
}

/// The tokens 1, 3 and 4 of five.
fn three_of_five() -> Kept {
    let texts = |texts: &[&str]| {
        let mut keys = kquant_formats::gguf::Metadata::new();
        let texts = texts.iter().map(|text| text.to_string()).collect();
        let list = kquant_formats::gguf::Array::String(texts);
        keys.set("tokenizer.ggml.tokens", kquant_formats::gguf::Value::Array(list));
        keys
    };
    Kept::find(&texts(&["a", "b", "c", "d", "e"]), &texts(&["b", "d", "e"])).unwrap()
}

#[test]
fn ids_are_renumbered_wherever_they_stand() {
    let kept = three_of_five();
    let Json::Object(mut config) = json!({
        "bos_token_id": 1, "eos_token_id": [0, 3], "pad_token_id": 0, "unk_token_id": -1, "sep_token_id": null,
        "hidden_size": 3, "text_config": { "eos_token_id": 4, "vocab_size": 5 },
        "suppress_tokens": [], "bad_words_ids": [[1, 3], [1, 2]], "forced_eos_token_id": [2]
    }) else {
        unreachable!()
    };
    ids::renumber(&mut config, &kept);
    let expected = json!({
        "bos_token_id": 0, "eos_token_id": [1], "pad_token_id": null, "unk_token_id": -1, "sep_token_id": null,
        "hidden_size": 3, "text_config": { "eos_token_id": 2, "vocab_size": 5 },
        "suppress_tokens": [], "bad_words_ids": [[0, 1]], "forced_eos_token_id": null
    });
    assert_eq!(Json::Object(config), expected);

    let file = json!({
        "added_tokens": [{ "id": 0, "content": "a" }, { "id": 4, "content": "e" }],
        "padding": { "pad_id": 3, "pad_token": "d" },
        "post_processor": { "type": "Sequence", "processors": [
            { "type": "TemplateProcessing", "special_tokens": { "e": { "id": "e", "ids": [4], "tokens": ["e"] } } },
            { "type": "RobertaProcessing", "sep": ["d", 3], "cls": ["b", 1] }
        ] },
        "model": { "type": "BPE", "vocab": { "a": 0, "b": 1, "c": 2, "d": 3, "e": 4 }, "merges": [["a", "b"], "b d"] }
    });
    let expected = json!({
        "added_tokens": [{ "id": 2, "content": "e" }],
        "padding": { "pad_id": 1, "pad_token": "d" },
        "post_processor": { "type": "Sequence", "processors": [
            { "type": "TemplateProcessing", "special_tokens": { "e": { "id": "e", "ids": [2], "tokens": ["e"] } } },
            { "type": "RobertaProcessing", "sep": ["d", 1], "cls": ["b", 0] }
        ] },
        "model": { "type": "BPE", "vocab": { "b": 0, "d": 1, "e": 2 }, "merges": [] }
    });
    assert_eq!(tokenizer::trimmed(Path::new("tokenizer.json"), file, &kept).unwrap(), expected);
    let odd = json!({ "model": { "type": "WordLevel" } });
    let error = tokenizer::trimmed(Path::new("tokenizer.json"), odd, &kept).unwrap_err().to_string();
    assert!(error.contains("no vocabulary that is known"), "{error}");

    let settings = json!({
        "added_tokens_decoder": { "0": { "content": "a" }, "3": { "content": "d" } },
        "additional_special_tokens": ["a", "d"], "bos_token": "b"
    });
    let expected = json!({
        "added_tokens_decoder": { "1": { "content": "d" } }, "additional_special_tokens": ["d"], "bos_token": "b"
    });
    assert_eq!(tokenizer::trimmed_settings(settings, &kept), expected);
}
