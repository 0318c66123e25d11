//! Settings of a tokenizer that a GGUF cannot express, so that llama.cpp finds other tokens than the model knows.

use std::collections::BTreeSet;

use kquant_formats::gguf::{Array, Metadata, Value as Kv};
use serde_json::Value;

use super::files::{Files, Json};
use super::spaces::{kind, steps};
use super::special::{self, configured_id, numbers};
use super::tokens::Kind;
use super::{added, beside, ends, model};

/// Flags of added tokens that llama.cpp lacks.
const FLAGS: [&str; 3] = ["lstrip", "rstrip", "single_word"];

/// Largest number of tokens that a warning names.
const SHOWN: usize = 5;

/// Compares the files with the keys made of them and returns warnings.
pub(super) fn of(files: &Files, config: &Value, keys: &Metadata) -> Vec<String> {
    let texts = special::texts(keys);
    let mut out = Vec::from_iter(beyond(files, texts.len() as u64));
    out.extend(distant(files, config, texts.len() as u64));
    out.extend(random(files));
    out.extend(ends::warnings(files, config, texts, keys));
    let kind_of_model = keys.get("tokenizer.ggml.model").and_then(Kv::as_str);
    let types = keys.get("tokenizer.ggml.token_type");
    let has_bytes =
        matches!(types, Some(Kv::Array(Array::I32(types))) if types.contains(&(Kind::Byte as i32)));
    if kind_of_model == Some("t5") && has_bytes {
        out.push(
            "the tokenizer writes what has no token in bytes; llama.cpp's Unigram tokenizer makes unknown tokens of it"
                .to_owned(),
        );
    }
    if let (Some(Kv::Array(Array::I32(types))), true) =
        (types, kind_of_model != Some("gpt2") && files.model().is_some())
    {
        out.extend(beside::warnings(files, texts, types));
    }
    let Some(file) = &files.tokenizer else { return out };
    if kind_of_model == Some("gpt2") {
        let left_out = steps(file, "normalizer", "normalizers");
        let left_out = left_out.into_iter().filter(|step| !is_harmless(kind(step)));
        out.extend(left_out.map(|step| {
            format!("llama.cpp's byte-level BPE has no normalizer; the tokenizer's is left out: {step}")
        }));
    }
    out.extend(flags(file));
    out
}

/// Returns warnings on settings that make tokenizing random, for training.
fn random(files: &Files) -> Vec<String> {
    let dropout = files.tokenizer.as_ref().and_then(|file| model::dropout(file).ok()?);
    let sampling = files.config("sp_model_kwargs").and_then(|kwargs| kwargs.get("enable_sampling"));
    let sampling = sampling.filter(|value| value.as_bool() == Some(true));
    let left_out = "which makes token ids random for training; it is left out";
    let dropout = dropout.map(|share| format!("model.dropout of tokenizer.json is {share}, {left_out}"));
    let sampling =
        sampling.map(|_| format!("sp_model_kwargs of tokenizer_config.json has enable_sampling, {left_out}"));
    dropout.into_iter().chain(sampling).collect()
}

/// Returns a warning on added tokens that have no row of the embedding.
fn beyond(files: &Files, rows: u64) -> Option<String> {
    let added = added::all(files);
    let found: BTreeSet<(u64, &str)> = added
        .iter()
        .filter(|token| token.id >= rows)
        .map(|token| (token.id, token.content.as_str()))
        .collect();
    let names: Vec<String> =
        found.iter().take(SHOWN).map(|(id, content)| format!("{content:?} ({id})")).collect();
    (!found.is_empty()).then(|| {
        format!(
            "the embedding has {rows} rows, which leaves none for {} added tokens, and they are left out: {}{}",
            found.len(),
            names.join(", "),
            and_more(found.len())
        )
    })
}

/// Returns warnings on ids of roles in `config.json` that have no row of the embedding.
fn distant<'a>(files: &Files, config: &'a Value, rows: u64) -> impl Iterator<Item = String> + use<'a> {
    let generation = files.generation.as_ref().and_then(|file| configured_id(&file.value, "eos"));
    let generation = generation.map(numbers).unwrap_or_default().into_iter();
    let generation = generation.map(|id| ("generation_config.json", "eos", id));
    let configured = special::ROLES.iter().flat_map(move |role| {
        let ids = configured_id(config, role).map(numbers).unwrap_or_default();
        ids.into_iter().map(move |id| ("config.json", *role, id))
    });
    let distant = configured.chain(generation).filter(move |(_, _, id)| *id >= rows);
    distant.take(ends::MOST).map(move |(file, role, id)| {
        format!("{role}_token_id of {file} is {id}, but the embedding has {rows} rows; the id is left out")
    })
}

/// Returns the words that follow the first names of a list of `count`.
fn and_more(count: usize) -> String {
    let more = count.checked_sub(SHOWN).filter(|&more| more > 0);
    more.map_or_else(String::new, |more| format!(" and {more} more"))
}

/// Returns true if a normalizer changes no text as it is usually written, or has a key.
fn is_harmless(kind: &str) -> bool {
    matches!(kind, "" | "NFC" | "Lowercase" | "StripAccents")
}

/// Returns a warning on added tokens with flags. Phi-3's are not among them, because llama.cpp recognises that model by
/// its name.
fn flags(file: &Json) -> Option<String> {
    let entries = file.value.get("added_tokens").and_then(Value::as_array)?;
    let flagged = |flag: &&str, entry: &Value| entry.get(*flag).and_then(Value::as_bool).unwrap_or(false);
    let content = |entry: &Value| entry.get("content").and_then(Value::as_str).unwrap_or_default().to_owned();
    let found: Vec<&Value> =
        entries.iter().filter(|entry| FLAGS.iter().any(|flag| flagged(flag, entry))).collect();
    if found.is_empty() || found.iter().any(|entry| content(entry) == "<|assistant|>") {
        return None;
    }
    let names: Vec<String> = found.iter().take(SHOWN).map(|entry| format!("{:?}", content(entry))).collect();
    let more = and_more(found.len());
    Some(format!(
        "{} added tokens swallow the spaces beside them or are whole words only (lstrip, rstrip, single_word), of which \
         llama.cpp knows nothing: {}{more}",
        found.len(),
        names.join(", ")
    ))
}
