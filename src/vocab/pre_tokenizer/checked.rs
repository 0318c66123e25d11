//! Checks of a pre-tokenizer before Hugging Face's `tokenizers` library runs it.
//!
//! The library trusts its files: some values make it panic. So only known steps with checked values reach it.

use serde_json::Value;

use super::super::files::Json;
use super::super::spaces::{kind, pattern};

/// Largest number of steps of a pre-tokenizer; published ones have up to five.
const MOST_STEPS: usize = 64;

/// Returns true if the library can run the pre-tokenizer of `file`.
pub(super) fn runs(file: &Json) -> bool {
    let definition = file.value.get("pre_tokenizer").filter(|definition| !definition.is_null());
    definition.is_none_or(|definition| known_steps(definition).is_some_and(|steps| steps <= MOST_STEPS))
}

/// Returns the number of steps of a definition, which is one step or a sequence of such; `None` if one is not known.
fn known_steps(definition: &Value) -> Option<usize> {
    match (kind(definition), definition.get("pretokenizers")) {
        ("Sequence", Some(Value::Array(inner))) => inner.iter().map(known_steps).sum(),
        ("Sequence", _) | (_, Some(_)) => None,
        _ => cuts(definition).then_some(1),
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sequence(steps: &[Value]) -> bool {
        let value = json!({ "pre_tokenizer": { "type": "Sequence", "pretokenizers": steps } });
        runs(&Json { path: "tokenizer.json".into(), value })
    }

    #[test]
    fn what_published_files_have_is_run() {
        let split = json!({ "type": "Split", "pattern": { "Regex": r"\s+" }, "behavior": "Isolated" });
        let fixed = json!({ "type": "FixedLength", "length": 5 });
        assert!(sequence(&[split, json!({ "type": "Digits" }), fixed, json!({ "type": "ByteLevel" })]));
        assert!(runs(&Json { path: "tokenizer.json".into(), value: json!({ "pre_tokenizer": null }) }));
    }

    #[test]
    fn what_the_library_fails_at_is_not() {
        for step in [
            json!({ "type": "FixedLength", "length": 0 }),
            json!({ "type": "FixedLength" }),
            json!({ "type": "Split", "pattern": { "String": "" }, "behavior": "Isolated" }),
            json!({ "type": "Split", "pattern": { "Regex": "" }, "behavior": "Isolated" }),
            json!({ "type": "FixedLength", "pretokenizers": [] }),
            json!({ "type": "Nonsense" }),
            json!(5),
        ] {
            assert!(!sequence(std::slice::from_ref(&step)), "{step}");
        }
        assert!(!sequence(&vec![json!({ "type": "Digits" }); 65]));
    }
}
