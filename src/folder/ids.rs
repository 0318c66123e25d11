//! Values of configurations that name tokens by their ids, or the type of the weights.

use serde_json::{Map, Value as Json};

use super::tokens::Kept;

/// Ends of keys whose values are ids.
const ENDS: [&str; 3] = ["_token_id", "_token_ids", "_token_index"];

/// Keys of lists of ids with other names.
const LISTS: [&str; 3] = ["suppress_tokens", "begin_suppress_tokens", "bad_words_ids"];

/// Gives the ids in `config`, and in its sections, their new numbers. A lost id becomes null, or leaves its list.
pub(super) fn renumber(config: &mut Map<String, Json>, kept: &Kept) {
    if kept.is_all() {
        return;
    }
    for (key, value) in config.iter_mut() {
        let names_ids = ENDS.iter().any(|end| key.ends_with(end)) || LISTS.contains(&key.as_str());
        match value {
            Json::Object(section) => renumber(section, kept),
            value if names_ids => *value = renumbered(value, kept).unwrap_or(Json::Null),
            _ => {}
        }
    }
}

/// Returns the ids of `value`, one or a list, with their new numbers; `None` if nothing is left. Negative numbers stand for
/// no token and stay.
pub(super) fn renumbered(value: &Json, kept: &Kept) -> Option<Json> {
    match value {
        Json::Number(id) => match id.as_u64() {
            Some(id) => kept.new_id(id).map(Json::from),
            None => Some(value.clone()),
        },
        Json::Array(list) if list.is_empty() => Some(value.clone()),
        Json::Array(list) => {
            // A sequence of tokens of which one is lost cannot occur any more; a list of single ids loses these alone.
            let whole =
                |item: &Json| item.as_array().is_some_and(|ids| ids.iter().any(|id| is_lost(id, kept)));
            let left: Vec<Json> =
                list.iter().filter(|item| !whole(item)).filter_map(|item| renumbered(item, kept)).collect();
            (!left.is_empty()).then_some(Json::Array(left))
        }
        other => Some(other.clone()),
    }
}

fn is_lost(id: &Json, kept: &Kept) -> bool {
    id.as_u64().is_some_and(|id| kept.is_lost(id))
}

/// Writes the type of the weights, `F32`, `F16` or `BF16`, where `config` or a section of it names one.
pub(super) fn set_type(config: &mut Map<String, Json>, kind: &str) {
    let name = match kind {
        "F32" => "float32",
        "F16" => "float16",
        _ => "bfloat16",
    };
    for (key, value) in config.iter_mut() {
        match value {
            Json::Object(section) => set_type(section, kind),
            value if ["torch_dtype", "dtype"].contains(&key.as_str()) && value.is_string() => {
                *value = name.into()
            }
            _ => {}
        }
    }
}
