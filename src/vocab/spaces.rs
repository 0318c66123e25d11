//! The treatment of spaces by a `tokenizer.json` with SentencePiece's `▁`.

use serde_json::Value;

use super::error::VocabError;
use super::files::Json;
use super::model::Bpe;

/// The visible space of SentencePiece.
const SPACE: char = '▁';

/// Returns true if a space is put before the text.
///
/// # Errors
/// Fails when normalizer or pre-tokenizer do more than llama.cpp's SPM tokenizer, which replaces spaces by `▁` and may
/// put one first.
pub(super) fn prefixes_space(file: &Json, bpe: &Bpe) -> Result<bool, VocabError> {
    let mut prefix = false;
    for step in steps(file, "normalizer", "normalizers") {
        match kind(step) {
            "Prepend" if is_space(step.get("prepend")) => prefix = true,
            "Replace" if pattern(step) == Some(" ") && is_space(step.get("content")) => {}
            _ => return Err(unsupported(file, "normalizer", step)),
        }
    }
    // The search is done once, as files may have many steps.
    let spaced = bpe.vocab.keys().any(|text| text.chars().skip(1).any(|letter| letter == SPACE));
    for step in steps(file, "pre_tokenizer", "pretokenizers") {
        match kind(step) {
            "Metaspace" if is_space(step.get("replacement")) && !(spaced && splits(step)) => {
                prefix |= prepends(step);
            }
            // Gemma's step does nothing, because no space is left to split at.
            "Split" if pattern(step) == Some(" ") => {}
            _ => return Err(unsupported(file, "pre_tokenizer", step)),
        }
    }
    Ok(prefix)
}

/// Returns the steps under `key`: none, one, or a sequence listed under `list`.
pub(super) fn steps<'a>(file: &'a Json, key: &str, list: &str) -> Vec<&'a Value> {
    fn flatten<'a>(step: &'a Value, list: &str, out: &mut Vec<&'a Value>) {
        match step.get(list).and_then(Value::as_array) {
            Some(inner) => inner.iter().for_each(|step| flatten(step, list, out)),
            None => out.push(step),
        }
    }
    let mut out = Vec::new();
    if let Some(step) = file.value.get(key).filter(|step| !step.is_null()) {
        flatten(step, list, &mut out);
    }
    out
}

/// Returns the `type` of a step.
pub(super) fn kind(step: &Value) -> &str {
    step.get("type").and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn pattern(step: &Value) -> Option<&str> {
    step.get("pattern")?.get("String")?.as_str()
}

pub(super) fn is_space(text: Option<&Value>) -> bool {
    text.and_then(Value::as_str).is_some_and(|text| text.chars().eq([SPACE]))
}

/// Returns true if it cuts at each `▁`, which keeps apart what SPM could join only if a token has a `▁` after its first
/// character.
fn splits(metaspace: &Value) -> bool {
    metaspace.get("split").and_then(Value::as_bool).unwrap_or(true)
}

pub(super) fn prepends(metaspace: &Value) -> bool {
    match metaspace.get("prepend_scheme").and_then(Value::as_str) {
        Some(scheme) => scheme != "never",
        None => metaspace.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(true),
    }
}

fn unsupported(file: &Json, what: &str, step: &Value) -> VocabError {
    VocabError::unsupported(
        &file.path,
        format!("{what} {step} with byte fallback"),
        "llama.cpp's SPM tokenizer only turns spaces into ▁; put the model's tokenizer.model into the folder",
    )
}
