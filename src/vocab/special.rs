//! Ids of special tokens, and which of them tokenizing adds by itself.
//!
//! Follows gguf-py's `SpecialVocab`, its order of keys included: `tokenizer_config.json` names the tokens,
//! `tokenizer.json` gives them ids, `config.json` fills in what is left. What that leaves out is added: ids of tokens that
//! are in the vocabulary without being listed as added, the first id of a list, and `tokenizer.model`'s own.

use std::collections::HashMap;

use kquant_formats::gguf::{Array, Metadata, Value as Kv};
use kquant_formats::sentencepiece::{PieceKind, SentencePiece};
use serde_json::Value;

use super::added;
use super::files::Files;
use super::post_processor::Roles;

/// The roles that every vocabulary is asked for.
pub(super) const ROLES: &[&str] = &["bos", "eos", "unk", "sep", "pad", "cls", "mask"];

/// Whether tokenizing puts a BOS first.
pub(super) const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
/// Whether it puts an EOS last.
pub(super) const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";
/// The token that ends a text.
pub(super) const EOS: &str = "tokenizer.ggml.eos_token_id";
/// The token that ends a turn of a conversation.
pub(super) const EOT: &str = "tokenizer.ggml.eot_token_id";
/// The token that ends a message, after which the turn goes on.
pub(super) const EOM: &str = "tokenizer.ggml.eom_token_id";
/// The token for what has no other.
pub(super) const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";

/// Special tokens by role, in the order in which they were found.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Special {
    ids: Vec<(&'static str, u32)>,
    add: Vec<(&'static str, bool)>,
}

/// The ids that a `tokenizer.model` gives to roles itself. Its padding is one of training, which no text has.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct OwnIds {
    bos: Option<u32>,
    eos: Option<u32>,
    unknown: Option<u32>,
}

impl OwnIds {
    /// Those of `model`, as far as its pieces bear them out: the format's defaults stand where a file says nothing.
    pub(super) fn of(model: &SentencePiece) -> Self {
        let marked = |id: Option<u32>| {
            let piece = |id: &u32| model.pieces.get(usize::try_from(*id).ok()?);
            let is_marked = |id: &u32| {
                piece(id).is_some_and(|p| matches!(p.kind, PieceKind::Control | PieceKind::Unknown))
            };
            id.filter(is_marked)
        };
        Self { bos: marked(model.bos_id), eos: marked(model.eos_id), unknown: marked(model.unknown_id) }
    }

    fn get(self, role: &str) -> Option<u32> {
        match role {
            "bos" => self.bos,
            "eos" => self.eos,
            "unk" => self.unknown,
            _ => None,
        }
    }
}

/// The final list of tokens, in which roles are looked up.
#[derive(Debug)]
pub(super) struct Listed<'a> {
    ids: HashMap<&'a str, u64>,
    /// Number of ids.
    count: u64,
    own: OwnIds,
}

impl<'a> Listed<'a> {
    /// Of the texts of all tokens, by id, and the ids that their file itself gives to roles.
    pub(super) fn new(texts: impl Iterator<Item = &'a str>, own: OwnIds) -> Self {
        let mut listed = Self { ids: HashMap::new(), count: 0, own };
        for text in texts {
            listed.ids.entry(text).or_insert(listed.count);
            listed.count += 1;
        }
        listed
    }

    /// Number of ids.
    pub(super) fn count(&self) -> u64 {
        self.count
    }
}

/// The texts of all tokens, by id; none before they are known.
pub(super) fn texts(keys: &Metadata) -> &[String] {
    match keys.get("tokenizer.ggml.tokens") {
        Some(Kv::Array(Array::String(texts))) => texts,
        _ => &[],
    }
}

impl Special {
    /// Reads the ids of `roles`; ids beyond the list have no embedding and are left out.
    pub(super) fn read(files: &Files, config: &Value, roles: &[&'static str], listed: &Listed) -> Self {
        let found = Roles::read(files, roles);
        let mut special = Self { ids: Vec::new(), add: found.add.clone() };
        if found.configured {
            special.configured(files, &found, listed.count);
        }
        for role in &found.roles {
            let token = if found.configured { found.token(role) } else { None };
            let looked_up = token.as_ref().and_then(added::text_of).and_then(|text| listed.ids.get(text));
            special.set_id(role, looked_up.map(|&id| Value::from(id)).as_ref(), listed.count);
            special.set_id(role, configured_id(config, role), listed.count);
            if let (Some(generation), "eos") = (&files.generation, *role) {
                special.set_id(role, configured_id(&generation.value, role), listed.count);
            }
            special.set_id(role, listed.own.get(role).map(Value::from).as_ref(), listed.count);
        }
        special
    }

    /// What `tokenizer_config.json` says, in the order of the roles.
    fn configured(&mut self, files: &Files, found: &Roles, count: u64) {
        let tokenizer = files.tokenizer.as_ref();
        let entries = tokenizer.and_then(|file| file.value.get("added_tokens")?.as_array());
        for role in &found.roles {
            if let Some(Value::Bool(value)) = files.config(&format!("add_{role}_token"))
                && self.add.iter().all(|(known, _)| known != role)
            {
                self.add.push((role, *value));
            }
            let Some(token) = found.token(role) else { continue };
            let Some(text) = added::text_of(&token) else { continue };
            let is_it = |entry: &&Value| entry.get("content").and_then(Value::as_str) == Some(text);
            let entry = entries.into_iter().flatten().find(is_it);
            self.set_id(role, entry.and_then(|entry| entry.get("id")), count);
        }
    }

    /// Gives `role` an id unless it has one: a number, or the first of a list. -1 (none, at which the converter stops) is
    /// no id.
    pub(super) fn set_id(&mut self, role: &'static str, id: Option<&Value>, count: u64) {
        let Some(id) = id.and_then(|id| numbers(id).into_iter().find(|&id| id < count)) else { return };
        if let Ok(id) = u32::try_from(id)
            && self.ids.iter().all(|(known, _)| *known != role)
        {
            self.ids.push((role, id));
        }
    }

    /// Sets the keys. Roles that GGUF has no key for are dropped.
    pub(super) fn write(&self, out: &mut Metadata) {
        for &(role, id) in &self.ids {
            if let Some(key) = id_key(role) {
                out.set(key, Kv::U32(id));
            }
        }
        for &(role, value) in &self.add {
            if matches!(role, "bos" | "eos" | "sep") {
                out.set(format!("tokenizer.ggml.add_{role}_token"), Kv::Bool(value));
            }
        }
    }
}

/// `ROLE_token_id` of a configuration, or of its text part.
pub(super) fn configured_id<'a>(config: &'a Value, role: &str) -> Option<&'a Value> {
    let key = format!("{role}_token_id");
    match config.get(&key) {
        None | Some(Value::Null) => config.get("text_config")?.get(&key),
        id => id,
    }
}

/// The ids in a number or a list of numbers; what is negative or no number is none.
pub(super) fn numbers(id: &Value) -> Vec<u64> {
    match id {
        Value::Array(list) => list.iter().filter_map(Value::as_u64).collect(),
        id => id.as_u64().into_iter().collect(),
    }
}

/// The key of a role's id; `seperator` is GGUF's own spelling.
fn id_key(role: &str) -> Option<&'static str> {
    Some(match role {
        "bos" => "tokenizer.ggml.bos_token_id",
        "eos" => EOS,
        "unk" => UNKNOWN,
        "sep" => "tokenizer.ggml.seperator_token_id",
        "pad" => "tokenizer.ggml.padding_token_id",
        "mask" => "tokenizer.ggml.mask_token_id",
        "eot" => EOT,
        "eom" => EOM,
        _ => return None,
    })
}
