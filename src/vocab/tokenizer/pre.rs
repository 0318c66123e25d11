//! Cutting a text into the words within which byte-level BPE merges.
//!
//! The expressions are those of the models' own files, in the one table that names them. Steps cut text, before
//! bytes become letters: a step after that, as falcon has, sees the text too, as in llama.cpp.

use fancy_regex::Regex;

use super::super::pre_tokenizer::{Definition, Step};
use super::super::pre_tokenizer_table::GPT2_WORDS;
use super::error::TokenizerError;

/// The expressions of one definition.
#[derive(Debug)]
pub(super) struct PreTokenizer(Vec<Regex>);

impl PreTokenizer {
    /// Compiles the steps.
    pub(super) fn new(definition: &Definition) -> Result<Self, TokenizerError> {
        let compile =
            |expression: &str| Regex::new(expression).map_err(|error| failed(expression, &error, 0));
        definition.steps.iter().filter_map(expression).map(compile).collect::<Result<_, _>>().map(Self)
    }

    /// The words of `text`, in order; together they are the text.
    pub(super) fn words<'a>(&self, text: &'a str) -> Result<Vec<&'a str>, TokenizerError> {
        let mut words = Vec::from_iter((!text.is_empty()).then_some(text));
        for regex in &self.0 {
            let mut finer = Vec::with_capacity(words.len());
            let mut offset = 0;
            for word in words {
                cut(regex, word, &mut finer).map_err(|error| failed(regex.as_str(), &error, offset))?;
                offset += word.len();
            }
            words = finer;
        }
        Ok(words)
    }
}

/// What a step cuts by.
fn expression(step: &Step) -> Option<&str> {
    match step {
        Step::Split(expression) => Some(expression),
        Step::Digits { individual: true } => Some(r"\p{N}"),
        Step::Digits { individual: false } => Some(r"\p{N}+"),
        Step::Punctuation => Some(r"[\p{P}$+<=>^`|~]+"),
        Step::ByteLevel { use_regex: true } => Some(GPT2_WORDS),
        Step::ByteLevel { use_regex: false } => None,
    }
}

/// Cuts before and after each match.
fn cut<'a>(regex: &Regex, text: &'a str, out: &mut Vec<&'a str>) -> Result<(), fancy_regex::Error> {
    let mut end = 0;
    for found in regex.find_iter(text) {
        let found = found?;
        let parts = [text.get(end..found.start()), Some(found.as_str())];
        out.extend(parts.into_iter().flatten().filter(|part| !part.is_empty()));
        end = found.end();
    }
    out.extend(text.get(end..).filter(|part| !part.is_empty()));
    Ok(())
}

fn failed(expression: &str, error: &fancy_regex::Error, offset: usize) -> TokenizerError {
    TokenizerError::Expression { expression: expression.to_owned(), what: error.to_string(), offset }
}
