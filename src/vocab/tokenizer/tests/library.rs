//! Hugging Face's `tokenizers` library, which our own steps from text to ids are checked against.

use std::path::Path;

use tokenizers::{DecoderWrapper, PostProcessorWrapper, Tokenizer};

/// The tokenizer of a `tokenizer.json`, without what adds tokens around a text.
pub(super) struct Library {
    /// Treats special tokens as text.
    plain: Tokenizer,
    /// Finds special tokens.
    special: Tokenizer,
}

impl Library {
    pub(super) fn open(path: &Path) -> Self {
        let mut plain = Tokenizer::from_file(path).unwrap();
        plain.with_truncation(None).unwrap().with_padding(None);
        plain.with_post_processor(None::<PostProcessorWrapper>).with_decoder(None::<DecoderWrapper>);
        let special = plain.clone();
        plain.set_encode_special_tokens(true);
        Self { plain, special }
    }

    pub(super) fn encode(&self, text: &str, parse_special: bool) -> Vec<u32> {
        let library = if parse_special { &self.special } else { &self.plain };
        library.encode_fast(text, false).unwrap().get_ids().to_vec()
    }
}
