//! Ids of special tokens, and which of them tokenizing adds by itself.
//!
//! Follows gguf-py's `SpecialVocab`, its order of keys included: `tokenizer_config.json` names the tokens,
//! `tokenizer.json` gives them ids, `config.json` fills in what is left.

use kquant_formats::gguf::{Array, Metadata, Value as Kv};
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
/// The token for what has no other.
pub(super) const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";

/// Special tokens by role, in the order in which they were found.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Special {
    ids: Vec<(&'static str, u32)>,
    add: Vec<(&'static str, bool)>,
}

/// The texts of all tokens, by id; none before they are known.
pub(super) fn texts(keys: &Metadata) -> &[String] {
    match keys.get("tokenizer.ggml.tokens") {
        Some(Kv::Array(Array::String(texts))) => texts,
        _ => &[],
    }
}

impl Special {
    /// Reads the ids of `roles`; ids of `count` and above have no embedding and are left out.
    pub(super) fn read(files: &Files, config: &Value, roles: &[&'static str], count: u64) -> Self {
        let found = Roles::read(files, roles);
        let mut special = Self { ids: Vec::new(), add: found.add.clone() };
        if found.configured {
            special.configured(files, &found, count);
        }
        for role in &found.roles {
            let key = format!("{role}_token_id");
            let id = match config.get(&key) {
                None | Some(Value::Null) => config.get("text_config").and_then(|text| text.get(&key)),
                id => id,
            };
            special.set_id(role, id, count);
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

    /// Gives `role` an id unless it has one. Lists (several ends of sequence) and -1 (none, at which the
    /// converter stops) are no ids.
    pub(super) fn set_id(&mut self, role: &'static str, id: Option<&Value>, count: u64) {
        let Some(id) = id.and_then(Value::as_u64).filter(|&id| id < count) else { return };
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
        "eom" => "tokenizer.ggml.eom_token_id",
        _ => return None,
    })
}
