//! SentencePiece BPE with byte fallback as llama.cpp does it for `tokenizer.ggml.model` = `llama`: of all neighbours
//! whose concatenation is a token, the pair whose token has the highest score is joined, the leftmost of equals first.

use std::collections::HashMap;

use kquant_formats::gguf::Metadata;

use super::error::TokenizerError;
use super::keys;
use super::merge::{Chain, Joined, Symbol};
use super::vocabulary::Vocabulary;

/// The visible space of SentencePiece.
const SPACE: char = '▁';

/// The id of a character that is not a token.
const NO_TOKEN: u32 = u32::MAX;

/// The tokens by text, with the scores that decide between them.
#[derive(Debug)]
pub(super) struct Spm {
    ids: HashMap<String, u32>,
    /// Rank of each token's score, by id; the highest score has the lowest rank.
    ranks: Vec<u32>,
    /// Token of each byte.
    bytes: Vec<Option<u32>>,
    prefixes_space: bool,
    /// Length of the longest token, in bytes.
    longest: usize,
    /// True if words can be merged one by one, because no token has a space after another character.
    by_words: bool,
}

impl Spm {
    /// Reads the key `scores`.
    pub(super) fn read(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Self, TokenizerError> {
        let ids = vocabulary.by_text();
        let scores = keys::scores(metadata, vocabulary.len())?;
        // Some vocabularies have ASCII bytes as plain characters.
        let byte = |byte: u8| {
            let character = char::from(byte).to_string();
            let plain = ids.get(&character).filter(|_| byte.is_ascii());
            ids.get(&format!("<0x{byte:02X}>")).or(plain).copied()
        };
        Ok(Self {
            bytes: (0..=255).map(byte).collect(),
            ranks: ranks(&scores),
            prefixes_space: vocabulary.prefixes_space(),
            longest: vocabulary.iter().map(|(_, text)| text.len()).max().unwrap_or(0),
            by_words: vocabulary.iter().all(|(_, text)| words(text).count() <= 1),
            ids,
        })
    }

    /// Appends the ids of `text`; `begins` is true if it is the first text or follows a special token.
    pub(super) fn encode(&self, text: &str, begins: bool, out: &mut Vec<u32>) -> Result<(), TokenizerError> {
        let prefix = if begins && self.prefixes_space { "▁" } else { "" };
        let text = format!("{prefix}{}", text.replace(' ', "▁"));
        let mut chain = Chain::default();
        if self.by_words {
            words(&text).try_for_each(|word| self.merge(word, &mut chain, out))
        } else {
            self.merge(&text, &mut chain, out)
        }
    }

    fn merge(&self, text: &str, chain: &mut Chain, out: &mut Vec<u32>) -> Result<(), TokenizerError> {
        chain.clear();
        for (at, character) in text.char_indices() {
            let len = character.len_utf8();
            let id = text.get(at..at + len).and_then(|text| self.ids.get(text));
            chain.push(len, id.copied().unwrap_or(NO_TOKEN));
        }
        chain.merge(|left, right| self.join(text, left, right));
        for symbol in chain.symbols() {
            if symbol.id != NO_TOKEN {
                out.push(symbol.id);
                continue;
            }
            for &byte in text.as_bytes().iter().skip(symbol.start).take(symbol.len) {
                let id = self.bytes.get(usize::from(byte)).copied().flatten();
                out.push(id.ok_or(TokenizerError::NoToken { byte })?);
            }
        }
        Ok(())
    }

    /// Returns the tokens that `text`, the text of a token, is made of: its characters and what they are joined to.
    pub(super) fn parts(&self, text: &str) -> Vec<u32> {
        let (mut chain, mut parts) = (Chain::default(), Vec::new());
        for character in text.chars() {
            let id = self.ids.get(character.encode_utf8(&mut [0; 4]) as &str).copied();
            parts.extend(id);
            chain.push(character.len_utf8(), id.unwrap_or(NO_TOKEN));
        }
        chain.merge_telling(|left, right| self.join(text, left, right), |id| parts.push(id));
        parts
    }

    /// Returns the symbol that two neighbours become.
    fn join(&self, text: &str, left: &Symbol, right: &Symbol) -> Option<Joined> {
        let len = left.len + right.len;
        if len > self.longest {
            return None;
        }
        let id = *self.ids.get(text.get(left.start..left.start + len)?)?;
        Some(Joined { rank: *self.ranks.get(id as usize)?, id })
    }
}

/// Returns the rank of each score, the highest first; equal scores share a rank.
fn ranks(scores: &[f32]) -> Vec<u32> {
    let mut sorted = scores.to_vec();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    let place = |score: &f32| sorted.partition_point(|other| other > score);
    scores.iter().map(|score| u32::try_from(place(score)).unwrap_or(u32::MAX)).collect()
}

/// Cuts before every space that follows another character.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let spaces = rest.find(|letter| letter != SPACE).unwrap_or(rest.len());
        let end = rest.get(spaces..)?.find(SPACE).map_or(rest.len(), |word| spaces + word);
        let (word, tail) = rest.split_at_checked(end)?;
        rest = tail;
        (!word.is_empty()).then_some(word)
    })
}

#[cfg(test)]
mod tests {
    use super::{ranks, words};

    #[test]
    fn higher_scores_come_first_and_equal_ones_share() {
        assert_eq!(ranks(&[0.0, -2.0, -1.0, -0.0, -2.0]), [0, 3, 2, 0, 3]);
    }

    #[test]
    fn words_begin_with_their_spaces() {
        let cut = |text| words(text).collect::<Vec<_>>();
        assert_eq!(cut("▁a▁▁bc▁"), ["▁a", "▁▁bc", "▁"]);
        assert_eq!(cut("a"), ["a"]);
        assert_eq!(cut("▁▁"), ["▁▁"]);
        assert!(cut("").is_empty());
    }
}
