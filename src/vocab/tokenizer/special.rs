//! Cutting of a text at tokens that are found before anything is merged.

use aho_corasick::AhoCorasick;
use kquant_formats::gguf::{Metadata, Value};

use super::super::tokens::Kind;
use super::error::TokenizerError;
use super::keys;
use super::vocabulary::Vocabulary;

/// Texts of Phi-3's tokens that do not strip the spaces after them.
const PHI3_KEEPS: [&str; 3] = ["<unk>", "<s>", "<|endoftext|>"];

/// The characters that C's `isspace` accepts.
const SPACES: [char; 6] = [' ', '\t', '\n', '\u{b}', '\u{c}', '\r'];

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fragment<'a> {
    /// The text between two tokens, which is never empty.
    Text(&'a str),
    /// The id of a token.
    Token(u32),
}

/// A token to search for.
#[derive(Debug)]
struct Special {
    id: u32,
    text: String,
    /// True if it is found only where special tokens are asked for.
    control: bool,
    /// True if it strips the spaces after it.
    strips: bool,
}

/// A searcher for special tokens.
#[derive(Debug)]
pub(super) struct Splitter {
    /// The tokens, the longest first.
    tokens: Vec<Special>,
    /// An automaton that finds in one pass which of `tokens`, by position, are in a text at all.
    any: AhoCorasick,
}

impl Splitter {
    /// Collects control, unknown and user-defined tokens.
    pub(super) fn new(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Self, TokenizerError> {
        let phi3 = is_phi3(metadata);
        let special = |(id, text): (u32, &str)| {
            let control = match vocabulary.kind(id) {
                Kind::Control | Kind::Unknown => true,
                Kind::UserDefined => false,
                Kind::Normal | Kind::Unused | Kind::Byte => return None,
            };
            let strips = phi3 && !PHI3_KEEPS.contains(&text);
            Some(Special { id, text: text.to_owned(), control, strips })
        };
        let mut tokens: Vec<Special> = vocabulary.iter().filter_map(special).collect();
        tokens.sort_by_key(|token| std::cmp::Reverse(token.text.len()));
        let any = AhoCorasick::new(tokens.iter().map(|token| &token.text))
            .map_err(|error| TokenizerError::key(keys::TOKENS, error.to_string()))?;
        Ok(Self { tokens, any })
    }

    /// Cuts at every occurrence of the longest token, then of the next in what is left, and so on: this is llama.cpp's
    /// order, in which a longer token takes precedence over an earlier but shorter one that overlaps it.
    pub(super) fn split<'a>(&self, text: &'a str, parse_special: bool) -> Vec<Fragment<'a>> {
        let wanted = |token: &Special| parse_special || !token.control;
        let mut fragments = Vec::from_iter((!text.is_empty()).then_some(Fragment::Text(text)));
        if !self.tokens.iter().any(wanted) {
            return fragments;
        }
        let mut seen = vec![false; self.tokens.len()];
        for found in self.any.find_overlapping_iter(text) {
            if let Some(seen) = seen.get_mut(found.pattern().as_usize()) {
                *seen = true;
            }
        }
        for (token, _) in self.tokens.iter().zip(seen).filter(|(token, seen)| *seen && wanted(token)) {
            fragments = fragments.into_iter().flat_map(|fragment| cut(fragment, token)).collect();
        }
        fragments
    }
}

/// Returns true if llama.cpp would take the model for a Phi-3. No key says which tokens strip spaces, so it goes by the
/// name.
fn is_phi3(metadata: &Metadata) -> bool {
    let name = metadata.get("general.name").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
    name.contains("phi-3") || name.contains("phi3")
}

/// Cuts one fragment at every occurrence of `token`.
fn cut<'a>(fragment: Fragment<'a>, token: &Special) -> Vec<Fragment<'a>> {
    let Fragment::Text(text) = fragment else { return vec![fragment] };
    let mut out = Vec::new();
    for (at, part) in text.split(token.text.as_str()).enumerate() {
        let mut part = part;
        if at > 0 {
            out.push(Fragment::Token(token.id));
            if token.strips {
                part = part.trim_start_matches(SPACES);
            }
        }
        if !part.is_empty() {
            out.push(Fragment::Text(part));
        }
    }
    out
}
