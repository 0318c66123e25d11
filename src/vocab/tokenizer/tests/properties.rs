//! Tests of properties that hold for any text.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::library::Library;
use super::{Tokenizer, from_keys, library};

/// A model's tokenizer, and the library's.
struct Both {
    library: Library,
    keys: Tokenizer,
}

impl Both {
    fn new(folder: &str, architecture: &str) -> Self {
        Self { library: library(folder), keys: from_keys(folder, architecture) }
    }

    /// Returns the ids, which must be the same either way.
    fn encode(&self, text: &str, parse_special: bool) -> Vec<u32> {
        let ids = self.keys.encode(text, parse_special).unwrap();
        assert_eq!(self.library.encode(text, parse_special), ids, "{text:?}");
        ids
    }
}

static SPM: LazyLock<Both> = LazyLock::new(|| Both::new("tiny-llama", "llama"));
static BPE: LazyLock<Both> = LazyLock::new(|| Both::new("tokenizers/gpt2-4m", "gpt2"));

/// Generates texts that are difficult for tokenizers.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => "[a-zA-Z']{1,8}",
        3 => "[ \t\r\n]{1,4}",
        2 => "\\PC{1,4}",
        1 => any::<String>(),
        1 => "[0-9.,!?]{1,6}",
        1 => prop::sample::select(vec!["</s>", "<s>", "<unk>", "<|endoftext|>", "▁", "<0x0A>"]).prop_map(String::from),
    ];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn ids_are_the_librarys(text in text(), parse_special: bool) {
        SPM.encode(&text, parse_special);
        BPE.encode(&text, parse_special);
    }

    #[test]
    fn byte_level_bpe_loses_nothing(text in text()) {
        prop_assert_eq!(BPE.keys.decode(&BPE.encode(&text, false)), text);
    }

    /// Only a visible space in the text is lost, which SentencePiece cannot distinguish from an ordinary one.
    #[test]
    fn sentencepiece_loses_nothing_but_its_own_space(text in text()) {
        prop_assert_eq!(SPM.keys.decode(&SPM.encode(&text, false)), text.replace('▁', " "));
    }

    #[test]
    fn pieces_are_the_text(text in text()) {
        let bytes: Vec<u8> = BPE.encode(&text, false).iter().flat_map(|&id| BPE.keys.piece(id)).copied().collect();
        prop_assert_eq!(bytes, text.into_bytes());
    }
}
