//! Cutting a text into the words within which byte-level BPE merges.
//!
//! The expressions are those of the models' own files, in the one table that names them. All steps cut text, also
//! those after which Hugging Face cuts letters that stand for bytes.

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
        let mut regexes = Vec::with_capacity(definition.steps.len());
        let mut letters = false;
        for step in definition.steps {
            if let Some(expression) = expression(step, letters) {
                regexes.push(Regex::new(expression).map_err(|error| failed(expression, &error, 0))?);
            }
            letters |= matches!(step, Step::ByteLevel { .. });
        }
        Ok(Self(regexes))
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

/// What a step cuts by. `letters`: whether a step before it writes bytes as letters, of which the ASCII digits alone
/// are numbers.
fn expression(step: &Step, letters: bool) -> Option<&str> {
    match step {
        Step::Split(expression) => Some(expression),
        Step::Digits { individual: true } => Some(if letters { "[0-9]" } else { r"\p{N}" }),
        Step::Digits { individual: false } => Some(if letters { "[0-9]+" } else { r"\p{N}+" }),
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

#[cfg(test)]
mod tests {
    use super::super::super::pre_tokenizer::by_name;
    use super::super::super::pre_tokenizer_table::{DEFINITIONS, NAMES};
    use super::PreTokenizer;

    fn words(name: &str, text: &'static str) -> Vec<&'static str> {
        PreTokenizer::new(by_name(name).unwrap()).unwrap().words(text).unwrap()
    }

    #[test]
    fn every_definition_cuts_a_text_into_its_parts() {
        let text = "It's  12345 o'CLOCK\r\n\n\tdéjà-vu 漢字かな ½ x²!? 🏳️‍🌈 ";
        for definition in DEFINITIONS {
            let words = words(definition.name, text);
            assert!(words.len() > 8 && words.iter().all(|word| !word.is_empty()), "{}", definition.name);
            assert_eq!(words.concat(), text, "{}", definition.name);
        }
    }

    #[test]
    fn other_names_are_known_and_of_one_definition() {
        for name in DEFINITIONS.iter().flat_map(|definition| definition.also) {
            assert!(NAMES.contains(name), "{name}");
            let named = |definition: &&_| {
                let definition: &super::Definition = definition;
                definition.name == *name || definition.also.contains(name)
            };
            assert_eq!(DEFINITIONS.iter().filter(named).count(), 1, "{name}");
        }
    }

    #[test]
    fn the_last_space_of_a_run_goes_to_the_word() {
        assert_eq!(words("gpt-2", "a   b  "), ["a", "  ", " b", "  "]);
        assert_eq!(words("llama3", "a\n\n  B's"), ["a", "\n\n", " ", " B", "'s"]);
    }

    #[test]
    fn digits_after_bytes_became_letters_are_ascii() {
        assert_eq!(words("falcon", "4 ½ 12345"), ["4", " ½", " ", "123", "45"]);
        assert_eq!(words("smollm", "4 ½ 12"), ["4", " ", "½", " ", "1", "2"]);
    }

    #[test]
    fn a_text_too_hard_for_an_expression_is_an_error() {
        let text = " ".repeat(3_000_000) + "a";
        let pre = PreTokenizer::new(by_name("gpt-2").unwrap()).unwrap();
        let error = pre.words(&text).expect_err("too long a run of spaces").to_string();
        assert!(
            error.starts_with(r"pre-tokenizer expression 's|'t|'re")
                && error.ends_with("at byte 0 of the text"),
            "{error}"
        );
    }
}
