//! Recognition of a pre-tokenizer's definition by its results.
//!
//! The same pre-tokenizer is published in many spellings: `(?i:'s)` or `'[sS]`, `\p{N}` or `Digits`, one expression or
//! several. If the table lacks the spelling, Hugging Face's library cuts the probes by it, and the definition that cuts
//! all of them alike is taken. llama.cpp's converter decides the same way, by one text.

use serde_json::Value;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _, PreTokenizerWrapper};

use super::super::files::Json;
use super::super::spaces::{kind, steps};
use super::table::DEFINITIONS;
use super::{Definition, PreTokenizer, checked};

/// A JSON list of texts that the definitions of the table cut differently.
const PROBES: &str = include_str!("probes.json");

/// Returns the name of the table's definition that cuts every probe as the one in `file` does.
pub(super) fn find(file: &Json, ignore_merges: bool) -> Option<&'static str> {
    let library = library(file)?;
    let probes = probes();
    let wanted: Option<Vec<Vec<&[u8]>>> = probes.iter().map(|probe| cut(&library, probe)).collect();
    let wanted = wanted?;
    let alike = |definition: &&Definition| {
        let Ok(pre) = PreTokenizer::new(definition) else { return false };
        probes.iter().zip(&wanted).all(|(probe, wanted)| pre.words(probe).is_ok_and(|words| words == *wanted))
    };
    let alike: Vec<&Definition> = DEFINITIONS.iter().filter(alike).collect();
    let exact = alike.iter().find(|definition| definition.ignore_merges == ignore_merges);
    exact.or(alike.first()).map(|definition| definition.name)
}

/// Returns the probes. The file is a part of the program, and a test reads it.
pub(super) fn probes() -> Vec<String> {
    serde_json::from_str(PROBES).unwrap_or_default()
}

/// Returns the pre-tokenizer of `file` if it is byte-level and puts no space before the text, which llama.cpp never does.
fn library(file: &Json) -> Option<PreTokenizerWrapper> {
    let steps = steps(file, "pre_tokenizer", "pretokenizers");
    let mut byte_level = steps.iter().filter(|step| kind(step) == "ByteLevel").peekable();
    byte_level.peek()?;
    if byte_level.any(|step| step.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(true)) {
        return None;
    }
    if !checked::runs(file) {
        return None;
    }
    serde_json::from_value(file.value.get("pre_tokenizer")?.clone()).ok()
}

/// Returns the words of `text`; `None` if some of it is lost, or the library fails.
fn cut<'a>(library: &PreTokenizerWrapper, text: &'a str) -> Option<Vec<&'a [u8]>> {
    let mut pieces = PreTokenizedString::from(text);
    library.pre_tokenize(&mut pieces).ok()?;
    let splits = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
    let mut words = Vec::with_capacity(splits.len());
    let mut end = 0;
    for (_, (from, to), _) in splits {
        if from != end {
            return None;
        }
        words.push(text.as_bytes().get(from..to)?);
        end = to;
    }
    (end == text.len()).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::super::table::DEFINITIONS;
    use super::{PreTokenizer, probes};

    #[test]
    fn the_probes_tell_all_definitions_apart() {
        let probes = probes();
        assert!(probes.len() > 40);
        let cut = |definition| {
            let pre = PreTokenizer::new(definition).unwrap();
            probes.iter().flat_map(|probe| pre.words(probe).unwrap()).collect::<Vec<_>>()
        };
        let cuts: Vec<_> = DEFINITIONS.iter().map(cut).collect();
        let mut alike = Vec::new();
        for (at, (one, cut)) in DEFINITIONS.iter().zip(&cuts).enumerate() {
            let others = DEFINITIONS.iter().zip(&cuts).skip(at + 1).filter(|(_, other)| *other == cut);
            alike.extend(others.map(|(other, _)| (one.name, other.name)));
        }
        // These pairs differ in `ignore_merges`, and in the spelling of the same expressions.
        assert_eq!(alike, [("llama-bpe", "dbrx"), ("qwen2", "bailingmoe")]);
    }
}
