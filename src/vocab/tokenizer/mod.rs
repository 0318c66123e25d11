//! Tokenizing of text and back, by the GGUF keys that a model has or is converted to.
//!
//! | file | what |
//! |---|---|
//! | `vocabulary` | texts, kinds and bytes of the tokens |
//! | `roles` | which tokens begin and end a text |
//! | `special` | cuts a text at the tokens that are found before anything is merged |
//! | `spm`, `bpe`, `merge` | SentencePiece BPE (`llama`) and byte-level BPE (`gpt2`), as llama.cpp does them |
//! | `needs` | what a vocabulary needs when tokens are taken out of it |
//! | `ugm` | SentencePiece Unigram (`t5`), as llama.cpp does it |
//! | `wpm` | WordPiece (`bert`), as llama.cpp does it |
//!
//! A folder and the GGUF made of it cut a text alike, as llama.cpp will. Tests compare the ids with Hugging Face's library.

mod bpe;
mod error;
mod keys;
mod merge;
mod needs;
mod roles;
mod special;
mod spm;
#[cfg(test)]
mod tests;
mod ugm;
mod vocabulary;
mod wpm;

use kquant_formats::gguf::Metadata;

use bpe::Bpe;
pub use error::TokenizerError;
use roles::Roles;
use special::{Fragment, Splitter};
use spm::Spm;
use ugm::Ugm;
use vocabulary::Vocabulary;
use wpm::Wpm;

/// A model's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    roles: Roles,
    engine: Engine,
}

/// The algorithm that converts text to ids.
#[derive(Debug)]
enum Engine {
    Spm { splitter: Splitter, spm: Spm },
    Bpe { splitter: Splitter, bpe: Bpe },
    Ugm { splitter: Splitter, ugm: Ugm },
    Wpm { splitter: Splitter, wpm: Wpm },
}

impl Tokenizer {
    /// Builds the tokenizer from the keys `tokenizer.ggml.*`.
    ///
    /// # Errors
    /// Fails when a key is missing or malformed, or when the tokenizer is of a kind that kquant does not have.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, TokenizerError> {
        let model = keys::Model::read(metadata)?;
        let mut vocabulary = Vocabulary::read(metadata, model)?;
        let roles = Roles::read(metadata, model, &mut vocabulary);
        let splitter = Splitter::new(metadata, &vocabulary)?;
        let engine = match model {
            keys::Model::Spm => Engine::Spm { splitter, spm: Spm::read(metadata, &vocabulary)? },
            keys::Model::Bpe => Engine::Bpe { splitter, bpe: Bpe::read(metadata, &vocabulary)? },
            keys::Model::Ugm => Engine::Ugm { splitter, ugm: Ugm::read(metadata, &vocabulary)? },
            keys::Model::Wpm => Engine::Wpm { splitter, wpm: Wpm::read(metadata, &vocabulary)? },
        };
        Ok(Self { vocabulary, roles, engine })
    }

    /// Returns the ids of `text`, without a BOS or EOS around them. Texts of control tokens such as `</s>` become these
    /// tokens if `parse_special` is true, and ordinary text otherwise.
    ///
    /// # Errors
    /// Fails when the vocabulary cannot express the text, or when matching the pre-tokenizer's expressions fails.
    pub fn encode(&self, text: &str, parse_special: bool) -> Result<Vec<u32>, TokenizerError> {
        let mut out = Vec::with_capacity(text.len() / 3);
        match &self.engine {
            Engine::Spm { splitter, spm } => {
                // SentencePiece puts a space before each text, and so before the text after a special token.
                let mut begins = true;
                for fragment in splitter.split(text, parse_special) {
                    match fragment {
                        Fragment::Text(text) => spm.encode(text, begins, &mut out)?,
                        Fragment::Token(id) => out.push(id),
                    }
                    begins = matches!(fragment, Fragment::Token(_));
                }
            }
            Engine::Bpe { splitter, bpe } => {
                for fragment in splitter.split(text, parse_special) {
                    match fragment {
                        Fragment::Text(text) => bpe.encode(text, &mut out)?,
                        Fragment::Token(id) => out.push(id),
                    }
                }
            }
            Engine::Ugm { splitter, ugm } => {
                for fragment in splitter.split(text, parse_special) {
                    match fragment {
                        Fragment::Text(text) => ugm.encode(text, &mut out),
                        Fragment::Token(id) => out.push(id),
                    }
                }
            }
            Engine::Wpm { splitter, wpm } => {
                for fragment in splitter.split(text, parse_special) {
                    match fragment {
                        Fragment::Text(text) => wpm.encode(text, &mut out),
                        Fragment::Token(id) => out.push(id),
                    }
                }
            }
        }
        Ok(out)
    }

    /// Returns the text of `ids`: the bytes of their pieces, with invalid UTF-8 replaced, without the space that encoding
    /// puts first.
    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| self.piece(id)).copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        match text.strip_prefix(' ') {
            Some(rest) if self.vocabulary.prefixes_space() => rest.to_owned(),
            _ => text.into_owned(),
        }
    }

    /// Returns the bytes of one token, which may be a part of a character: they are empty for tokens that are no text
    /// (control, unknown, unused) and for ids outside the vocabulary.
    pub fn piece(&self, id: u32) -> &[u8] {
        self.vocabulary.piece(id)
    }

    /// Returns the number of ids, including those without a token.
    pub fn vocab_size(&self) -> usize {
        self.vocabulary.len()
    }

    /// Returns the token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.roles.bos
    }

    /// Returns the token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.roles.eos
    }

    /// Returns the token that ends a turn of a conversation.
    pub fn eot(&self) -> Option<u32> {
        self.roles.eot
    }

    /// Returns the BOS if the model needs one before each text.
    pub fn add_bos(&self) -> Option<u32> {
        self.roles.bos.filter(|_| self.roles.add_bos)
    }

    /// Returns the EOS if the model needs one after each text.
    pub fn add_eos(&self) -> Option<u32> {
        self.roles.eos.filter(|_| self.roles.add_eos)
    }

    /// Returns true if generation stops at `id`.
    pub fn is_end(&self, id: u32) -> bool {
        self.roles.ends.contains(&id)
    }
}
