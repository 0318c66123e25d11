//! Ids of special tokens, and flags of those that tokenizing adds by itself.
//!
//! The rules and the order of keys are those of gguf-py's `SpecialVocab`: `tokenizer_config.json` names the tokens,
//! `tokenizer.json` gives them ids, and `config.json` fills in missing ones. Three sources are added to these: ids of
//! tokens that are in the vocabulary without being listed as added, the first id of a list, and `tokenizer.model`'s own
//! ids.

use std::collections::HashMap;

use kquant_formats::gguf::{Array, Metadata, Value as Kv};
use kquant_formats::sentencepiece::{PieceKind, SentencePiece};
use serde_json::Value;

use super::added;
use super::files::Files;
use super::post_processor::Roles;

/// Roles that are looked up in every vocabulary.
pub(super) const ROLES: &[&str] = &["bos", "eos", "unk", "sep", "pad", "cls", "mask"];

/// Key of the flag that is true if tokenizing puts a BOS first.
pub(super) const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
/// Key of the flag that is true if tokenizing puts an EOS last.
pub(super) const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";
/// Key of the token that ends a text.
pub(super) const EOS: &str = "tokenizer.ggml.eos_token_id";
/// Key of the token that ends a turn of a conversation.
pub(super) const EOT: &str = "tokenizer.ggml.eot_token_id";
/// Key of the token that ends a message, after which the turn goes on.
pub(super) const EOM: &str = "tokenizer.ggml.eom_token_id";
/// Key of the token for characters that have no other.
pub(super) const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";

/// Special tokens by role, in the order in which they were found.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Special {
    ids: Vec<(&'static str, u32)>,
    add: Vec<(&'static str, bool)>,
}

/// The ids that a `tokenizer.model` gives to roles. Its padding is left out, as it is for training and no text has it.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct OwnIds {
    bos: Option<u32>,
    eos: Option<u32>,
    unknown: Option<u32>,
}

impl OwnIds {
    /// Returns the ids in `model` whose pieces are marked as such, because ids that a file does not set have the format's
    /// defaults.
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
    /// Creates the list from the texts of all tokens, by id, and the ids that their file gives to roles.
    pub(super) fn new(texts: impl Iterator<Item = &'a str>, own: OwnIds) -> Self {
        let mut listed = Self { ids: HashMap::new(), count: 0, own };
        for text in texts {
            listed.ids.entry(text).or_insert(listed.count);
            listed.count += 1;
        }
        listed
    }

    /// Returns the number of ids.
    pub(super) fn count(&self) -> u64 {
        self.count
    }
}

/// Returns the texts of all tokens, by id; empty before they are known.
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

    /// Reads the settings of `tokenizer_config.json`, in the order of the roles.
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

    /// Sets the id of `role`, unless it has one, to a number or to the first of a list. The id -1, which stands for none
    /// and at which the converter stops, is ignored.
    pub(super) fn set_id(&mut self, role: &'static str, id: Option<&Value>, count: u64) {
        let Some(id) = id.and_then(|id| numbers(id).into_iter().find(|&id| id < count)) else { return };
        if let Ok(id) = u32::try_from(id)
            && self.ids.iter().all(|(known, _)| *known != role)
        {
            self.ids.push((role, id));
        }
    }

    /// Writes the keys; roles that GGUF has no key for are left out.
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

/// Returns `ROLE_token_id` of a configuration, or of its text part.
pub(super) fn configured_id<'a>(config: &'a Value, role: &str) -> Option<&'a Value> {
    let key = format!("{role}_token_id");
    match config.get(&key) {
        None | Some(Value::Null) => config.get("text_config")?.get(&key),
        id => id,
    }
}

/// Returns the ids in a number or a list of numbers; values that are negative or not numbers are left out.
pub(super) fn numbers(id: &Value) -> Vec<u64> {
    match id {
        Value::Array(list) => list.iter().filter_map(Value::as_u64).collect(),
        id => id.as_u64().into_iter().collect(),
    }
}

/// Returns the key of a role's id; `seperator` is GGUF's own spelling.
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
