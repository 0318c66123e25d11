//! Tests of llama.cpp's names for definitions of pre-tokenizers.

use serde_json::{Value as Json, json};

use super::super::pre_tokenizer::{Definition, NAMES, Step, table::DEFINITIONS};
use super::{Folder, small};

fn folder(pre_tokenizer: Json, ignore_merges: bool) -> Folder {
    let mut tokenizer = small();
    tokenizer["pre_tokenizer"] = pre_tokenizer;
    tokenizer["model"]["ignore_merges"] = json!(ignore_merges);
    Folder::with_tokenizer("llama", &tokenizer)
}

fn name(pre_tokenizer: Json, ignore_merges: bool) -> String {
    let out = folder(pre_tokenizer, ignore_merges).load().unwrap();
    out.get("tokenizer.ggml.pre").and_then(|pre| pre.as_str()).unwrap().to_owned()
}

fn sequence(steps: &[Json]) -> Json {
    json!({ "type": "Sequence", "pretokenizers": steps })
}

fn split(regex: &str) -> Json {
    json!({ "type": "Split", "pattern": { "Regex": regex }, "behavior": "Isolated", "invert": false })
}

fn bytes(use_regex: bool) -> Json {
    json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex })
}

fn to_json(step: &Step) -> Json {
    match step {
        Step::Split(regex) => split(regex),
        Step::Digits { individual } => json!({ "type": "Digits", "individual_digits": individual }),
        Step::Punctuation { runs } => {
            json!({ "type": "Punctuation", "behavior": if *runs { "Contiguous" } else { "Isolated" } })
        }
        Step::ByteLevel { use_regex } => bytes(*use_regex),
    }
}

#[test]
fn every_definition_is_found_and_its_name_known() {
    for definition in DEFINITIONS {
        let steps: Vec<Json> = definition.steps.iter().map(to_json).collect();
        assert_eq!(name(sequence(&steps), definition.ignore_merges), definition.name);
        assert!(NAMES.contains(&definition.name), "{}", definition.name);
    }
}

#[test]
fn no_two_definitions_are_equal() {
    for (at, one) in DEFINITIONS.iter().enumerate() {
        let same = |other: &&_| {
            let other: &Definition = other;
            other.steps == one.steps && other.ignore_merges == one.ignore_merges
        };
        assert!(!DEFINITIONS[at + 1..].iter().any(|other| same(&other)), "{}", one.name);
    }
}

#[test]
fn gpt_2s_own_file_leaves_use_regex_out() {
    assert_eq!(
        name(json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true }), false),
        "gpt-2"
    );
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

#[test]
fn llama_3_takes_words_whole_and_others_do_not() {
    let definition = sequence(&[split(LLAMA3), bytes(false)]);
    assert_eq!(name(definition.clone(), true), "llama-bpe");
    assert_eq!(name(definition, false), "dbrx");
}

#[test]
fn where_one_name_has_the_steps_ignore_merges_does_not_matter() {
    let definition = sequence(&[split(&LLAMA3.replace("{1,3}", "")), bytes(false)]);
    assert_eq!(name(definition.clone(), false), "qwen2");
    assert_eq!(name(definition, true), "qwen2");
}

#[test]
fn keeping_the_matches_only_is_the_same_split() {
    let mut step = split(LLAMA3);
    step["behavior"] = json!("Removed");
    step["invert"] = json!(true);
    assert_eq!(name(sequence(&[step.clone(), bytes(false)]), true), "llama-bpe");
    step["invert"] = json!(false);
    assert!(folder(sequence(&[step, bytes(false)]), true).load().is_err());
}

#[test]
fn line_ends_in_an_expression_may_be_themselves() {
    let last = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";
    let steps = [split(r"\p{N}{1,3}"), split("[一-龥\u{3040}-ゟ゠-ヿ]+"), split(last), bytes(false)];
    assert_eq!(name(sequence(&steps), false), "deepseek-v3");
    let coder = [
        split("[\r\n]"),
        split(r"\s?\p{L}+"),
        split(r"\s?\p{P}+"),
        split("[一-龥\u{800}-一가-\u{d7ff}]+"),
        json!({ "type": "Digits", "individual_digits": true }),
        bytes(false),
    ];
    assert_eq!(name(sequence(&coder), false), "deepseek-coder");
}

#[test]
fn sequences_inside_sequences_are_one() {
    let digits = json!({ "type": "Digits", "individual_digits": true });
    assert_eq!(name(sequence(&[sequence(&[digits]), sequence(&[bytes(true)])]), false), "smollm");
}

#[test]
fn an_unknown_definition_is_quoted() {
    let error = folder(sequence(&[split("[a-z]+"), bytes(false)]), false).error();
    assert!(error.starts_with("DIR/tokenizer.json: pre_tokenizer is not one"), "{error}");
    assert!(
        error.contains(r#"{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"[a-z]+"}"#),
        "{error}"
    );
    assert!(error.contains("--pre NAME (such as gpt-2, llama-bpe, qwen2,"), "{error}");
    let long = folder(split(&"é".repeat(5000)), false).error();
    assert!(long.chars().count() < 600 && long.contains("éé...;"), "{long}");
}

#[test]
fn a_prefix_space_has_no_counterpart() {
    let prefix = json!({ "type": "ByteLevel", "add_prefix_space": true });
    for definition in
        [prefix, json!({ "type": "ByteLevel" }), json!({ "type": "BertPreTokenizer" }), json!(null)]
    {
        assert!(folder(definition, false).error().contains("--pre NAME"));
    }
}

#[test]
fn a_given_name_is_taken_if_llama_cpp_has_it() {
    let unknown = || folder(split("[a-z]+"), false);
    let out = unknown().pre("starcoder").load().unwrap();
    assert_eq!(out.get("tokenizer.ggml.pre").and_then(|pre| pre.as_str()), Some("starcoder"));
    let error = unknown().pre("star-coder").error();
    assert!(
        error.starts_with("--pre star-coder: llama.cpp has no such pre-tokenizer; it has a.x-4.0, "),
        "{error}"
    );
}
