//! Tests of byte-level BPE.

use kquant_formats::gguf::Value;
use serde_json::json;

use super::{Folder, keys, load_data, small, strings, tokens, types};

#[test]
fn a_folder_with_a_byte_level_vocabulary() {
    for architecture in ["gpt2", "llama"] {
        let out = load_data("archs/gpt2", architecture);
        assert_eq!(
            keys(&out),
            [
                "ggml.model",
                "ggml.pre",
                "ggml.tokens",
                "ggml.token_type",
                "ggml.merges",
                "ggml.bos_token_id",
                "ggml.eos_token_id",
                "ggml.padding_token_id",
                "ggml.add_bos_token",
            ]
        );
        assert_eq!(out.get("tokenizer.ggml.model"), Some(&Value::from("gpt2")));
        assert_eq!(out.get("tokenizer.ggml.pre"), Some(&Value::from("gpt-2")));
        assert_eq!(out.get("tokenizer.ggml.bos_token_id"), Some(&Value::U32(1)));
        assert_eq!(out.get("tokenizer.ggml.eos_token_id"), Some(&Value::U32(2)));
        assert_eq!(out.get("tokenizer.ggml.padding_token_id"), Some(&Value::U32(0)));
        assert_eq!(out.get("tokenizer.ggml.add_bos_token"), Some(&Value::Bool(false)));
        let tokens = tokens(&out);
        assert_eq!(tokens.len(), 320);
        assert_eq!(tokens[..4], ["<pad>", "<s>", "</s>", "!"]);
        assert_eq!(types(&out)[..4], [3, 3, 3, 1]);
        assert!(types(&out)[3..].iter().all(|kind| *kind == 1));
        let merges = strings(&out, "tokenizer.ggml.merges");
        assert_eq!((merges.len(), merges.last().unwrap().as_str()), (61, "r o"));
    }
}

#[test]
fn both_spellings_of_merges() {
    let mut tokenizer = small();
    let as_text = Folder::with_tokenizer("gpt2", &tokenizer).load().unwrap();
    tokenizer["model"]["merges"] = json!([["a", "b"]]);
    let as_pair = Folder::with_tokenizer("gpt2", &tokenizer).load().unwrap();
    assert_eq!(as_text, as_pair);
    assert_eq!(strings(&as_pair, "tokenizer.ggml.merges"), ["a b"]);
}

#[test]
fn a_space_inside_a_piece_is_written_as_its_byte_letter() {
    let mut tokenizer = small();
    tokenizer["model"]["vocab"] = json!({ "a b": 0, "c": 1, "a bc": 2 });
    tokenizer["model"]["merges"] = json!([["a b", "c"]]);
    tokenizer["added_tokens"] = json!([]);
    let out = Folder::with_tokenizer("gpt2", &tokenizer).load().unwrap();
    assert_eq!(strings(&out, "tokenizer.ggml.merges"), ["aĠb c"]);
}

#[test]
fn rows_without_a_token_become_unused_pads() {
    let mut tokenizer = small();
    tokenizer["model"]["vocab"] = json!({ "a": 0, "b": 1, "ab": 3 });
    tokenizer["added_tokens"] = json!([{ "id": 5, "content": "<x>", "special": true }]);
    let out = Folder::with_tokenizer("gpt2", &tokenizer).config(json!({ "vocab_size": 8 })).load().unwrap();
    assert_eq!(tokens(&out), ["a", "b", "[PAD2]", "ab", "[PAD4]", "<x>", "[PAD6]", "[PAD7]"]);
    assert_eq!(types(&out), [1, 1, 5, 1, 5, 3, 5, 5]);
}

#[test]
fn the_number_of_rows_is_the_highest_id_unless_it_is_said() {
    let folder = Folder::with_tokenizer("gpt2", &small());
    assert_eq!(tokens(&folder.load().unwrap()).len(), 5);
    let folder = folder.config(json!({ "text_config": { "vocab_size": 6 } }));
    assert_eq!(tokens(&folder.load().unwrap()).len(), 6);
}

#[test]
fn added_tokens_are_control_or_user_defined() {
    let mut tokenizer = small();
    tokenizer["added_tokens"] = json!([
        { "id": 0, "content": "<s>", "special": true },
        { "id": 5, "content": "plain", "special": false, "normalized": true },
        { "id": 6, "content": "<|looks special|>", "special": false },
        { "id": 7, "content": "▁▁", "special": false },
        { "id": 8, "content": "ĠĠĠ", "special": false, "normalized": false },
        { "id": 9, "content": "Ġq", "special": false, "normalized": true },
    ]);
    let out = Folder::with_tokenizer("gpt2", &tokenizer).load().unwrap();
    assert_eq!(tokens(&out)[4..], ["ab", "plain", "<|looks special|>", "  ", "   ", "Ġq"]);
    assert_eq!(types(&out), [3, 1, 1, 1, 1, 4, 3, 4, 4, 4]);
}

#[test]
fn tokenizer_config_adds_tokens_and_names_special_ones() {
    let config = json!({
        "added_tokens_decoder": {
            "0": { "content": "<s>", "special": false },
            "5": { "content": "<new>", "special": true },
        },
        "pad_token": { "content": "b" },
        "additional_special_tokens": ["ab", "absent"],
    });
    let out = Folder::with_tokenizer("gpt2", &small()).json("tokenizer_config.json", &config).load().unwrap();
    assert_eq!(tokens(&out), ["<s>", "</s>", "a", "b", "ab", "<new>"]);
    // The kind of `<s>` is the one in tokenizer.json.
    assert_eq!(types(&out), [3, 3, 1, 3, 3, 3]);
}

#[test]
fn gpt_2s_own_file_has_no_type_and_empty_affixes() {
    let mut tokenizer = small();
    let model = tokenizer["model"].as_object_mut().unwrap();
    model.remove("type");
    model.insert("continuing_subword_prefix".into(), json!(""));
    model.insert("end_of_word_suffix".into(), json!(""));
    assert!(Folder::with_tokenizer("gpt2", &tokenizer).load().is_ok());
}

#[test]
fn normalizers_that_llama_cpp_follows_become_keys() {
    let mut tokenizer = small();
    let steps = [json!({ "type": "NFC" }), json!({ "type": "Lowercase" }), json!({ "type": "StripAccents" })];
    tokenizer["normalizer"] = json!({ "type": "Sequence", "normalizers": steps });
    let out = Folder::with_tokenizer("gpt2", &tokenizer).load().unwrap();
    assert_eq!(keys(&out)[5..], ["ggml.normalizer.lowercase", "ggml.normalizer.strip_accents"]);
}
