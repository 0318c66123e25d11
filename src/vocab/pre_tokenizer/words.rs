//! Cutting of a text into words by a pre-tokenizer.
//!
//! The expressions are those of the models' own files, in the one table that names them.

use fancy_regex::Regex;

use super::super::TokenizerError;
use super::super::byte_letters::letter_of;
use super::table::GPT2_WORDS;
use super::{Definition, Step};

/// The compiled expressions of one definition.
#[derive(Debug)]
pub(in crate::vocab) struct PreTokenizer {
    /// Expressions for the text.
    text: Vec<Regex>,
    /// Expressions for the letters that stand for its bytes, of steps that a definition has after `ByteLevel`. They may
    /// cut within a character, as `²` is a number and stands for a byte that many characters have.
    letters: Vec<Regex>,
}

impl PreTokenizer {
    /// Compiles the steps.
    pub(in crate::vocab) fn new(definition: &Definition) -> Result<Self, TokenizerError> {
        let mut pre = Self { text: Vec::new(), letters: Vec::new() };
        let mut byte_level = false;
        for step in definition.steps {
            if let Some(expression) = expression(step) {
                let regex = Regex::new(expression).map_err(|error| failed(expression, &error, 0))?;
                if byte_level { pre.letters.push(regex) } else { pre.text.push(regex) }
            }
            byte_level |= matches!(step, Step::ByteLevel { .. });
        }
        Ok(pre)
    }

    /// Returns the words of `text`, in order; together they are the text.
    pub(in crate::vocab) fn words<'a>(&self, text: &'a str) -> Result<Vec<&'a [u8]>, TokenizerError> {
        let mut words = Vec::from_iter((!text.is_empty()).then_some(text));
        for regex in &self.text {
            words = each(words, str::len, |word, out| {
                cut(regex, word, |from, to| out.extend(word.get(from..to)))
            })
            .map_err(|(error, offset)| failed(regex.as_str(), &error, offset))?;
        }
        let mut words: Vec<&[u8]> = words.into_iter().map(str::as_bytes).collect();
        for regex in &self.letters {
            words = each(words, <[u8]>::len, |word, out| {
                let letters: String = word.iter().map(|&byte| letter_of(byte)).collect();
                let mut start = 0;
                cut(regex, &letters, |from, to| {
                    let count = letters.get(from..to).map_or(0, |part| part.chars().count());
                    out.extend(word.get(start..start + count));
                    start += count;
                })
            })
            .map_err(|(error, offset)| failed(regex.as_str(), &error, offset))?;
        }
        Ok(words)
    }
}

/// Returns the expression that a step cuts by.
fn expression(step: &Step) -> Option<&str> {
    match step {
        Step::Split(expression) => Some(expression),
        Step::Digits { individual: true } => Some(r"\p{N}"),
        Step::Digits { individual: false } => Some(r"\p{N}+"),
        Step::Punctuation { runs: true } => Some(r"[\p{P}$+<=>^`|~]+"),
        Step::Punctuation { runs: false } => Some(r"[\p{P}$+<=>^`|~]"),
        Step::ByteLevel { use_regex: true } => Some(GPT2_WORDS),
        Step::ByteLevel { use_regex: false } => None,
    }
}

/// Cuts each of `words`; an error comes with the offset of the word.
fn each<'a, T: ?Sized, E>(
    words: Vec<&'a T>,
    len: impl Fn(&T) -> usize,
    cut: impl Fn(&'a T, &mut Vec<&'a T>) -> Result<(), E>,
) -> Result<Vec<&'a T>, (E, usize)> {
    let mut finer = Vec::with_capacity(words.len());
    let mut offset = 0;
    for word in words {
        cut(word, &mut finer).map_err(|error| (error, offset))?;
        offset += len(word);
    }
    Ok(finer)
}

/// Cuts before and after each match; calls `part` with the range of each part that is not empty.
fn cut(regex: &Regex, text: &str, mut part: impl FnMut(usize, usize)) -> Result<(), fancy_regex::Error> {
    let mut end = 0;
    let mut push = |from: usize, to: usize| {
        if from < to {
            part(from, to);
        }
    };
    for found in regex.find_iter(text) {
        let found = found?;
        push(end, found.start());
        push(found.start(), found.end());
        end = found.end();
    }
    push(end, text.len());
    Ok(())
}

fn failed(expression: &str, error: &fancy_regex::Error, offset: usize) -> TokenizerError {
    TokenizerError::Expression { expression: expression.to_owned(), what: error.to_string(), offset }
}

#[cfg(test)]
mod tests {
    use super::super::by_name;
    use super::super::table::{BY_NAME_ONLY, DEFINITIONS, NAMES};
    use super::PreTokenizer;

    fn words(name: &str, text: &'static str) -> Vec<&'static str> {
        let words = PreTokenizer::new(by_name(name).unwrap()).unwrap().words(text).unwrap();
        words.into_iter().map(|word| std::str::from_utf8(word).unwrap()).collect()
    }

    #[test]
    fn every_definition_cuts_a_text_into_its_parts() {
        let text = "It's  12345 o'CLOCK\r\n\n\tdéjà-vu 漢字かな ½ x²!? 🏳️‍🌈 ";
        for definition in DEFINITIONS.iter().chain(BY_NAME_ONLY) {
            let words = PreTokenizer::new(definition).unwrap().words(text).unwrap();
            assert!(words.len() > 4 && words.iter().all(|word| !word.is_empty()), "{}", definition.name);
            assert_eq!(words.concat(), text.as_bytes(), "{}", definition.name);
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
    fn digits_are_those_of_the_text_or_of_the_letters_that_stand_for_its_bytes() {
        assert_eq!(words("smollm", "4 ½ 12"), ["4", " ", "½", " ", "1", "2"]);
        let falcon = PreTokenizer::new(by_name("falcon").unwrap()).unwrap();
        let wanted: [&[u8]; 6] = [b"4", b" \xc2", b"\xbd", b" ", b"123", b"45"];
        assert_eq!(falcon.words("4 ½ 12345").unwrap(), wanted);
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
