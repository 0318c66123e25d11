//! Tests of special ids and of tokens that are added. The expected keys are those of gguf-py's `SpecialVocab` for the
//! same files, except that it stops at a negative id, which old configurations have for "none".

use kquant_formats::gguf::Value;
use serde_json::{Value as Json, json};

use super::{Folder, small};

fn special(id: &str) -> Json {
    json!({ "SpecialToken": { "id": id, "type_id": 0 } })
}

fn text(id: &str) -> Json {
    json!({ "Sequence": { "id": id, "type_id": 0 } })
}

fn template(single: &[Json], pair: &[Json]) -> Json {
    json!({ "type": "TemplateProcessing", "single": single, "pair": pair })
}

/// Returns the special keys that follow from a post-processor, `tokenizer_config.json` and `config.json`, as
/// `bos=0 add_bos=true`.
fn keys(post: Json, tokenizer_config: Option<Json>, config: Json) -> String {
    let mut tokenizer = small();
    tokenizer["post_processor"] = post;
    let mut folder = Folder::with_tokenizer("gpt2", &tokenizer);
    if let Some(tokenizer_config) = tokenizer_config {
        folder = folder.json("tokenizer_config.json", &tokenizer_config);
    }
    let out = folder.config(config).load().unwrap();
    let short = |key: &str| key.replace("tokenizer.ggml.", "").replace("_token", "").replace("_id", "");
    let shown = |(key, value): (&str, &Value)| match value {
        Value::U32(id) => format!("{}={id}", short(key)),
        Value::Bool(add) => format!("{}={add}", short(key)),
        other => panic!("{key} is {other:?}"),
    };
    out.iter().skip(5).map(shown).collect::<Vec<_>>().join(" ")
}

#[test]
fn ids_come_from_tokenizer_config_then_from_config() {
    let tokenizer_config =
        json!({ "eos_token": { "content": "</s>" }, "pad_token": "absent", "unk_token": null });
    let config = json!({ "bos_token_id": 0, "eos_token_id": 4, "pad_token_id": 3, "sep_token_id": 2 });
    assert_eq!(keys(json!(null), Some(tokenizer_config), config), "eos=1 bos=0 seperator=2 padding=3");
}

#[test]
fn negative_and_distant_ids_are_no_ids() {
    let config = json!({ "bos_token_id": -1, "eos_token_id": -1, "pad_token_id": 5, "mask_token_id": 4 });
    assert_eq!(keys(json!(null), None, config), "mask=4");
}

#[test]
fn the_first_id_of_a_list_counts_for_every_role() {
    let config = json!({ "bos_token_id": [0, 1], "eos_token_id": [-1, 9, 4, 3], "pad_token_id": [] });
    assert_eq!(keys(json!(null), None, config), "bos=0 eos=4");
}

#[test]
fn a_role_is_looked_up_among_all_tokens() {
    let tokenizer_config = json!({ "eos_token": "ab", "pad_token": { "content": "b" }, "unk_token": "a" });
    let config = json!({ "eos_token_id": 1, "pad_token_id": 1 });
    assert_eq!(keys(json!(null), Some(tokenizer_config), config), "eos=4 unknown=2 padding=3");
}

#[test]
fn a_model_of_several_kinds_keeps_its_ids_in_text_config() {
    let config = json!({ "bos_token_id": null, "text_config": { "bos_token_id": 0 } });
    assert_eq!(keys(json!(null), None, config), "bos=0");
}

#[test]
fn classifier_tokens_stand_in() {
    let tokenizer_config = json!({ "cls_token": "<s>", "sep_token": "</s>" });
    assert_eq!(keys(json!(null), Some(tokenizer_config), json!({})), "bos=0 eos=1 seperator=1");
}

#[test]
fn what_is_added_follows_the_configuration() {
    let tokenizer_config = json!({ "add_bos_token": true, "add_eos_token": false, "add_pad_token": true });
    assert_eq!(keys(json!(null), Some(tokenizer_config), json!({})), "add_bos=true add_eos=false");
}

#[test]
fn a_byte_level_step_adds_nothing() {
    let tokenizer_config = json!({ "add_bos_token": true });
    let post = json!({ "type": "ByteLevel", "trim_offsets": true });
    assert_eq!(keys(post, Some(tokenizer_config), json!({})), "add_bos=false add_eos=false");
}

#[test]
fn a_template_wins_over_the_configuration() {
    let tokenizer_config = json!({ "bos_token": "<s>", "eos_token": "</s>", "add_bos_token": false });
    let post =
        template(&[special("<s>"), text("A")], &[special("<s>"), text("A"), special("<s>"), text("B")]);
    assert_eq!(keys(post, Some(tokenizer_config), json!({})), "bos=0 eos=1 add_bos=true add_sep=false");
}

#[test]
fn steps_of_a_sequence_are_all_heard() {
    let post = json!({
        "type": "Sequence",
        "processors": [{ "type": "ByteLevel" }, template(&[special("<s>"), text("A")], &[])],
    });
    let tokenizer_config = json!({ "bos_token": "<s>", "eos_token": "</s>" });
    assert_eq!(keys(post, Some(tokenizer_config), json!({})), "bos=0 eos=1 add_bos=true add_eos=false");
}

#[test]
fn a_template_alone_names_the_tokens() {
    let post = template(&[special("<s>"), text("A"), special("</s>")], &[]);
    assert_eq!(keys(post, None, json!({})), "add_bos=true add_eos=true");
}

#[test]
fn another_end_than_the_configured_one_ends_a_turn() {
    let post = template(&[text("A"), special("</s>")], &[]);
    let tokenizer_config = json!({ "bos_token": "<s>", "eos_token": "<s>" });
    assert_eq!(keys(post, Some(tokenizer_config), json!({})), "bos=0 eos=1 eot=0 add_eos=true");
}

#[test]
fn separators_of_pairs() {
    let tokenizer_config = json!({ "bos_token": "<s>", "eos_token": "</s>" });
    let one =
        template(&[special("<s>"), text("A")], &[special("<s>"), text("A"), special("</s>"), text("B")]);
    assert_eq!(
        keys(one, Some(tokenizer_config.clone()), json!({})),
        "bos=0 eos=1 seperator=1 add_bos=true add_sep=true"
    );
    let single = [special("<s>"), text("A"), special("</s>")];
    let pair = [special("<s>"), text("A"), special("</s>"), special("</s>"), text("B"), special("</s>")];
    let wanted = "bos=0 eos=1 seperator=1 add_bos=true add_eos=true add_sep=true";
    assert_eq!(keys(template(&single, &pair), Some(tokenizer_config.clone()), json!({})), wanted);
    let pair = [special("<s>"), text("A"), special("</s>"), text("B"), special("</s>")];
    let wanted = "bos=0 eos=1 add_bos=true add_eos=true add_sep=false";
    assert_eq!(keys(template(&single, &pair), Some(tokenizer_config), json!({})), wanted);
}

#[test]
fn roberta_adds_all_and_names_what_is_missing() {
    let post = json!({ "type": "RobertaProcessing", "sep": ["</s>", 1], "cls": ["<s>", 0] });
    let tokenizer_config = json!({ "bos_token": "<s>", "eos_token": "</s>" });
    let wanted = "bos=0 eos=1 seperator=1 add_bos=true add_eos=true add_sep=true";
    assert_eq!(keys(post, Some(tokenizer_config), json!({})), wanted);
}

/// Returns a folder of the small vocabulary with more tokens from id 5 on.
fn with_tokens(texts: &[&str]) -> Folder {
    let mut tokenizer = small();
    let added = tokenizer["added_tokens"].as_array_mut().unwrap();
    added.extend(
        texts.iter().zip(5..).map(|(text, id)| json!({ "id": id, "content": text, "special": true })),
    );
    Folder::with_tokenizer("gpt2", &tokenizer)
}

#[test]
fn frames_of_fill_in_the_middle_and_ends_of_messages_are_found_by_their_texts() {
    let texts = [
        "<fim_suffix>",
        "<fim_prefix>",
        "<fim_middle>",
        "<|fim_pad|>",
        "<reponame>",
        "<|file_sep|>",
        "<|eom_id|>",
    ];
    let out = with_tokens(&texts).load().unwrap();
    let id = |role: &str| out.get(&format!("tokenizer.ggml.{role}_token_id")).and_then(Value::as_u64);
    let roles = ["fim_pre", "fim_suf", "fim_mid", "fim_pad", "fim_rep", "fim_sep", "eom", "eot"];
    assert_eq!(roles.map(id), [Some(6), Some(5), Some(7), Some(8), Some(9), Some(10), Some(11), None]);
}

#[test]
fn an_end_of_a_turn_is_named_where_it_is_not_the_end_of_all() {
    let eot = |eos: u64| {
        let folder = with_tokens(&["<|endoftext|>", "<|im_end|>"]).config(json!({ "eos_token_id": eos }));
        folder.load().unwrap().get("tokenizer.ggml.eot_token_id").and_then(Value::as_u64)
    };
    assert_eq!((eot(5), eot(6)), (Some(6), None));
}
