//! What a vocabulary needs so that it still works when tokens are taken out of it.

use super::super::tokens::Kind;
use super::{Engine, Tokenizer};

impl Tokenizer {
    /// Returns the tokens that the tokenizer makes on the way to `id`, in the order in which it makes them; with each of
    /// them kept, it finds `id` wherever it did before. Unigram and WordPiece look tokens up whole and need none.
    pub fn parts(&self, id: u32) -> Vec<u32> {
        if self.vocabulary.kind(id) != Kind::Normal {
            return Vec::new();
        }
        match &self.engine {
            Engine::Spm { spm, .. } => spm.parts(self.vocabulary.text(id)),
            Engine::Bpe { bpe, .. } => bpe.parts(self.vocabulary.piece(id)),
            Engine::Ugm { .. } | Engine::Wpm { .. } => Vec::new(),
        }
    }

    /// Returns the tokens that no text can do without, in order of their ids: control, unknown, user-defined and byte
    /// tokens, and the letters of bytes. Tokens that only hold a place, such as `<unused7>`, are not among them.
    pub fn indispensable(&self) -> Vec<u32> {
        let is_needed = |&id: &u32| match self.vocabulary.kind(id) {
            Kind::Byte | Kind::Unknown => true,
            Kind::Control | Kind::UserDefined => !is_placeholder(self.vocabulary.text(id)),
            Kind::Normal | Kind::Unused => false,
        };
        let mut ids: Vec<u32> = (0..self.vocabulary.len() as u32).filter(is_needed).collect();
        if let Engine::Bpe { bpe, .. } = &self.engine {
            ids.extend(bpe.alphabet());
        }
        ids.extend([self.bos(), self.eos(), self.eot()].into_iter().flatten());
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Returns the text under which the vocabulary lists a token.
    pub fn text(&self, id: u32) -> &str {
        self.vocabulary.text(id)
    }
}

/// Returns true for the names that published vocabularies give to ids that wait for a use.
fn is_placeholder(text: &str) -> bool {
    const BEGINNINGS: [&str; 5] = ["<unused", "[unused", "[PAD", "<|reserved_special_token_", "<|extra_"];
    BEGINNINGS.iter().filter_map(|start| text.strip_prefix(start)).any(|rest| {
        let number = rest.trim_end_matches(['>', ']', '|']);
        number.len() < rest.len() && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
    })
}
