//! `tokenizer.json` and `tokenizer_config.json` with some of their tokens.

use std::collections::HashSet;
use std::path::Path;

use serde_json::{Map, Value as Json};

use super::FolderError;
use super::ids::renumbered;
use super::tokens::Kept;

/// Returns the content of `tokenizer.json`, `file`, with the tokens `kept` alone.
///
/// # Errors
/// Fails when its model is neither BPE nor Unigram.
pub(super) fn trimmed(path: &Path, mut file: Json, kept: &Kept) -> Result<Json, FolderError> {
    let fault = |what: String| FolderError::Tokenizer { path: path.to_owned(), what };
    if let Some(added) = file.get_mut("added_tokens").and_then(Json::as_array_mut) {
        added.retain_mut(|token| renumber_entry(token, "id", kept));
    }
    if let Some(pad) = file.get_mut("padding").filter(|padding| padding.is_object()) {
        renumber_entry(pad, "pad_id", kept);
    }
    if let Some(post) = file.get_mut("post_processor") {
        post_processor(post, kept);
    }
    let model = file.get_mut("model").ok_or_else(|| fault("has no \"model\"".to_owned()))?;
    match model.get("vocab") {
        Some(Json::Object(_)) => {
            bpe(model, kept).ok_or_else(|| fault("its BPE model is malformed".to_owned()))?
        }
        Some(Json::Array(_)) => unigram(model, kept).ok_or_else(|| {
            fault("its Unigram model has no token for unknown text among those that are kept".to_owned())
        })?,
        _ => return Err(fault("its model has no vocabulary that is known".to_owned())),
    }
    Ok(file)
}

/// Gives the id under `key` of `entry` its new number; returns false if the token is lost.
fn renumber_entry(entry: &mut Json, key: &str, kept: &Kept) -> bool {
    let Some(value) = entry.get_mut(key) else { return true };
    match value.as_u64().map(|id| kept.new_id(id)) {
        Some(Some(new)) => *value = new.into(),
        Some(None) => return false,
        None => {}
    }
    true
}

/// Takes lost tokens out of the vocabulary and merges with one out of the merges.
fn bpe(model: &mut Json, kept: &Kept) -> Option<()> {
    let vocab = model.get_mut("vocab")?.as_object_mut()?;
    let old = std::mem::take(vocab);
    let left = old.into_iter().filter_map(|(text, id)| Some((text, kept.new_id(id.as_u64()?)?.into())));
    *vocab = left.collect();
    let texts: HashSet<String> = vocab.keys().cloned().collect();
    let Some(merges) = model.get_mut("merges").and_then(Json::as_array_mut) else { return Some(()) };
    merges.retain(|merge| {
        let halves = match merge {
            Json::String(text) => text.split_once(' '),
            other => other.get(0).and_then(Json::as_str).zip(other.get(1).and_then(Json::as_str)),
        };
        halves.is_some_and(|(left, right)| {
            let joined = format!("{left}{right}");
            [left, right, &joined].iter().all(|text| texts.contains(*text))
        })
    });
    Some(())
}

/// Takes lost pieces out of the list, whose indices are ids.
fn unigram(model: &mut Json, kept: &Kept) -> Option<()> {
    let unknown = model.get("unk_id").and_then(Json::as_u64);
    let new = unknown.map(|id| kept.new_id(id).ok_or(())).transpose().ok()?;
    let vocab = model.get_mut("vocab")?.as_array_mut()?;
    let mut id = 0;
    vocab.retain(|_| {
        id += 1;
        !kept.is_lost(id - 1)
    });
    if let Some(new) = new {
        *model.get_mut("unk_id")? = new.into();
    }
    Some(())
}

/// Gives the ids that a post-processor, or one of several, adds their new numbers.
fn post_processor(post: &mut Json, kept: &Kept) {
    if let Some(steps) = post.get_mut("processors").and_then(Json::as_array_mut) {
        steps.iter_mut().for_each(|step| post_processor(step, kept));
    }
    // A template names its tokens with lists of ids.
    for token in
        post.get_mut("special_tokens").and_then(Json::as_object_mut).into_iter().flat_map(Map::values_mut)
    {
        if let Some(ids) = token.get_mut("ids") {
            *ids = renumbered(ids, kept).unwrap_or_else(|| Json::Array(Vec::new()));
        }
    }
    // BERT's and RoBERTa's name a text and an id.
    for role in ["sep", "cls"] {
        if let Some(id) = post.get_mut(role).and_then(|pair| pair.get_mut(1)) {
            *id = renumbered(id, kept).unwrap_or(Json::Null);
        }
    }
}

/// Returns the content of `tokenizer_config.json`, `file`, with the added tokens that are kept.
pub(super) fn trimmed_settings(mut file: Json, kept: &Kept) -> Json {
    let mut lost = HashSet::new();
    if let Some(added) = file.get_mut("added_tokens_decoder").and_then(Json::as_object_mut) {
        let old = std::mem::take(added);
        for (id, token) in old {
            match id.parse().ok().and_then(|id| kept.new_id(id)) {
                Some(new) => drop(added.insert(new.to_string(), token)),
                None => lost.extend(token.get("content").and_then(Json::as_str).map(str::to_owned)),
            }
        }
    }
    if let Some(names) = file.get_mut("additional_special_tokens").and_then(Json::as_array_mut) {
        names.retain(|name| name.as_str().is_none_or(|name| !lost.contains(name)));
    }
    file
}

/// Returns a plain map of texts to ids, as `added_tokens.json` is, with the tokens that are kept.
pub(super) fn trimmed_map(file: Map<String, Json>, kept: &Kept) -> Map<String, Json> {
    file.into_iter().filter_map(|(text, id)| Some((text, kept.new_id(id.as_u64()?)?.into()))).collect()
}
