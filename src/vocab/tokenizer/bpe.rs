//! Byte-level BPE as llama.cpp does it for `tokenizer.ggml.model` = `gpt2`: within a word, the neighbours whose merge has
//! the lowest rank are joined, the leftmost of equals first.

use std::collections::HashMap;

use kquant_formats::gguf::Metadata;

use super::super::byte_letters::letter_of;
use super::super::pre_tokenizer::{self, PreTokenizer};
use super::error::TokenizerError;
use super::keys;
use super::merge::{Chain, Joined};
use super::vocabulary::Vocabulary;

/// Merges between symbols. Tokens are symbols with their ids as numbers; texts that merges need but that are not tokens
/// follow them.
#[derive(Debug)]
pub(super) struct Bpe {
    pre: PreTokenizer,
    merges: HashMap<(u32, u32), Joined>,
    /// Symbol of each byte's letter.
    letters: Vec<u32>,
    /// Tokens that replace symbols that are not tokens, in order of the symbols' numbers.
    substitutes: Vec<Vec<u32>>,
    /// Number of tokens.
    tokens: usize,
    /// All tokens by text, if the model takes words that are tokens whole.
    whole: Option<HashMap<String, u32>>,
}

impl Bpe {
    /// Reads the keys `merges` and `pre`.
    pub(super) fn read(metadata: &Metadata, vocabulary: &Vocabulary) -> Result<Self, TokenizerError> {
        let pre = keys::pre(metadata);
        let Some(definition) = pre_tokenizer::by_name(pre) else {
            return Err(TokenizerError::UnknownPre { pre: pre.to_owned() });
        };
        let mut symbols = Symbols { ids: vocabulary.by_text(), tokens: vocabulary.len(), texts: Vec::new() };
        let merges = read_merges(metadata, &mut symbols)?;
        let letters = (0..=255).map(|byte| symbols.id(letter_of(byte).to_string())).collect();
        let substitutes = symbols.substitutes();
        Ok(Self {
            pre: PreTokenizer::new(definition)?,
            merges,
            letters,
            substitutes,
            tokens: vocabulary.len(),
            whole: definition.ignore_merges.then(|| vocabulary.by_text()),
        })
    }

    /// Appends the ids of `text`.
    pub(super) fn encode(&self, text: &str, out: &mut Vec<u32>) -> Result<(), TokenizerError> {
        let mut chain = Chain::default();
        for word in self.pre.words(text)? {
            if let Some(id) = self.whole(word) {
                out.push(id);
            } else {
                self.merge(word, &mut chain, out);
            }
        }
        Ok(())
    }

    /// Returns the token that is the whole word.
    fn whole(&self, word: &[u8]) -> Option<u32> {
        let letters: String =
            self.whole.as_ref().map(|_| word.iter().map(|&byte| letter_of(byte)).collect())?;
        self.whole.as_ref()?.get(&letters).copied()
    }

    /// Returns the tokens that `word`, the bytes of a token, is made of: its bytes' letters and what they are joined to.
    pub(super) fn parts(&self, word: &[u8]) -> Vec<u32> {
        let (mut chain, mut parts) = (Chain::default(), Vec::new());
        for &letter in word.iter().filter_map(|&byte| self.letters.get(usize::from(byte))) {
            parts.push(letter);
            chain.push(1, letter);
        }
        chain.merge_telling(|a, b| self.merges.get(&(a.id, b.id)).copied(), |id| parts.push(id));
        parts.retain(|&id| (id as usize) < self.tokens);
        parts
    }

    /// Returns the tokens of the bytes' letters, which spell every text.
    pub(super) fn alphabet(&self) -> impl Iterator<Item = u32> {
        self.letters.iter().copied().filter(|&id| (id as usize) < self.tokens)
    }

    fn merge(&self, word: &[u8], chain: &mut Chain, out: &mut Vec<u32>) {
        chain.clear();
        for &byte in word {
            if let Some(&letter) = self.letters.get(usize::from(byte)) {
                chain.push(1, letter);
            }
        }
        chain.merge(|left, right| self.merges.get(&(left.id, right.id)).copied());
        for symbol in chain.symbols() {
            match (symbol.id as usize).checked_sub(self.tokens) {
                None => out.push(symbol.id),
                Some(extra) => out.extend(self.substitutes.get(extra).into_iter().flatten()),
            }
        }
    }
}

/// The numbers of texts: the ids of tokens, and the numbers after them.
struct Symbols {
    ids: HashMap<String, u32>,
    tokens: usize,
    /// Texts that are not tokens.
    texts: Vec<String>,
}

impl Symbols {
    /// Returns the number of `text`, a new one if it has none.
    fn id(&mut self, text: String) -> u32 {
        if let Some(&id) = self.ids.get(&text) {
            return id;
        }
        // Tokens and merges are far fewer than 2^32, because each is a text of the file.
        let id = u32::try_from(self.tokens + self.texts.len()).unwrap_or(u32::MAX);
        self.texts.push(text.clone());
        self.ids.insert(text, id);
        id
    }

    /// Returns the tokens that llama.cpp writes for each symbol that is not a token: those of its bytes that are tokens
    /// by themselves, which only ASCII bytes can be.
    fn substitutes(&self) -> Vec<Vec<u32>> {
        let is_token = |id: &u32| (*id as usize) < self.tokens;
        let of_character = |character: char| {
            let text = character.to_string();
            self.ids.get(&text).copied().filter(|id| character.is_ascii() && is_token(id))
        };
        self.texts.iter().map(|text| text.chars().filter_map(of_character).collect()).collect()
    }
}

/// Reads merges by the pair that they join; of equal pairs the first one holds.
fn read_merges(
    metadata: &Metadata,
    symbols: &mut Symbols,
) -> Result<HashMap<(u32, u32), Joined>, TokenizerError> {
    let lines = keys::texts(metadata, keys::MERGES)?;
    let mut merges = HashMap::with_capacity(lines.len());
    for (rank, line) in (0..).zip(lines) {
        // The left half may begin with a space.
        let split = line.char_indices().skip(1).find(|(_, letter)| *letter == ' ');
        let Some((left, right)) = split.and_then(|(at, _)| line.split_at_checked(at)) else {
            return Err(TokenizerError::key(keys::MERGES, format!("merge {rank} is no pair: {line:?}")));
        };
        let right = right.strip_prefix(' ').unwrap_or(right);
        let pair = (symbols.id(left.to_owned()), symbols.id(right.to_owned()));
        let id = symbols.id(format!("{left}{right}"));
        merges.entry(pair).or_insert(Joined { rank, id });
    }
    Ok(merges)
}
