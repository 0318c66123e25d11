//! The tokens that begin and end a text.
//!
//! Keys take precedence; roles without a key are found by the tokens' texts, as in llama.cpp.

use std::collections::BTreeSet;

use kquant_formats::gguf::Metadata;

use super::super::named::{NAMED, OTHER_ENDS, TURN_ENDS};
use super::super::special::{ADD_BOS, ADD_EOS, EOT};
use super::super::tokens::Kind;
use super::keys::{self, Model};
use super::vocabulary::Vocabulary;

/// Names of pre-tokenizers whose models need a BOS if `add_bos_token` is missing.
const PRE_WITH_BOS: &[&str] = &[
    "chameleon",
    "falcon-h1",
    "falcon3",
    "jina-v5-nano",
    "lfm2",
    "llama-bpe",
    "llama-v3",
    "llama3",
    "midm-2.0",
    "pixtral",
    "tekken",
];

/// Key of the token that separates texts, spelled as GGUF does; it ends each text of BERT.
const SEPARATOR: &str = "tokenizer.ggml.seperator_token_id";

/// Texts of tokens that are shown, whatever kind the file gives them (gpt-oss).
const SHOWN: &[&str] = &["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

/// The tokens that begin and end a text.
#[derive(Debug, Default)]
pub(super) struct Roles {
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) eot: Option<u32>,
    pub(super) add_bos: bool,
    pub(super) add_eos: bool,
    pub(super) ends: BTreeSet<u32>,
}

impl Roles {
    /// Reads the keys and searches the texts. Tokens found by their texts become control tokens, whatever kind the file
    /// gives them.
    pub(super) fn read(metadata: &Metadata, model: Model, vocabulary: &mut Vocabulary) -> Self {
        let id = |role, default: Option<u32>| {
            let count = vocabulary.len();
            let default = default.filter(|&id| (id as usize) < count);
            keys::id(metadata, role, count).or(default)
        };
        let [spm, ugm, wpm] = [Model::Spm, Model::Ugm, Model::Wpm].map(|kind| model == kind);
        let separator = id(SEPARATOR, Some(102)).filter(|_| wpm);
        let mut roles = Self {
            bos: id("tokenizer.ggml.bos_token_id", spm.then_some(1).or(wpm.then_some(101))),
            eos: separator.or(id("tokenizer.ggml.eos_token_id", spm.then_some(2).or(ugm.then_some(1)))),
            eot: id(EOT, None),
            // Texts of BERT are always between two tokens, whatever the flags say.
            add_bos: wpm
                || keys::flag(metadata, ADD_BOS)
                    .unwrap_or(spm || model == Model::Bpe && PRE_WITH_BOS.contains(&keys::pre(metadata))),
            add_eos: wpm || keys::flag(metadata, ADD_EOS).unwrap_or(ugm),
            ends: BTreeSet::new(),
        };
        roles.search(metadata, vocabulary);
        roles.ends.extend([roles.eos, roles.eot].into_iter().flatten());
        roles.except(vocabulary);
        roles
    }

    /// Finds tokens by their texts.
    fn search(&mut self, metadata: &Metadata, vocabulary: &mut Vocabulary) {
        let find = |vocabulary: &Vocabulary, texts: &[&str]| -> Vec<u32> {
            vocabulary.iter().filter(|(_, text)| texts.contains(text)).map(|(id, _)| id).collect()
        };
        for named in NAMED {
            let count = vocabulary.len();
            let given = named.keys.iter().find_map(|key| keys::id(metadata, key, count));
            let found = match given {
                Some(id) => Some(id),
                None => find(vocabulary, named.texts).first().copied(),
            };
            let Some(id) = found else { continue };
            if given.is_none() {
                vocabulary.set_kind(id, Kind::Control);
            }
            if named.ends {
                self.ends.insert(id);
            }
        }
        let turn_ends = find(vocabulary, TURN_ENDS);
        self.eot = self.eot.or(TURN_ENDS.iter().find_map(|text| find(vocabulary, &[text]).first().copied()));
        for id in turn_ends.into_iter().chain(find(vocabulary, OTHER_ENDS)) {
            vocabulary.set_kind(id, Kind::Control);
            self.ends.insert(id);
        }
        for id in find(vocabulary, SHOWN) {
            vocabulary.set_kind(id, Kind::UserDefined);
        }
    }

    /// Removes ends in families where a token only looks like one.
    fn except(&mut self, vocabulary: &mut Vocabulary) {
        let find = |text: &str| vocabulary.iter().find(|(_, known)| *known == text).map(|(id, _)| id);
        let ends = |text| find(text).filter(|id| self.ends.contains(id));
        let calls = ends("<|call|>").or(ends("<|calls|>")).is_some();
        let (end, close) = (ends("<|end|>"), ends("</s>"));
        let harmony = calls && (ends("<|return|>").is_some() || ends("<|flush|>").is_some());
        let gemma = ends("<|tool_response>").or(ends("<|plamo:eos|>")).is_some();
        if let Some(id) = end.filter(|_| harmony) {
            self.ends.remove(&id);
            vocabulary.set_kind(id, Kind::UserDefined);
        }
        if let Some(id) = close.filter(|_| gemma) {
            self.ends.remove(&id);
            vocabulary.set_kind(id, Kind::Normal);
        }
    }
}
