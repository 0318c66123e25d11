//! Tests of tokens that other files add to a vocabulary, and of contradictions among the files.

use kquant_formats::gguf::Metadata;
use serde_json::{Value as Json, json};

use super::{Folder, data, scores, small, tokens, types};

/// Returns a folder with the `tokenizer.model` of `from` and an embedding of `rows` rows.
fn model(from: &str, rows: u64) -> Folder {
    let folder = Folder::empty("llama").copy(&data(from), "tokenizer.model");
    folder.config(json!({ "vocab_size": rows }))
}

/// Returns the number of tokens of a folder's `tokenizer.model`.
fn count(from: &str) -> u64 {
    tokens(&model(from, 5000).load().unwrap()).iter().filter(|text| !text.starts_with("[PAD")).count() as u64
}

/// Returns a `tokenizer.json` with nothing but added tokens.
fn added(tokens: &[(u64, &str, bool)]) -> Json {
    let token = |(id, content, special): &(u64, &str, bool)| json!({ "id": id, "content": content, "special": special });
    json!({ "added_tokens": tokens.iter().map(token).collect::<Vec<_>>() })
}

fn last_four(out: &Metadata) -> (Vec<String>, Vec<i32>) {
    let from = tokens(out).len() - 4;
    (tokens(out)[from..].to_vec(), types(out)[from..].to_vec())
}

#[test]
fn added_tokens_of_tokenizer_json_follow_those_of_the_model() {
    for from in ["tiny-llama", "tokenizers/unigram", "tokenizers/unigram-bytes"] {
        let end = count(from);
        let list = [(end, "<added>", true), (end + 1, "▁▁new", false), (end + 3, "<|user|>", false)];
        let folder = model(from, end + 4).json("tokenizer.json", &added(&list));
        let out = folder.load().unwrap();
        let pad = format!("[PAD{}]", end + 2);
        let wanted = ["<added>", "  new", &pad, "<|user|>"].map(String::from).to_vec();
        assert_eq!(last_four(&out), (wanted, vec![3, 4, 5, 3]), "{from}");
        assert_eq!(scores(&out)[end as usize..], [-1e3, -1e3, -1e4, -1e3], "{from}");
    }
}

#[test]
fn pieces_that_tokenizer_json_adds_are_found_before_anything_is_merged() {
    let old = model("tiny-llama", 2048).load().unwrap();
    let text = tokens(&old)[300].clone();
    for (special, kind) in [(true, 3), (false, 4)] {
        let list = added(&[(300, &text, special), (1, "<s>", true), (0, "<unk>", true), (3, "<0x00>", true)]);
        let out = model("tiny-llama", 2048).json("tokenizer.json", &list).load().unwrap();
        let mut wanted = types(&old);
        wanted[300] = kind;
        assert_eq!(types(&out), wanted);
    }
}

#[test]
fn tokens_without_a_row_are_named() {
    let list = added(&[(2047, "x", false), (2048, "<a>", true), (9999, "<b>", true)]);
    let list = Json::Object(list.as_object().unwrap().clone());
    let plain = json!({ "<c>": 3000 });
    let config =
        json!({ "added_tokens_decoder": { "2048": { "content": "<a>" }, "2500": { "content": "<d>" } } });
    let wanted = "the embedding has 2048 rows, which leaves none for 4 added tokens, and they are left out: \"<a>\" \
                  (2048), \"<d>\" (2500), \"<c>\" (3000), \"<b>\" (9999)";
    let last = tokens(&model("tiny-llama", 2048).load().unwrap())[2047].clone();
    let mut list = list;
    list["added_tokens"][0]["content"] = json!(last);
    let folder = model("tiny-llama", 2048).json("tokenizer.json", &list);
    let folder = folder.json("added_tokens.json", &plain).json("tokenizer_config.json", &config);
    let loaded = folder.loaded().unwrap();
    assert_eq!((loaded.warnings, tokens(&loaded.keys).len()), (vec![wanted.to_owned()], 2048));
}

#[test]
fn every_kind_of_vocabulary_leaves_out_what_has_no_row() {
    let spm = super::sentencepiece::small_json();
    let unigram =
        json!({ "model": { "type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0]] } });
    for (tokenizer, rows) in [(small(), 5), (spm, 264), (unigram, 2)] {
        let mut tokenizer = tokenizer;
        tokenizer["added_tokens"] = json!([{ "id": rows, "content": "<pad>", "special": true }]);
        let folder = Folder::with_tokenizer("llama", &tokenizer);
        let full = folder.load().unwrap();
        assert_eq!(
            tokens(&full)[rows as usize..],
            ["<pad>"],
            "rows that nobody tells are as many as are needed"
        );
        let folder = folder.config(json!({ "vocab_size": rows }));
        let loaded = folder.loaded().unwrap();
        assert_eq!(tokens(&loaded.keys).len(), rows as usize);
        let wanted = format!(
            "the embedding has {rows} rows, which leaves none for 1 added tokens, and they are left out: \"<pad>\" ({rows})"
        );
        assert_eq!(loaded.warnings, [wanted]);
    }
}

#[test]
fn added_tokens_json_counts_beside_tokenizer_json_unless_the_configuration_lists_tokens() {
    let folder = || {
        let folder = Folder::with_tokenizer("gpt2", &small()).config(json!({ "vocab_size": 7 }));
        folder.json("added_tokens.json", &json!({ "<x>": 5, "<s>": 0 }))
    };
    assert_eq!(tokens(&folder().load().unwrap())[4..], ["ab", "<x>", "[PAD6]"]);
    let config = json!({ "added_tokens_decoder": { "5": { "content": "<y>" } } });
    let out = folder().json("tokenizer_config.json", &config).load().unwrap();
    assert_eq!(tokens(&out)[4..], ["ab", "<y>", "[PAD6]"]);
    let error = folder().json("added_tokens.json", &json!({ "<x>": 1 })).error();
    let wanted = "DIR/added_tokens.json: id 1 belongs to the added token \"</s>\" in DIR/tokenizer.json and to \"<x>\" in \
                  DIR/added_tokens.json";
    assert_eq!(error, wanted);
}

#[test]
fn contradictions_with_the_model_name_both_files() {
    let piece = tokens(&model("tiny-llama", 2048).load().unwrap())[300].clone();
    let with =
        |list: &[(u64, &str, bool)]| model("tiny-llama", 2052).json("tokenizer.json", &added(list)).error();
    let keep = "remove the file that is not this model's";
    assert_eq!(
        with(&[(300, "<other>", true)]),
        format!(
            "DIR/tokenizer.model: id 300 is {piece:?}, but the added token \"<other>\" in DIR/tokenizer.json; {keep}"
        )
    );
    assert_eq!(
        with(&[(2048, "</s>", true)]),
        format!(
            "DIR/tokenizer.model: token \"</s>\" has id 2, but 2048 as an added token in DIR/tokenizer.json; {keep}"
        )
    );
    let plain = model("tiny-llama", 2052).json("added_tokens.json", &json!({ "<other>": 300 })).error();
    assert!(plain.ends_with(&format!("\"<other>\" in DIR/added_tokens.json; {keep}")), "{plain}");
    for vocab in
        [json!({ "more": 2048, "most": 2049 }), json!((0..2049).map(|_| ["more", "0"]).collect::<Vec<_>>())]
    {
        let file = json!({ "model": { "vocab": vocab } });
        let error = model("tiny-llama", 2052).json("tokenizer.json", &file).error();
        let wanted = format!(
            "DIR/tokenizer.model: has 2048 tokens, but DIR/tokenizer.json has \"more\" with id 2048 in model.vocab; {keep}"
        );
        assert_eq!(error, wanted);
    }
}

#[test]
fn contradictions_among_added_tokens_name_both_files() {
    let config = |id: &str, content: &str| json!({ "added_tokens_decoder": { id: { "content": content } } });
    let list = added(&[(2048, "<a>", true)]);
    for (id, content, wanted) in [
        (
            "2048",
            "<b>",
            "id 2048 belongs to the added token \"<b>\" in DIR/tokenizer_config.json and to \"<a>\" in DIR/tokenizer.json",
        ),
        (
            "2049",
            "<a>",
            "added token \"<a>\" has two ids, 2049 in DIR/tokenizer_config.json and 2048 in DIR/tokenizer.json; llama.cpp allows one",
        ),
    ] {
        let folder = model("tiny-llama", 2052).json("tokenizer.json", &list);
        let error = folder.json("tokenizer_config.json", &config(id, content)).error();
        assert_eq!(error, format!("DIR/tokenizer.json: {wanted}"));
    }
    let folder = || Folder::with_tokenizer("gpt2", &small());
    let error = folder().json("tokenizer_config.json", &config("7", "</s>")).error();
    let wanted = "added token \"</s>\" has two ids, 1 in DIR/tokenizer.json and 7 in DIR/tokenizer_config.json; llama.cpp \
                  allows one";
    assert_eq!(error, format!("DIR/tokenizer_config.json: {wanted}"));
    let error = folder().json("tokenizer_config.json", &config("4", "<new>")).error();
    let wanted = "id 4 belongs to \"ab\" and to the added token \"<new>\" of tokenizer_config.json";
    assert_eq!(error, format!("DIR/tokenizer.json: {wanted}"));
}

#[test]
fn tokenizer_config_may_name_a_piece_anew() {
    let config = json!({ "added_tokens_decoder": { "300": { "content": "<new>", "special": true } } });
    let folder = model("tiny-llama", 2048).json("tokenizer_config.json", &config);
    let out = folder.json("tokenizer.json", &added(&[(300, "<new>", true)])).load().unwrap();
    assert_eq!((tokens(&out)[300].as_str(), types(&out)[300]), ("<new>", 3));
}

#[test]
fn another_tokenizer_beside_the_model_is_said() {
    let file =
        json!({ "model": { "vocab": { "<unk>": 0, "<other>": 1, "\t": 12, "other": 300, "another": 301 } } });
    let warnings = model("tiny-llama", 2048).json("tokenizer.json", &file).loaded().unwrap().warnings;
    assert!(
        warnings.len() == 1
            && warnings[0]
                .starts_with("tokenizer.model and tokenizer.json have other texts for 2 ids, such as ")
            && warnings[0].contains("and \"other\" for 300"),
        "{warnings:?}"
    );
}

/// Reading 200,000 added tokens took minutes when each was looked for in a list.
#[test]
fn many_added_tokens_take_no_time() {
    let many = 200_000;
    let texts: Vec<String> = (0..many).map(|at| format!("<{at}>")).collect();
    let decoder: Json =
        (5..).zip(&texts).map(|(id, text)| (id.to_string(), json!({ "content": text }))).collect();
    let config = json!({ "added_tokens_decoder": decoder, "additional_special_tokens": texts });
    let start = std::time::Instant::now();
    let out = Folder::with_tokenizer("gpt2", &small()).json("tokenizer_config.json", &config).load().unwrap();
    assert_eq!(tokens(&out).len(), 5 + many);
    let folder = Folder::empty("llama").copy(&data("tiny-llama"), "tokenizer.model");
    let decoder: Json =
        (2048..).zip(&texts).map(|(id, text)| (id.to_string(), json!({ "content": text }))).collect();
    let out =
        folder.json("tokenizer_config.json", &json!({ "added_tokens_decoder": decoder })).load().unwrap();
    assert_eq!(tokens(&out).len(), 2048 + many);
    // Linear work takes a second even on very slow machines, far below the limit.
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}
