//! Tests of vocabularies made by hand.

use kquant_formats::gguf::{Array, Metadata, Value};

use super::{FIRST, bpe, encode, error, spm, texts};
use crate::vocab::Tokenizer;

#[test]
fn the_highest_score_is_joined_first_and_the_leftmost_of_equals() {
    let tokens =
        [("a", -9.0, 1), ("ab", -2.0, 1), ("bc", -1.0, 1), ("aa", -3.0, 1), ("b", -9.0, 1), ("c", -9.0, 1)];
    let mut keys = spm(&tokens);
    keys.set("tokenizer.ggml.add_space_prefix", Value::Bool(false));
    assert_eq!(encode(&keys, "abc"), [FIRST, FIRST + 2]);
    assert_eq!(encode(&keys, "aaa"), [FIRST + 3, FIRST]);
}

#[test]
fn what_is_no_token_becomes_bytes() {
    let keys = spm(&[("▁", -1.0, 1)]);
    assert_eq!(encode(&keys, "é\n"), [FIRST, 3 + 0xc3, 3 + 0xa9, 3 + 0x0a]);
}

#[test]
fn tokens_may_reach_over_spaces() {
    let keys = spm(&[("▁", -9.0, 1), ("a", -9.0, 1), ("▁a", -3.0, 1), ("a▁", -1.0, 1), ("a▁a", -0.5, 1)]);
    assert_eq!(encode(&keys, "a a"), [FIRST, FIRST + 4]);
}

#[test]
fn a_space_is_put_before_the_text_and_after_each_special_token() {
    let keys = spm(&[("▁", -1.0, 1), ("a", -2.0, 1)]);
    let tokenizer = Tokenizer::from_metadata(&keys).unwrap();
    let ids = tokenizer.encode("a</s>a a", true).unwrap();
    assert_eq!(ids, [FIRST, FIRST + 1, 2, FIRST, FIRST + 1, FIRST, FIRST + 1]);
    assert!(tokenizer.encode("", false).unwrap().is_empty());
    assert_eq!(tokenizer.decode(&[FIRST, FIRST + 1, FIRST]), "a ");
}

#[test]
fn user_defined_tokens_are_always_found_and_control_tokens_on_demand() {
    let keys = spm(&[("▁", -1.0, 1), ("<|x|>", 0.0, 4), ("<|xx|>", 0.0, 3)]);
    let tokenizer = Tokenizer::from_metadata(&keys).unwrap();
    assert_eq!(tokenizer.encode("<|x|>", false).unwrap(), [FIRST + 1]);
    assert_eq!(tokenizer.encode("<|xx|>", true).unwrap(), [FIRST + 2]);
    assert_eq!(tokenizer.encode("<|xx|>", false).unwrap().len(), 7);
}

#[test]
fn a_longer_token_wins_over_an_earlier_one() {
    let keys = spm(&[("ab", 0.0, 4), ("bcd", 0.0, 4)]);
    assert_eq!(encode(&keys, "abcd"), [3 + 0xe2, 3 + 0x96, 3 + 0x81, 3 + 0x61, FIRST + 1]);
}

#[test]
fn merges_go_by_rank() {
    let keys = bpe(&["a", "b", "c", "bc", "ab"], &["b c", "a b"]);
    assert_eq!(encode(&keys, "abc"), [0, 3]);
    assert_eq!(encode(&keys, "abab"), [4, 4]);
}

#[test]
fn a_merge_that_makes_no_token_leaves_its_characters() {
    let keys = bpe(&["a", "b", "c", "abc"], &["a b", "ab c"]);
    assert_eq!(encode(&keys, "abc"), [3]);
    assert_eq!(encode(&keys, "ab"), [0, 1]);
}

#[test]
fn bytes_without_a_token_are_left_out_as_by_llama_cpp() {
    assert_eq!(encode(&bpe(&["a"], &[]), "aéa"), [0, 0]);
}

#[test]
fn words_are_taken_whole_where_the_pre_tokenizer_says_so() {
    let mut keys = bpe(&["a", "b", "c", "bc", "abc"], &["b c"]);
    assert_eq!(encode(&keys, "abc"), [0, 3]);
    keys.set("tokenizer.ggml.pre", Value::from("llama3"));
    assert_eq!(encode(&keys, "abc"), [4]);
}

#[test]
fn pre_tokenizers_cut_differently() {
    let mut keys = bpe(&["1", "2", "12", "Ġ"], &["1 2"]);
    assert_eq!(encode(&keys, "12 12"), [2, 3, 2]);
    keys.set("tokenizer.ggml.pre", Value::from("starcoder"));
    assert_eq!(encode(&keys, "12"), [0, 1]);
}

#[test]
fn a_bos_is_added_by_default_where_llama_cpp_does() {
    let bos = |keys: &Metadata| Tokenizer::from_metadata(keys).unwrap().add_bos();
    let mut keys = spm(&[]);
    assert_eq!(bos(&keys), Some(1));
    keys.set("tokenizer.ggml.add_bos_token", Value::Bool(false));
    assert_eq!(bos(&keys), None);
    let mut keys = bpe(&["a", "b"], &[]);
    keys.set("tokenizer.ggml.bos_token_id", Value::U32(1));
    assert_eq!(bos(&keys), None);
    keys.set("tokenizer.ggml.pre", Value::from("llama-bpe"));
    assert_eq!(bos(&keys), Some(1));
    keys.set("tokenizer.ggml.bos_token_id", Value::U32(2));
    assert_eq!(bos(&keys), None);
}

#[test]
fn ends_are_found_by_key_and_by_text() {
    let mut keys = bpe(&["a", "<|im_end|>", "<|endoftext|>", "<|fim_pad|>", "b"], &[]);
    keys.set("tokenizer.ggml.eos_token_id", Value::U32(4));
    let tokenizer = Tokenizer::from_metadata(&keys).unwrap();
    assert_eq!((0..6).filter(|&id| tokenizer.is_end(id)).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!((tokenizer.eos(), tokenizer.eot()), (Some(4), Some(1)));
    assert_eq!(tokenizer.decode(&[0, 1, 2, 3, 4, 99]), "ab");
}

#[test]
fn families_may_except_an_end() {
    let harmony = bpe(&["<|end|>", "<|return|>", "<|call|>", "<|start|>"], &[]);
    let tokenizer = Tokenizer::from_metadata(&harmony).unwrap();
    assert_eq!((0..4).filter(|&id| tokenizer.is_end(id)).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(tokenizer.encode("<|end|><|start|>", false).unwrap(), [0, 3]);
}

#[test]
fn errors_name_the_key() {
    assert_eq!(
        error(&Metadata::new()).to_string(),
        "tokenizer.ggml.model: is missing or no text; convert the model anew"
    );
    let mut keys = bpe(&["a"], &[]);
    keys.set("tokenizer.ggml.pre", Value::from("whitespace"));
    assert!(
        error(&keys).to_string().starts_with("tokenizer.ggml.pre is \"whitespace\", a pre-tokenizer that")
    );
    keys.set("tokenizer.ggml.model", Value::from("rwkv"));
    assert!(error(&keys).to_string().starts_with("tokenizer.ggml.model is \"rwkv\"; kquant tokenizes for"));
    let keys = bpe(&["a", "a"], &[]);
    assert!(error(&keys).to_string().contains("tokens: \"a\" has two ids, 0 and 1;"));
    let keys = bpe(&["a"], &["aa"]);
    assert!(error(&keys).to_string().contains("merges: merge 0 is no pair: \"aa\";"));
    let mut keys = spm(&[]);
    keys.set("tokenizer.ggml.scores", Value::Array(Array::F32(vec![f32::NAN; FIRST as usize])));
    assert!(error(&keys).to_string().contains("scores: token 0 has a score that is no number;"));
    keys.set("tokenizer.ggml.scores", Value::Array(Array::F32(vec![0.0])));
    assert!(error(&keys).to_string().contains("scores: has 1 values for 259 tokens;"));
    keys.set("tokenizer.ggml.token_type", texts(&["x"]));
    assert!(error(&keys).to_string().contains("token_type: is no list of 259 32-bit integers;"));
}

#[test]
fn a_byte_without_a_token_is_an_error_in_sentencepiece() {
    let mut keys = bpe(&["<s>", "a"], &[]);
    keys.set("tokenizer.ggml.model", Value::from("llama"));
    let tokenizer = Tokenizer::from_metadata(&keys).unwrap();
    let error = tokenizer.encode("a", false).expect_err("no space");
    assert_eq!(error.to_string(), "the vocabulary has no token for byte 0xe2 of the text, not even <0xE2>");
}

#[test]
fn tokens_of_phi_3_swallow_the_spaces_after_them() {
    let mut keys = spm(&[("▁", -1.0, 1), ("a", -2.0, 1), ("<|user|>", 0.0, 3)]);
    let [space, a, user] = [FIRST, FIRST + 1, FIRST + 2];
    let encode = |keys: &Metadata, text| Tokenizer::from_metadata(keys).unwrap().encode(text, true).unwrap();
    assert_eq!(encode(&keys, "<|user|>\n a"), [user, space, 3 + 0x0a, space, a]);
    keys.set("general.name", Value::from("Phi 3"));
    assert_eq!(encode(&keys, "<|user|> a"), [user, space, space, a]);
    keys.set("general.name", Value::from("Phi-3 Mini"));
    assert_eq!(encode(&keys, "<|user|>\n a"), [user, space, a]);
    assert_eq!(encode(&keys, "<s> a"), [1, space, space, a]);
}
