//! WordPiece as llama.cpp does it for `tokenizer.ggml.model` = `bert`: a text is cut into words at spaces, punctuation and Chinese
//! characters, and each word into the longest tokens from its beginning on.
//!
//! Where llama.cpp and Hugging Face differ (control characters that are spaces as well, letters that become several in lowercase, words
//! of more than 100 characters), this does what Hugging Face does, which the model was trained with.

use std::collections::HashMap;

use kquant_formats::gguf::Metadata;
use regex::Regex;
use tokenizers::NormalizedString;

use super::super::special::UNKNOWN;
use super::super::wordpiece::{LOWERCASE, STRIP_ACCENTS};
use super::error::TokenizerError;
use super::keys;
use super::vocabulary::Vocabulary;

/// What begins a word.
const BEGINS: char = '\u{2581}';

/// Id of the unknown token if the file names none, as in llama.cpp.
const DEFAULT_UNKNOWN: u32 = 100;

/// Number of characters of the longest word that is cut; longer ones are unknown.
const LONGEST_WORD: usize = 100;

/// Ranges of characters that are words of their own. The last but two ends as in Hugging Face's library, beyond the block of Unicode.
const CHINESE: [(u32, u32); 8] = [
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
];

/// The tokens by text, and how a text becomes words.
#[derive(Debug)]
pub(super) struct Wpm {
    ids: HashMap<String, u32>,
    /// Number of bytes of the longest token.
    longest: usize,
    unknown: u32,
    lowercase: bool,
    strip_accents: bool,
    kinds: CharacterKinds,
}

/// Expressions for kinds of characters outside ASCII.
#[derive(Debug)]
struct CharacterKinds {
    control: Regex,
    punctuation: Regex,
    accent: Regex,
}

impl CharacterKinds {
    fn new() -> Result<Self, TokenizerError> {
        let class = |class: &str| {
            Regex::new(&format!("^{class}$")).map_err(|error| TokenizerError::Expression {
                expression: class.to_owned(),
                what: error.to_string(),
                offset: 0,
            })
        };
        Ok(Self {
            control: class(r"[\p{Cc}\p{Cf}\p{Co}]")?,
            punctuation: class(r"\p{P}")?,
            accent: class(r"\p{Mn}")?,
        })
    }

    fn is(&self, class: &Regex, c: char) -> bool {
        class.is_match(c.encode_utf8(&mut [0; 4]))
    }

    /// Returns true if the character is left out of a text; lines and tabs are spaces instead.
    fn is_dropped(&self, c: char) -> bool {
        match c {
            '\t' | '\n' | '\r' => false,
            '\u{fffd}' => true,
            c if c.is_ascii() => c.is_ascii_control(),
            c => self.is(&self.control, c),
        }
    }

    /// Returns true if the character is a word of its own.
    fn is_apart(&self, c: char) -> bool {
        if c.is_ascii() {
            return c.is_ascii_punctuation();
        }
        let code = u32::from(c);
        CHINESE.iter().any(|&(first, last)| (first..=last).contains(&code)) || self.is(&self.punctuation, c)
    }

    fn is_accent(&self, c: char) -> bool {
        !c.is_ascii() && self.is(&self.accent, c)
    }
}

impl Wpm {
    /// Reads the tokens and the flags of the normalization, which default to each other as in llama.cpp.
    pub(super) fn read(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Self, TokenizerError> {
        let ids = vocabulary.by_text();
        let lowercase = keys::flag(metadata, LOWERCASE).unwrap_or(true);
        Ok(Self {
            longest: ids.keys().map(String::len).max().unwrap_or(0),
            ids,
            unknown: keys::id(metadata, UNKNOWN, vocabulary.len()).unwrap_or(DEFAULT_UNKNOWN),
            lowercase,
            strip_accents: keys::flag(metadata, STRIP_ACCENTS).unwrap_or(lowercase),
            kinds: CharacterKinds::new()?,
        })
    }

    /// Appends the ids of `text`.
    pub(super) fn encode(&self, text: &str, out: &mut Vec<u32>) {
        let text = self.normalized(text);
        let mut word = String::new();
        for c in text.chars() {
            let apart = self.kinds.is_apart(c);
            if apart || c.is_whitespace() {
                self.cut(&mut word, out);
            }
            if !c.is_whitespace() {
                word.push(c);
            }
            if apart {
                self.cut(&mut word, out);
            }
        }
        self.cut(&mut word, out);
    }

    /// Returns `text` without control characters and, as the flags say, without accents and in lowercase.
    fn normalized(&self, text: &str) -> String {
        let mut text: String = text.chars().filter(|&c| !self.kinds.is_dropped(c)).collect();
        if self.strip_accents && !text.is_ascii() {
            let mut decomposed = NormalizedString::from(text);
            decomposed.nfd();
            text = decomposed.get().chars().filter(|&c| !self.kinds.is_accent(c)).collect();
        }
        if self.lowercase { text.chars().flat_map(char::to_lowercase).collect() } else { text }
    }

    /// Appends the longest tokens that spell `word`, or the unknown token if there are none, and empties it.
    fn cut(&self, word: &mut String, out: &mut Vec<u32>) {
        if word.is_empty() {
            return;
        }
        let first = out.len();
        let whole = format!("{BEGINS}{word}");
        let mut rest = whole.as_str();
        let fits = word.chars().count() <= LONGEST_WORD;
        while let Some((id, length)) = self.longest_token(rest).filter(|_| fits) {
            out.push(id);
            rest = &rest[length..];
            // What begins a word continues none, even if the text has the sign.
            if rest.starts_with(BEGINS) {
                break;
            }
        }
        if !rest.is_empty() {
            out.truncate(first);
            out.push(self.unknown);
        }
        word.clear();
    }

    /// Returns the longest token that `text` begins with, and its length in bytes.
    fn longest_token(&self, text: &str) -> Option<(u32, usize)> {
        let most = text.floor_char_boundary(self.longest.min(text.len()));
        let mut ends = text[..most].char_indices().map(|(at, c)| at + c.len_utf8()).rev();
        ends.find_map(|end| Some((*self.ids.get(&text[..end])?, end)))
    }
}
