//! Pre-tokenizers, which cut a text into the words within which byte-level BPE merges.
//!
//! | file | what |
//! |---|---|
//! | `table` | the definitions that llama.cpp has, and all its names |
//! | `words` | cuts a text by a definition |
//! | `probes` | finds the definition that cuts as an unlisted one does |
//!
//! A `tokenizer.json` holds a definition, while a GGUF holds llama.cpp's name for it.

mod checked;
mod probes;
pub(super) mod table;
mod words;

use std::borrow::Cow;

use serde_json::Value;

use super::error::VocabError;
use super::files::Json;
use super::spaces::{kind, steps};
pub(super) use table::NAMES;
use table::{BY_NAME_ONLY, DEFINITIONS};
pub(super) use words::PreTokenizer;

/// A step of cutting a text into words.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// The text is cut before and after each match of the expression.
    Split(Cow<'static, str>),
    /// The text is cut around numbers, or around each digit.
    Digits {
        /// True if each digit is cut off by itself.
        individual: bool,
    },
    /// The text is cut around runs of punctuation, or around each mark.
    Punctuation {
        /// True if runs stay whole.
        runs: bool,
    },
    /// Bytes are written as letters, after a cut by GPT-2's expression if asked for.
    ByteLevel {
        /// True if the text is cut by GPT-2's expression first.
        use_regex: bool,
    },
}

/// A definition of a pre-tokenizer that llama.cpp has.
#[derive(Debug)]
pub(super) struct Definition {
    /// The name in llama.cpp; the best known one, if several behave alike.
    pub(super) name: &'static str,
    /// Other names that llama.cpp treats alike, in cutting words and in `ignore_merges`.
    pub(super) also: &'static [&'static str],
    /// The steps, expressions as Hugging Face's files spell them, with `\r` and `\n` escaped.
    pub(super) steps: &'static [Step],
    /// True if llama.cpp takes a word whole when it is a token.
    pub(super) ignore_merges: bool,
}

/// Returns the name for the definition in `file`: that of the table's definition with these steps, or else of one that
/// cuts alike. `ignore_merges` decides between names with equal steps; if only one name has them, it is taken regardless,
/// because it is still the nearest.
pub(super) fn find(file: &Json, ignore_merges: bool) -> Result<&'static str, VocabError> {
    let parsed: Option<Vec<Step>> =
        steps(file, "pre_tokenizer", "pretokenizers").into_iter().map(parse).collect();
    let mut equal: Vec<&Definition> = DEFINITIONS.iter().collect();
    equal.retain(|definition| parsed.as_deref() == Some(definition.steps));
    let exact = equal.iter().find(|definition| definition.ignore_merges == ignore_merges);
    let found = exact.or(equal.first()).map(|definition| definition.name);
    let definition = file.value.get("pre_tokenizer").unwrap_or(&Value::Null);
    match found.or_else(|| probes::find(file, ignore_merges)) {
        Some(name) => Ok(name),
        None => {
            Err(VocabError::UnknownPreTokenizer { path: file.path.clone(), definition: quote(definition) })
        }
    }
}

/// Returns the definition that llama.cpp has under `name`; not all of its names are in the table.
pub(super) fn by_name(name: &str) -> Option<&'static Definition> {
    let mut definitions = DEFINITIONS.iter().chain(BY_NAME_ONLY);
    definitions.find(|definition| definition.name == name || definition.also.contains(&name))
}

/// Fails unless llama.cpp knows `name`.
pub(super) fn check_name(name: &str) -> Result<(), VocabError> {
    if NAMES.contains(&name) { Ok(()) } else { Err(VocabError::UnknownPreName { name: name.to_owned() }) }
}

/// Parses a step; `None` for one that no definition has. Defaults are those of the `tokenizers` library.
fn parse(step: &Value) -> Option<Step> {
    let flag = |key, default| step.get(key).and_then(Value::as_bool).unwrap_or(default);
    match kind(step) {
        "Split" => {
            let regex = escape_line_ends(step.get("pattern")?.get("Regex")?.as_str()?);
            let invert = flag("invert", false);
            match step.get("behavior")?.as_str()? {
                "Isolated" => Some(Step::Split(regex.into())),
                // Keeping only the matches changes nothing if an expression leaves nothing unmatched.
                "Removed" if invert && regex.ends_with(r"|\s+") => Some(Step::Split(regex.into())),
                _ => None,
            }
        }
        "Digits" => Some(Step::Digits { individual: flag("individual_digits", false) }),
        "Punctuation" => match step.get("behavior").map_or(Some("Isolated"), Value::as_str)? {
            "Contiguous" => Some(Step::Punctuation { runs: true }),
            "Isolated" => Some(Step::Punctuation { runs: false }),
            _ => None,
        },
        "ByteLevel" if !flag("add_prefix_space", true) => {
            Some(Step::ByteLevel { use_regex: flag("use_regex", true) })
        }
        _ => None,
    }
}

/// Escapes line ends, which some files have in their expressions where others have `\r` and `\n`.
fn escape_line_ends(regex: &str) -> String {
    regex.replace('\r', r"\r").replace('\n', r"\n")
}

/// Returns a definition as JSON, cut to a readable length.
pub(super) fn quote(definition: &Value) -> String {
    const LENGTH: usize = 300;
    let text = definition.to_string();
    match text.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or(&text)),
        None => text,
    }
}
