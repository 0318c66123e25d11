//! Checks of a `tokenizer.json` before Hugging Face's `tokenizers` library reads it.
//!
//! The library trusts its files: some values of normalizers and pre-tokenizers make it panic, or take all memory. So only
//! known steps with checked values reach it.

use serde_json::Value;

use super::error::VocabError;
use super::files::Json;
use super::pre_tokenizer::quote;
use super::spaces::{kind, pattern};

/// Largest number of steps of a normalizer or a pre-tokenizer; published ones have up to five.
const MOST_STEPS: usize = 64;

/// Largest factor by which normalizers may lengthen a text.
const MOST_GROWTH: usize = 64;

/// Expressions of `Replace` that are accepted: they match no empty text, at which the library fails.
const REPLACED: [&str; 6] = [" {2,}", r"\s+", r"\s{2,}", r"\n+", r"\r\n", r"\r\n?"];

/// Fails unless the library can run the normalizer and the pre-tokenizer of `file`.
pub(super) fn check(file: &Json) -> Result<(), VocabError> {
    let mut longer = 1usize;
    for step in steps(file, "normalizer", "normalizers")? {
        let Some(times) = growth(step) else { return Err(unknown(file, "normalizer", step)) };
        longer = longer.saturating_mul(times);
        if longer > MOST_GROWTH {
            let what =
                format!("normalizer makes texts more than {MOST_GROWTH} times longer, at {}", quote(step));
            return Err(VocabError::content(&file.path, what));
        }
    }
    check_pre_tokenizer(file)
}

/// Fails unless the library can run the pre-tokenizer of `file`.
pub(super) fn check_pre_tokenizer(file: &Json) -> Result<(), VocabError> {
    match steps(file, "pre_tokenizer", "pretokenizers")?.into_iter().find(|step| !cuts(step)) {
        Some(step) => Err(unknown(file, "pre_tokenizer", step)),
        None => Ok(()),
    }
}

/// Returns all steps under `key`: none, one, or those of sequences, which list theirs under `list`.
fn steps<'a>(file: &'a Json, key: &str, list: &str) -> Result<Vec<&'a Value>, VocabError> {
    fn flatten<'a>(step: &'a Value, list: &str, out: &mut Vec<&'a Value>) -> Result<(), &'a Value> {
        match (kind(step), step.get(list)) {
            ("Sequence", Some(Value::Array(inner))) => {
                inner.iter().try_for_each(|step| flatten(step, list, out))
            }
            ("Sequence", _) | (_, Some(_)) => Err(step),
            _ => {
                out.push(step);
                if out.len() > MOST_STEPS { Err(step) } else { Ok(()) }
            }
        }
    }
    let mut out = Vec::new();
    if let Some(step) = file.value.get(key).filter(|step| !step.is_null()) {
        flatten(step, list, &mut out).map_err(|step| unknown(file, key, step))?;
    }
    Ok(out)
}

/// Returns the factor by which a normalizer may lengthen a text; `None` for an unknown one.
fn growth(step: &Value) -> Option<usize> {
    let text = |key| step.get(key).and_then(Value::as_str);
    match kind(step) {
        "NFC" | "NFD" | "NFKC" | "NFKD" | "Lowercase" | "StripAccents" | "Strip" | "Nmt"
        | "BertNormalizer" | "ByteLevel" => Some(1),
        "Prepend" => text("prepend").filter(|text| text.len() <= MOST_GROWTH).map(|_| 1),
        "Replace" => {
            let shortest = match (pattern(step), regex(step)) {
                (Some(pattern), None) => pattern.len(),
                (None, Some(regex)) if REPLACED.contains(&regex) => 1,
                _ => 0,
            };
            (shortest > 0).then_some(text("content")?.len().div_ceil(shortest.max(1)).max(1))
        }
        _ => None,
    }
}

/// Returns true if a pre-tokenizer is known to cut every text.
fn cuts(step: &Value) -> bool {
    match kind(step) {
        "ByteLevel" | "Digits" | "Punctuation" | "Whitespace" | "WhitespaceSplit" | "BertPreTokenizer"
        | "Metaspace" | "CharDelimiterSplit" | "UnicodeScripts" => true,
        "Split" => pattern(step).or_else(|| regex(step)).is_some_and(|pattern| !pattern.is_empty()),
        "FixedLength" => step.get("length").and_then(Value::as_u64).is_some_and(|length| length > 0),
        _ => false,
    }
}

fn regex(step: &Value) -> Option<&str> {
    step.get("pattern")?.get("Regex")?.as_str()
}

fn unknown(file: &Json, key: &str, step: &Value) -> VocabError {
    VocabError::unsupported(
        &file.path,
        format!("{key} {} in tokenizing", quote(step)),
        "Unicode normal forms, letter cases, accents, spaces and replacements of texts are, and cutting by expressions, \
         spaces, digits and punctuation",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Json, check};

    fn said(normalizer: &Value, pre_tokenizer: &Value) -> Option<String> {
        let value = json!({ "normalizer": normalizer, "pre_tokenizer": pre_tokenizer });
        check(&Json { path: "tokenizer.json".into(), value }).err().map(|error| error.to_string())
    }

    fn sequence(list: &str, steps: &[Value]) -> Value {
        json!({ "type": "Sequence", list: steps })
    }

    #[test]
    fn what_published_files_have_is_taken() {
        let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
        let runs = json!({ "type": "Replace", "pattern": { "Regex": " {2,}" }, "content": " " });
        let steps = [json!({ "type": "NFC" }), json!({ "type": "Prepend", "prepend": "▁" }), replace, runs];
        let split = json!({ "type": "Split", "pattern": { "Regex": r"\s+" }, "behavior": "Isolated" });
        let fixed = json!({ "type": "FixedLength", "length": 5 });
        let cuts = [split, json!({ "type": "Digits" }), fixed, json!({ "type": "ByteLevel" })];
        assert_eq!(said(&sequence("normalizers", &steps), &sequence("pretokenizers", &cuts)), None);
        assert_eq!(said(&Value::Null, &Value::Null), None);
    }

    #[test]
    fn normalizers_that_the_library_fails_at_are_refused() {
        let longer = json!({ "type": "Replace", "pattern": { "String": "a" }, "content": "aaaaaaaaaa" });
        for normalizer in [
            json!({ "type": "Precompiled", "precompiled_charsmap": "/////wAAAAAAAAAA" }),
            json!({ "type": "Replace", "pattern": { "String": "" }, "content": "x" }),
            json!({ "type": "Replace", "pattern": { "Regex": "a*" }, "content": "x" }),
            json!({ "type": "Replace", "pattern": {}, "content": "x" }),
            json!({ "type": "Sequence", "normalizers": { "type": "NFC" } }),
            json!({ "type": "Precompiled", "normalizers": [] }),
            json!({ "type": "Prepend", "prepend": "a".repeat(65) }),
            json!("NFC"),
            sequence("normalizers", &vec![json!({ "type": "NFC" }); 65]),
        ] {
            let said = said(&normalizer, &Value::Null).expect("must be refused");
            assert!(said.starts_with("tokenizer.json: normalizer "), "{said}");
        }
        let said = said(&sequence("normalizers", &vec![longer; 12]), &Value::Null).expect("must be refused");
        assert!(
            said.starts_with("tokenizer.json: normalizer makes texts more than 64 times longer"),
            "{said}"
        );
    }

    #[test]
    fn pre_tokenizers_that_the_library_fails_at_are_refused() {
        for pre_tokenizer in [
            json!({ "type": "FixedLength", "length": 0 }),
            json!({ "type": "FixedLength" }),
            json!({ "type": "Split", "pattern": { "String": "" }, "behavior": "Isolated" }),
            json!({ "type": "Split", "pattern": { "Regex": "" }, "behavior": "Isolated" }),
            json!({ "type": "FixedLength", "pretokenizers": [] }),
            json!({ "type": "Nonsense" }),
            json!(5),
        ] {
            let said =
                said(&Value::Null, &sequence("pretokenizers", &[pre_tokenizer])).expect("must be refused");
            assert!(said.starts_with("tokenizer.json: pre_tokenizer "), "{said}");
        }
    }
}
