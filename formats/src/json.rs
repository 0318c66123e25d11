//! JSON of a checkpoint's files, parsed as Python's `json` module does.
//!
//! transformers writes `NaN`, `Infinity` and `-Infinity` as bare words, which JSON does not have, and editors put a byte
//! order mark in front of a text. Both are accepted here, and errors give positions in the file as it is.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

/// The words that Python's `json` module writes for numbers that are not finite.
const WORDS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];

/// The fault of a JSON text and its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct JsonError {
    /// Line of the fault, from 1.
    pub line: usize,
    /// Column of the fault in bytes, from 1; a byte order mark does not count.
    pub column: usize,
    /// Message of the parser, without the position.
    pub what: String,
}

/// Parses `text`. A number that is not finite becomes a string with its name (`"NaN"`, `"Infinity"`, `"-Infinity"`), so that
/// code which expects a number can name what it found.
///
/// # Errors
/// Fails when `text` is not JSON, or does not have the structure of `T`.
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

/// Returns the message of `error` without the position at its end.
pub fn message(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    message.strip_suffix(&position).unwrap_or(&message).to_owned()
}

/// Returns `text` in a form that any JSON parser accepts: without a byte order mark, and with numbers that are not finite as
/// strings.
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

/// The place of a bare word in a text, in bytes.
#[derive(Debug, Clone, Copy)]
struct Word {
    start: usize,
    end: usize,
}

/// Returns the bare words of `text` that stand for numbers, in order. Words inside strings, parts of longer words, and keys
/// do not count.
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

/// Returns the bare word for a number that begins at byte `start`, if there is one.
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

/// Converts `column` of line `line` of the plain text to the column in `text`: each word before it has two quotes more in
/// the plain text.
fn original_column(text: &[u8], line: usize, column: usize) -> usize {
    let text = without_mark(text);
    let start: usize =
        text.split_inclusive(|&b| b == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    let end = text.iter().skip(start).position(|&b| b == b'\n').map_or(text.len(), |length| start + length);
    let mut column = column;
    for word in words(text).iter().filter(|word| (start..end).contains(&word.start)) {
        // Columns count from one. A fault inside a word is shown at the word's start or end.
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

    /// The same text, with these words replaced by JSON of the same length, has its fault at the same position.
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
