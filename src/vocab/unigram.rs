//! SentencePiece Unigram vocabularies, for which `tokenizer.ggml.model` is `t5`, llama.cpp's name for the tokenizer that
//! finds the likeliest sequence of tokens.
//!
//! The converter writes this kind for T5 and for embedding models only; it declares a Llama with such a vocabulary as
//! `llama`, for which llama.cpp joins neighbours greedily and finds other tokens than the model knows.

use std::collections::HashMap;
use std::path::Path;

use kquant_formats::gguf::{Array, Metadata, Value as Kv};
use kquant_formats::sentencepiece::SentencePiece;
use serde_json::Value;

use super::added;
use super::charsmap::Charsmap;
use super::error::VocabError;
use super::files::{Files, Json};
use super::spaces::{is_space, kind, pattern, prepends, steps};
use super::special::{ADD_BOS, ADD_EOS, UNKNOWN};
use super::spm::{ADD_SPACE_PREFIX, ADDED_SCORE, model_tokens, unused};
use super::tokens::{Kind, Token, Tokens, byte_of, token_id};

/// Key of the flag that is true if runs of spaces, and spaces at both ends, are dropped.
pub(super) const REMOVE_EXTRA_WHITESPACES: &str = "tokenizer.ggml.remove_extra_whitespaces";
/// Key of the compiled replacements of characters.
pub(super) const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";

/// The normalization of a text before it is cut.
#[derive(Debug, Default)]
struct Normalizer {
    /// True if a space is put before the text.
    prefix: bool,
    /// True if runs of spaces count as one, and those at both ends as none.
    collapse: bool,
    /// Compiled replacements of characters, in bytes.
    charsmap: Vec<u8>,
}

/// Returns true if `tokenizer.json` holds a Unigram vocabulary.
pub(super) fn is_unigram(file: &Json) -> bool {
    file.value.get("model").is_some_and(|model| kind(model) == "Unigram")
}

/// Sets the keys from a parsed `tokenizer.model`.
pub(super) fn load_model(
    path: &Path,
    model: &SentencePiece,
    files: &Files,
    rows: Option<u64>,
    out: &mut Metadata,
) -> Result<(), VocabError> {
    let tokens = model_tokens(path, model, files, rows)?;
    let normalizer = Normalizer {
        prefix: model.add_dummy_prefix,
        collapse: model.remove_extra_whitespaces,
        charsmap: model.precompiled_charsmap.clone(),
    };
    write(tokens, normalizer, model.unknown_id, path, out)
}

/// Sets the keys from `tokenizer.json` alone.
pub(super) fn load_json(
    file: &Json,
    files: &Files,
    rows: Option<u64>,
    out: &mut Metadata,
) -> Result<(), VocabError> {
    let model = file.value.get("model").unwrap_or(&Value::Null);
    let pieces = read_pieces(file, model)?;
    let ids: HashMap<String, u64> = pieces.iter().map(|(text, _)| text.clone()).zip(0..).collect();
    let added = added::collect(file, &ids, files)?;
    let mut tokens = unused(pieces.len() as u64, &added, rows, &file.path)?;
    let unknown = read_unknown(file, model, pieces.len())?;
    let bytes = model.get("byte_fallback").and_then(Value::as_bool).unwrap_or(false);
    for (id, (text, score)) in (0..).zip(&pieces) {
        let kind = match text {
            _ if unknown == Some(id) => Kind::Unknown,
            text if bytes && byte_of(text).is_some() => Kind::Byte,
            _ => Kind::Normal,
        };
        tokens.put(id, Token { text: text.clone(), score: *score, kind });
    }
    for token in added {
        tokens.check_free(&token, &ids, &file.path)?;
        if unknown == Some(token.id) {
            continue;
        }
        let known = usize::try_from(token.id).ok().and_then(|id| pieces.get(id));
        let (kind, score) = (token.kind(), known.map_or(ADDED_SCORE, |(_, score)| *score));
        tokens.put(token.id, Token { text: kind.respell(token.content), score, kind });
    }
    let unknown = unknown.and_then(|id| u32::try_from(id).ok());
    write(tokens, read_normalizer(file)?, unknown, &file.path, out)
}

/// Returns texts and scores in `model.vocab`.
fn read_pieces(file: &Json, model: &Value) -> Result<Vec<(String, f32)>, VocabError> {
    let Some(entries) = model.get("vocab").and_then(Value::as_array) else {
        return Err(VocabError::content(&file.path, "model.vocab is no list of texts and scores"));
    };
    let piece = |(id, entry): (usize, &Value)| {
        let text = entry.get(0).and_then(Value::as_str);
        let score = entry.get(1).and_then(Value::as_f64).map(|score| score as f32);
        match (text, score.filter(|score| score.is_finite())) {
            (Some(text), Some(score)) => Ok((text.to_owned(), score)),
            _ => {
                let what = format!("model.vocab[{id}] is no text with a score: {entry}");
                Err(VocabError::content(&file.path, what))
            }
        }
    };
    entries.iter().enumerate().map(piece).collect()
}

/// Returns `model.unk_id`, if it is there; it must be one of `count` tokens.
fn read_unknown(file: &Json, model: &Value, count: usize) -> Result<Option<u64>, VocabError> {
    let Some(id) = model.get("unk_id").filter(|id| !id.is_null()) else { return Ok(None) };
    let fault = |what: String| VocabError::content(&file.path, format!("model.unk_id: {what}"));
    match token_id(id).map_err(fault)? {
        id if id < count as u64 => Ok(Some(id)),
        id => Err(fault(format!("there is no token {id}; model.vocab has {count}"))),
    }
}

/// Returns what normalizer and pre-tokenizer do, if llama.cpp can do it.
fn read_normalizer(file: &Json) -> Result<Normalizer, VocabError> {
    let (mut out, mut strips) = (Normalizer::default(), None);
    for step in steps(file, "normalizer", "normalizers") {
        match kind(step) {
            "Precompiled" => out.charsmap = read_charsmap(file, step)?,
            "Prepend" if is_space(step.get("prepend")) => out.prefix = true,
            "Replace" if pattern(step) == Some(" ") && is_space(step.get("content")) => {}
            "Replace" if is_runs_of_spaces(step) => out.collapse = true,
            "Strip" => strips = Some(step),
            _ => return Err(unsupported(file, "normalizer", step)),
        }
    }
    for step in steps(file, "pre_tokenizer", "pretokenizers") {
        match kind(step) {
            "Metaspace" if is_space(step.get("replacement")) => out.prefix |= prepends(step),
            "WhitespaceSplit" => out.collapse = true,
            "Split" if pattern(step) == Some(" ") => {}
            _ => return Err(unsupported(file, "pre_tokenizer", step)),
        }
    }
    // Spaces at the ends are dropped wherever runs of them are.
    match strips.filter(|_| !out.collapse) {
        Some(step) => Err(unsupported(file, "normalizer", step)),
        None => Ok(out),
    }
}

fn is_runs_of_spaces(step: &Value) -> bool {
    let regex = step.get("pattern").and_then(|pattern| pattern.get("Regex")).and_then(Value::as_str);
    let content = step.get("content");
    regex == Some(" {2,}") && (is_space(content) || content.and_then(Value::as_str) == Some(" "))
}

fn read_charsmap(file: &Json, step: &Value) -> Result<Vec<u8>, VocabError> {
    let text = step.get("precompiled_charsmap").map_or(Some(""), Value::as_str);
    text.and_then(from_base64).ok_or_else(|| {
        VocabError::content(&file.path, "normalizer: precompiled_charsmap is no text in base64")
    })
}

/// Decodes base64, with or without padding.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    for group in text.trim_end_matches('=').as_bytes().chunks(4) {
        let mut bits = 0u32;
        for letter in group {
            let value = match letter {
                b'A'..=b'Z' => letter - b'A',
                b'a'..=b'z' => letter - b'a' + 26,
                b'0'..=b'9' => letter - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        let missing = 4 - group.len();
        if missing == 3 {
            return None;
        }
        let [_, bytes @ ..] = (bits << (6 * missing)).to_be_bytes();
        out.extend(bytes.iter().take(3 - missing));
    }
    Some(out)
}

/// Sets the keys, in the order of the converter for T5.
fn write(
    tokens: Tokens,
    normalizer: Normalizer,
    unknown: Option<u32>,
    path: &Path,
    out: &mut Metadata,
) -> Result<(), VocabError> {
    tokens.check_unique(path)?;
    let Some(unknown) = unknown else {
        return Err(VocabError::unsupported(
            path,
            "a Unigram vocabulary without an unknown token",
            "llama.cpp puts that token wherever no other fits; name one of the vocabulary as unk_id",
        ));
    };
    if !normalizer.charsmap.is_empty() {
        Charsmap::parse(&normalizer.charsmap)
            .map_err(|what| VocabError::content(path, format!("precompiled_charsmap {what}")))?;
    }
    out.set("tokenizer.ggml.model", Kv::from("t5"));
    out.set("tokenizer.ggml.pre", Kv::from("default"));
    tokens.write(true, out);
    out.set(ADD_SPACE_PREFIX, Kv::Bool(normalizer.prefix));
    out.set(REMOVE_EXTRA_WHITESPACES, Kv::Bool(normalizer.collapse));
    if !normalizer.charsmap.is_empty() {
        out.set(CHARSMAP, Kv::Array(Array::U8(normalizer.charsmap)));
    }
    // Without the key, llama.cpp takes token 2.
    out.set(UNKNOWN, Kv::U32(unknown));
    Ok(())
}

/// Sets the flags of tokens added before and after a text if the files lack them: nothing is added, or what the class of
/// the tokenizer adds by itself. By default llama.cpp would end each text.
pub(super) fn write_added(files: &Files, out: &mut Metadata) {
    let class = files.config("tokenizer_class").and_then(Value::as_str).unwrap_or_default();
    let bare = files.tokenizer.is_none();
    for (key, default) in
        [(ADD_BOS, bare && class.contains("Llama")), (ADD_EOS, bare && class.contains("T5"))]
    {
        if out.get(key).is_none() {
            out.set(key, Kv::Bool(default));
        }
    }
}

fn unsupported(file: &Json, what: &str, step: &Value) -> VocabError {
    VocabError::unsupported(
        &file.path,
        format!("{what} {step} of a Unigram vocabulary"),
        "llama.cpp's Unigram tokenizer replaces characters by a precompiled_charsmap and treats spaces; \
         put the model's tokenizer.model into the folder",
    )
}

#[cfg(test)]
mod tests {
    use super::from_base64;

    #[test]
    fn base64() {
        for (text, bytes) in
            [("", &b""[..]), ("TQ==", b"M"), ("TWE=", b"Ma"), ("TWFu", b"Man"), ("+/8", &[0xfb, 0xff])]
        {
            assert_eq!(from_base64(text).as_deref(), Some(bytes));
        }
        assert_eq!(from_base64("TQ-="), None);
        assert_eq!(from_base64("T"), None);
    }
}
