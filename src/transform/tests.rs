//! Trimmed vocabularies against the whole ones, on the vocabularies of small models.

use std::path::{Path, PathBuf};

use super::{order, trim};
use crate::convert::Converted;
use crate::vocab::{self, Request, Tokenizer};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The vocabulary of a folder as a model without tensors.
fn vocabulary(name: &str, architecture: &str) -> Converted {
    let config = serde_json::json!({});
    let folder = data(name);
    let request =
        Request { folder: &folder, architecture, vocab_size: None, config: &config, pre: Some("gpt-2") };
    let metadata = vocab::load(&request).unwrap().keys;
    Converted { metadata, tensors: Vec::new(), warnings: Vec::new(), notes: Vec::new(), limits: Vec::new() }
}

#[test]
fn texts_that_need_no_lost_token_are_cut_alike_and_others_are_still_read() {
    for (name, architecture) in
        [("tiny-llama", "llama"), ("tokenizers/gpt2-4m", "gpt2"), ("tokenizers/unigram-bytes", "t5")]
    {
        let whole = vocabulary(name, architecture);
        let before = Tokenizer::from_metadata(&whole.metadata).unwrap();
        let text = std::fs::read_to_string(data("corpora/calibration-small.txt")).unwrap();
        let text: String = text.chars().take(3000).collect();
        let ids = before.encode(&text, false).unwrap();
        let mut counts = vec![0; before.vocab_size()];
        ids.iter().for_each(|&id| counts[id as usize] += 1);
        let order = order(&whole.metadata, &before, &[], &counts, &[]);
        let mut kept = order.ids[..order.of_text].to_vec();
        kept.sort_unstable();
        assert!(kept.len() < before.vocab_size(), "{name}: nothing is lost");
        let after = Tokenizer::from_metadata(&trim(&whole, &kept).unwrap().metadata).unwrap();
        assert_eq!(after.vocab_size(), kept.len());
        let old: Vec<u32> = after.encode(&text, false).unwrap().iter().map(|&id| kept[id as usize]).collect();
        assert_eq!(old, ids, "{name}");
        let strange = "if (x != 0) { y[i] += 2; } 😀🎉 你好，世界";
        if !name.contains("unigram") {
            let ids = after.encode(strange, false).unwrap();
            assert_eq!(after.decode(&ids), strange, "{name}");
        }
    }
}

#[test]
fn keys_cannot_name_a_lost_token() {
    let whole = vocabulary("tiny-llama", "llama");
    let error = trim(&whole, &[10, 11, 12]).unwrap_err().to_string();
    assert!(error.contains("_token_id"), "{error}");
    let error = trim(&whole, &[1 << 20]).unwrap_err().to_string();
    assert!(error.contains("1048576"), "{error}");
}
