//! WordPiece vocabularies of BERT, for which `tokenizer.ggml.model` is `bert`.
//!
//! Hugging Face marks what continues a word (`##ing`), GGUF what begins one (`▁the`).

use kquant_formats::gguf::{Metadata, Value as Kv};
use serde_json::Value;

use super::added;
use super::error::VocabError;
use super::files::{Files, Json};
use super::model::read_vocab;
use super::spaces::{kind, steps};
use super::special::UNKNOWN;
use super::spm::row_count;
use super::tokens::{Kind, Token, Tokens};

/// Key of the number of types of tokens, which readers of the file need for the shape of their embedding.
pub(super) const TOKEN_TYPE_COUNT: &str = "tokenizer.ggml.token_type_count";

/// Key of the flag that is true if texts are lowercased.
pub(super) const LOWERCASE: &str = "tokenizer.ggml.normalizer.lowercase";
/// Key of the flag that is true if accents are taken away.
pub(super) const STRIP_ACCENTS: &str = "tokenizer.ggml.normalizer.strip_accents";

/// What a token that continues a word begins with in Hugging Face's files.
const CONTINUES: &str = "##";

/// The converter's name of the pre-tokenizer of English BERTs. llama.cpp has one for all vocabularies of this kind, and reads no name.
const PRE: &str = "jina-v2-en";

/// Returns true if `tokenizer.json` holds a WordPiece vocabulary.
pub(super) fn is_wordpiece(file: &Json) -> bool {
    file.value.get("model").is_some_and(|model| kind(model) == "WordPiece")
}

/// Returns the number of types of tokens that a configuration gives, as the converter reads it.
pub(super) fn token_types(config: &Value) -> u32 {
    let count = config.get("type_vocab_size").and_then(Value::as_u64);
    count.and_then(|count| u32::try_from(count).ok()).unwrap_or(1)
}

/// Sets the keys from `tokenizer.json`.
pub(super) fn load(
    file: &Json,
    files: &Files,
    config: &Value,
    rows: Option<u64>,
    out: &mut Metadata,
) -> Result<(), VocabError> {
    let model = file.value.get("model").unwrap_or(&Value::Null);
    check(file, model)?;
    let vocab = read_vocab(file, model)?;
    let added = added::collect(file, &vocab, files)?;
    let end = vocab.values().max().map_or(0, |id| id + 1);
    let mut tokens = Tokens::unused(row_count(end, &added, rows, &file.path)?, 0.0, &file.path)?;
    for (text, &id) in &vocab {
        let text = match text.strip_prefix(CONTINUES) {
            Some(rest) => rest.to_owned(),
            None => format!("\u{2581}{text}"),
        };
        tokens.put(id, Token { text, score: 0.0, kind: Kind::Normal });
    }
    for token in added {
        let kind = token.kind();
        tokens.put(token.id, Token { text: token.content, score: 0.0, kind });
    }
    tokens.check_unique(&file.path)?;
    out.set(TOKEN_TYPE_COUNT, Kv::U32(token_types(config)));
    out.set("tokenizer.ggml.model", Kv::from("bert"));
    out.set("tokenizer.ggml.pre", Kv::from(PRE));
    tokens.write(false, out);
    Ok(())
}

/// Sets the unknown token that the vocabulary names, if no other file has given it; `texts` are those of all tokens, by id.
pub(super) fn write_unknown(files: &Files, texts: &[String], out: &mut Metadata) {
    let model = files.tokenizer.as_ref().and_then(|file| file.value.get("model"));
    let name = model.and_then(|model| model.get("unk_token")).and_then(Value::as_str);
    let id = name.and_then(|name| texts.iter().position(|text| text == name));
    if let (None, Some(id)) = (out.get(UNKNOWN), id.and_then(|id| u32::try_from(id).ok())) {
        out.set(UNKNOWN, Kv::U32(id));
    }
}

/// Returns the flags of BERT's normalizer, if `step` is one: of lowercase letters, and of accents that are taken away.
pub(super) fn flags(step: &Value) -> Option<[bool; 2]> {
    if kind(step) != "BertNormalizer" {
        return None;
    }
    let flag = |key| step.get(key).and_then(Value::as_bool);
    let lowercase = flag("lowercase").unwrap_or(true);
    Some([lowercase, flag("strip_accents").unwrap_or(lowercase)])
}

/// Fails unless llama.cpp cuts a text into words as the file says: it cleans the text and sets Chinese characters and punctuation apart.
fn check(file: &Json, model: &Value) -> Result<(), VocabError> {
    let prefix = model.get("continuing_subword_prefix").and_then(Value::as_str).unwrap_or(CONTINUES);
    if prefix != CONTINUES {
        return Err(unsupported(file, format!("the prefix {prefix:?} of tokens that continue a word")));
    }
    let flag = |step: &Value, key| step.get(key).and_then(Value::as_bool).unwrap_or(true);
    let normalizers = steps(file, "normalizer", "normalizers");
    let usual = |step: &&Value| {
        kind(step) == "BertNormalizer" && flag(step, "clean_text") && flag(step, "handle_chinese_chars")
    };
    match normalizers.iter().find(|step| !usual(step)) {
        Some(step) => return Err(unsupported(file, format!("normalizer {step}"))),
        None if normalizers.is_empty() => return Err(unsupported(file, "no normalizer".to_owned())),
        None => {}
    }
    match *steps(file, "pre_tokenizer", "pretokenizers") {
        [step] if kind(step) == "BertPreTokenizer" => Ok(()),
        _ => {
            let found = file.value.get("pre_tokenizer").unwrap_or(&Value::Null);
            Err(unsupported(file, format!("pre_tokenizer {found}")))
        }
    }
}

fn unsupported(file: &Json, what: String) -> VocabError {
    VocabError::unsupported(
        &file.path,
        format!("{what} of a WordPiece vocabulary"),
        "llama.cpp cuts texts as BertNormalizer and BertPreTokenizer do, with tokens that continue a word marked by ##",
    )
}
