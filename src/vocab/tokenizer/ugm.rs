//! SentencePiece Unigram as llama.cpp does it for `tokenizer.ggml.model` = `t5`: of all sequences of tokens that spell
//! the text, the one with the highest sum of scores, which are logarithms of probabilities.
//!
//! Unlike in llama.cpp, and like in Hugging Face, characters without a token become bytes if the vocabulary has these.

use std::collections::HashMap;

use kquant_formats::gguf::{Array, Metadata, Value};

use super::super::charsmap::Charsmap;
use super::super::special::UNKNOWN;
use super::super::spm::ADD_SPACE_PREFIX;
use super::super::tokens::Kind;
use super::super::unigram::{CHARSMAP, REMOVE_EXTRA_WHITESPACES};
use super::error::TokenizerError;
use super::keys;
use super::spm::words;
use super::vocabulary::Vocabulary;

/// The visible space of SentencePiece.
const SPACE: &str = "▁";

/// Difference between the least score of a token and the score of an unknown character, as in SentencePiece.
const UNKNOWN_PENALTY: f32 = 10.0;

/// Id of the unknown token if the file names none, as in llama.cpp.
const DEFAULT_UNKNOWN: u32 = 2;

/// The tokens as a trie, with the scores that decide between them.
#[derive(Debug)]
pub(super) struct Ugm {
    normalizer: Normalizer,
    trie: Trie,
    /// Scores by id.
    scores: Vec<f64>,
    unknown: u32,
    unknown_score: f64,
    /// Token of each byte, if all bytes have one.
    bytes: Option<Vec<u32>>,
    /// True if words can be cut one by one, because no token has a space after another character.
    by_words: bool,
}

/// The best way to spell a prefix of a word.
#[derive(Debug, Clone, Copy)]
struct Best {
    score: f64,
    /// Offset of its last token.
    start: usize,
    id: u32,
}

impl Ugm {
    /// Reads the scores and the normalization.
    pub(super) fn read(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Self, TokenizerError> {
        let scores = keys::scores(metadata, vocabulary.len())?;
        let normal =
            vocabulary.iter().zip(&scores).filter(|((id, _), _)| vocabulary.kind(*id) == Kind::Normal);
        let lowest = normal.map(|(_, &score)| score).fold(f32::MAX, f32::min);
        let (mut trie, mut by_words) = (Trie::default(), true);
        for (id, text) in vocabulary.iter() {
            if matches!(vocabulary.kind(id), Kind::Normal | Kind::UserDefined | Kind::Unused) {
                trie.insert(text, id);
                by_words &= words(text).count() <= 1;
            }
        }
        // Tokens of the user are taken as nearly certain.
        let score = |(id, score): (u32, f32)| match vocabulary.kind(id) {
            Kind::UserDefined => 0.0,
            _ => f64::from(score),
        };
        let ids = vocabulary.by_text();
        let bytes = (0..=255u8).map(|byte| {
            let id = ids.get(&format!("<0x{byte:02X}>")).copied();
            id.filter(|&id| vocabulary.kind(id) == Kind::Byte)
        });
        Ok(Self {
            normalizer: Normalizer::read(metadata)?,
            trie,
            unknown: keys::id(metadata, UNKNOWN, vocabulary.len()).unwrap_or(DEFAULT_UNKNOWN),
            unknown_score: f64::from(lowest - UNKNOWN_PENALTY),
            bytes: bytes.collect(),
            by_words,
            scores: (0..).zip(scores).map(score).collect(),
        })
    }

    /// Appends the ids of `text`.
    pub(super) fn encode(&self, text: &str, out: &mut Vec<u32>) {
        let text = self.normalizer.apply(text);
        let mut best = Vec::new();
        let first = out.len();
        let mut push = |ids: &[(u32, &str)]| {
            for &(id, piece) in ids {
                match &self.bytes {
                    Some(bytes) if id == self.unknown => {
                        out.extend(piece.bytes().filter_map(|byte| bytes.get(usize::from(byte))));
                    }
                    // A run of unknown characters is one unknown token.
                    _ if id == self.unknown && out.get(first..).and_then(<[u32]>::last) == Some(&id) => {}
                    _ => out.push(id),
                }
            }
        };
        if self.by_words {
            words(&text).for_each(|word| push(&self.likeliest(word, &mut best)));
        } else {
            push(&self.likeliest(&text, &mut best));
        }
    }

    /// Returns the likeliest tokens of `word`, with their texts (Viterbi). Sums of scores are exact, because scores have
    /// 24 bits.
    fn likeliest<'a>(&self, word: &'a str, best: &mut Vec<Best>) -> Vec<(u32, &'a str)> {
        best.clear();
        best.resize(word.len() + 1, Best { score: f64::NEG_INFINITY, start: 0, id: self.unknown });
        let challenge = |best: &mut [Best], end: usize, challenger: Best| {
            if let Some(champion) = best.get_mut(end)
                && challenger.score > champion.score
            {
                *champion = challenger;
            }
        };
        for (start, character) in word.char_indices() {
            let before = if start == 0 { 0.0 } else { best.get(start).map_or(0.0, |best| best.score) };
            let mut known = false;
            for (len, id) in self.trie.prefixes(word.as_bytes().get(start..).unwrap_or_default()) {
                let score = before + self.scores.get(id as usize).copied().unwrap_or_default();
                challenge(best, start + len, Best { score, start, id });
                known |= len == character.len_utf8();
            }
            if !known {
                let unknown = Best { score: before + self.unknown_score, start, id: self.unknown };
                challenge(best, start + character.len_utf8(), unknown);
            }
        }
        let mut tokens = Vec::new();
        let mut end = word.len();
        while let Some(last) = best.get(end).filter(|_| end > 0) {
            tokens.push((last.id, word.get(last.start..end).unwrap_or_default()));
            end = last.start;
        }
        tokens.reverse();
        tokens
    }
}

/// The normalization of a text before it is cut.
#[derive(Debug)]
struct Normalizer {
    charsmap: Option<Charsmap>,
    /// True if a space is put first.
    prefix: bool,
    /// True if runs of spaces count as one, and those at both ends as none.
    collapse: bool,
}

impl Normalizer {
    fn read(metadata: &Metadata) -> Result<Self, TokenizerError> {
        let bytes = match metadata.get(CHARSMAP) {
            None => None,
            Some(Value::Array(Array::U8(bytes))) => Some(bytes.clone()),
            Some(Value::Array(Array::I8(bytes))) => Some(bytes.iter().map(|&byte| byte as u8).collect()),
            Some(_) => return Err(TokenizerError::key(CHARSMAP, "is no list of bytes")),
        };
        let charsmap = bytes.map(|bytes| Charsmap::parse(&bytes)).transpose();
        Ok(Self {
            charsmap: charsmap.map_err(|what| TokenizerError::key(CHARSMAP, what))?,
            prefix: keys::flag(metadata, ADD_SPACE_PREFIX).unwrap_or(false),
            collapse: keys::flag(metadata, REMOVE_EXTRA_WHITESPACES).unwrap_or(false),
        })
    }

    /// Replaces characters and treats spaces. Like llama.cpp, it puts a space first if runs are collapsed; unlike
    /// llama.cpp, and like SentencePiece and Hugging Face, it also puts one before a text of only spaces.
    fn apply(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len() * 3 / 2);
        if self.prefix && !self.collapse {
            out.push_str(SPACE);
        }
        let mut in_word = false;
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            let mapped = self.charsmap.as_ref().and_then(|map| map.longest(rest.as_bytes()));
            // A match is ignored if it ends within a character, which happens only in a map that is not of texts.
            let mapped = mapped.filter(|(len, _)| rest.is_char_boundary(*len));
            let (len, piece) =
                mapped.unwrap_or((character.len_utf8(), rest.get(..character.len_utf8()).unwrap_or("")));
            for letter in piece.chars() {
                if letter == ' ' {
                    in_word = false;
                    if !self.collapse {
                        out.push_str(SPACE);
                    }
                    continue;
                }
                if self.collapse && !in_word {
                    out.push_str(SPACE);
                }
                in_word = true;
                out.push(letter);
            }
            rest = rest.get(len..).unwrap_or_default();
        }
        out
    }
}

/// A trie of texts by their bytes.
#[derive(Debug, Default)]
struct Trie {
    /// Next node by node and byte; the root is 0.
    edges: HashMap<(u32, u8), u32>,
    /// Token that ends at each node, by the node's number - 1.
    ends: Vec<Option<u32>>,
}

impl Trie {
    fn insert(&mut self, text: &str, id: u32) {
        let mut node = 0;
        for byte in text.bytes() {
            // There are at most as many nodes as bytes of all tokens.
            let next = u32::try_from(self.ends.len() + 1).unwrap_or(u32::MAX);
            node = *self.edges.entry((node, byte)).or_insert(next);
            if node == next {
                self.ends.push(None);
            }
        }
        if let Some(end) = (node as usize).checked_sub(1).and_then(|at| self.ends.get_mut(at)) {
            *end = Some(id);
        }
    }

    /// Returns lengths and ids of the tokens that `text` begins with, the shortest first.
    fn prefixes(&self, text: &[u8]) -> impl Iterator<Item = (usize, u32)> {
        let mut node = 0;
        let nodes = text.iter().zip(1..).map_while(move |(&byte, len)| {
            node = *self.edges.get(&(node, byte))?;
            Some((len, node))
        });
        nodes.filter_map(|(len, node)| {
            let id = self.ends.get((node as usize).checked_sub(1)?)?;
            Some((len, (*id)?))
        })
    }
}
