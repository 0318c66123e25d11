//! JSON of a checkpoint's files, as Python's `json` module reads it.
//!
//! transformers writes `NaN`, `Infinity` and `-Infinity` as bare words, which JSON does not have, and editors put a byte
//! order mark in front of a text. Both are taken here, and positions in errors are those of the file.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

/// The words that Python's `json` module writes for numbers that are not finite.
const WORDS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];

/// What is wrong with a JSON text, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct JsonError {
    /// Line of the fault, from 1.
    pub line: usize,
    /// Column of the fault in bytes, from 1; a byte order mark does not count.
    pub column: usize,
    /// What the parser met, without its position.
    pub what: String,
}

/// Parses `text`; a number that is not finite becomes a string with its name (`"NaN"`, `"Infinity"`, `"-Infinity"`), so that
/// whoever needs a number there says what it found.
///
/// # Errors
/// When `text` is not JSON, or not what `T` is made of.
pub fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, JsonError> {
    if text.starts_with(&[0xff, 0xfe]) || text.starts_with(&[0xfe, 0xff]) {
        return Err(JsonError { line: 1, column: 1, what: "UTF-16 text; save the file as UTF-8".into() });
    }
    let plain = plain(text);
    serde_json::from_slice(&plain).map_err(|error| {
        let column = original_column(text, error.line(), error.column());
        JsonError { line: error.line(), column, what: message(&error) }
    })
}

/// What `error` says, without the position that it ends with.
pub fn message(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    message.strip_suffix(&position).unwrap_or(&message).to_owned()
}

/// `text` as any JSON parser takes it: without a byte order mark, and numbers that are not finite as strings.
pub fn plain(text: &[u8]) -> Cow<'_, [u8]> {
    let text = without_mark(text);
    let words = words(text);
    if words.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut plain = Vec::with_capacity(text.len() + 2 * words.len());
    let mut copied = 0;
    for Word { start, end } in words {
        plain.extend_from_slice(text.get(copied..start).unwrap_or_default());
        plain.push(b'"');
        plain.extend_from_slice(text.get(start..end).unwrap_or_default());
        plain.push(b'"');
        copied = end;
    }
    plain.extend_from_slice(text.get(copied..).unwrap_or_default());
    Cow::Owned(plain)
}

fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(text)
}

/// Where a bare word stands in a text, in bytes.
#[derive(Debug, Clone, Copy)]
struct Word {
    start: usize,
    end: usize,
}

/// The bare words of `text` that stand for numbers, in order. What is in a string, part of a longer word, or a key, is none.
fn words(text: &[u8]) -> Vec<Word> {
    let mut found = Vec::new();
    let (mut at, mut in_string) = (0, false);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' if in_string => at += 1,
            b'"' => in_string = !in_string,
            b'N' | b'I' | b'-' if !in_string => {
                if let Some(word) = word_at(text, at) {
                    at = word.end;
                    found.push(word);
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// The word that begins at byte `start`.
fn word_at(text: &[u8], start: usize) -> Option<Word> {
    let rest = text.get(start..)?;
    let word = WORDS.iter().find(|word| rest.starts_with(word))?;
    let joins = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+' | b'.');
    let before = start.checked_sub(1).and_then(|at| text.get(at));
    let after = rest.get(word.len()..)?;
    let is_key = after.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':');
    let is_whole = !before.is_some_and(joins) && !after.first().is_some_and(joins);
    (is_whole && !is_key).then_some(Word { start, end: start + word.len() })
}

/// The column in `text` of what is at `column` of line `line` of the plain text, where each word before has two quotes more.
fn original_column(text: &[u8], line: usize, column: usize) -> usize {
    let text = without_mark(text);
    let start: usize =
        text.split_inclusive(|&b| b == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    let end = text.iter().skip(start).position(|&b| b == b'\n').map_or(text.len(), |length| start + length);
    let mut column = column;
    for word in words(text).iter().filter(|word| (start..end).contains(&word.start)) {
        // From one on; a fault inside a word is shown at its start or end.
        if column > word.end - start + 1 {
            column -= 2;
        } else if column > word.start - start {
            return (column - 1).clamp(word.start - start + 1, word.end - start);
        }
    }
    column
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn numbers_that_are_not_finite_are_named() {
        let text =
            br#"{"a": NaN, "b": [Infinity,-Infinity , 1], "c":"NaN \" Infinity", "d": -1, "e": {"f": NaN}}"#;
        let expected = json!({
            "a": "NaN", "b": ["Infinity", "-Infinity", 1], "c": "NaN \" Infinity", "d": -1, "e": { "f": "NaN" }
        });
        assert_eq!(parse::<Value>(text).unwrap(), expected);
        assert_eq!(parse::<Value>(b"NaN").unwrap(), json!("NaN"));
    }

    #[test]
    fn other_bare_words_stay_faults() {
        for text in [
            "[nan]",
            "[inf]",
            "[-NaN]",
            "[NaNs]",
            "[Infinity2]",
            "[xNaN]",
            "{NaN: 1}",
            "{Infinity : 1}",
            "[--Infinity]",
        ] {
            assert!(parse::<Value>(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_text_without_such_words_is_not_copied() {
        let text = br#"{"N": "I\\", "n": null, "I": -3}"#;
        assert!(matches!(plain(text), Cow::Borrowed(plain) if plain == text));
    }

    #[test]
    fn a_byte_order_mark_is_passed_over() {
        assert_eq!(parse::<Value>("\u{feff}{\"a\": NaN}".as_bytes()).unwrap(), json!({ "a": "NaN" }));
        let error = parse::<Value>(&[0xff, 0xfe, b'{', 0, b'}', 0]).unwrap_err();
        assert!(error.what.contains("UTF-16"), "{error}");
    }

    /// The same text with words of the same length that JSON has tells where the fault is.
    #[test]
    fn positions_are_those_of_the_file() {
        for (text, same) in [
            ("{\"a\": NaN, oops}", "{\"a\": 100, oops}"),
            ("[Infinity, NaN,\n NaN, -Infinity, x, NaN]", "[12345678, 123,\n 123, 123456789, x, 123]"),
            ("\u{feff}[NaN NaN]", "[123 123]"),
            ("[NaN, NaN", "[123, 123"),
            ("[\"é\", NaN, }", "[\"é\", 123, }"),
        ] {
            let (error, expected) =
                (parse::<Value>(text.as_bytes()).unwrap_err(), parse::<Value>(same.as_bytes()).unwrap_err());
            assert_eq!((error.line, error.column), (expected.line, expected.column), "{text}");
            assert!(!error.to_string().contains(" at line "), "{error}");
        }
    }

    #[test]
    fn a_word_of_a_wrong_type_is_shown_where_it_ends() {
        #[derive(Debug, serde::Deserialize)]
        struct Typed {
            #[allow(dead_code)]
            n: u64,
        }
        let error = parse::<Typed>(b"{\"n\": NaN}").unwrap_err();
        assert_eq!((error.line, error.column), (1, 9));
        assert!(error.what.contains("\"NaN\""), "{error}");
    }
}
