//! A model with some of its tokens.

use std::collections::HashSet;
use std::sync::Arc;

use kquant_formats::gguf::{Array, Metadata, Value};

use crate::convert::Converted;
use crate::tensor::{MappedTensor, Selection};

const TOKENS: &str = "tokenizer.ggml.tokens";
const MERGES: &str = "tokenizer.ggml.merges";

/// Lists with one element for each token.
const PER_TOKEN: [&str; 3] = [TOKENS, "tokenizer.ggml.scores", "tokenizer.ggml.token_type"];

/// Tensors with one row for each token.
const ROWS: [&str; 3] = ["token_embd.weight", "output.weight", "per_layer_token_embd.weight"];

/// The bias of the logits, with one element for each token.
const BIAS: &str = "output.bias";

/// The reason why a vocabulary cannot be trimmed.
#[derive(Debug, thiserror::Error)]
pub enum TrimError {
    /// There is no vocabulary to trim.
    #[error("the model has no list of tokens ({TOKENS}); give a model with its tokenizer")]
    NoTokens,
    /// An id is not in the vocabulary.
    #[error("token {id} is to be kept, but the vocabulary has {tokens} tokens")]
    Unknown {
        /// The id.
        id: u32,
        /// Number of tokens.
        tokens: usize,
    },
    /// A key names a token that is lost.
    #[error("`{key}` names token {id}, which is not among those to be kept; keep it")]
    Lost {
        /// The key.
        key: String,
        /// The id.
        id: u32,
    },
    /// A tensor has another number of rows than there are tokens.
    #[error("tensor `{tensor}` has {rows} rows for {tokens} tokens, so that rows cannot be taken by token")]
    Rows {
        /// The tensor.
        tensor: String,
        /// Its rows.
        rows: u64,
        /// Number of tokens.
        tokens: usize,
    },
}

/// Returns `input` with the tokens `kept` alone, which get new ids in the order of their old ones.
///
/// # Errors
/// [`TrimError`], when `kept` lacks a token that a key names, or the model has no vocabulary of the usual form.
pub fn trim(input: &Converted, kept: &[u32]) -> Result<Converted, TrimError> {
    let Some(Value::Array(Array::String(texts))) = input.metadata.get(TOKENS) else {
        return Err(TrimError::NoTokens);
    };
    let mut kept = kept.to_vec();
    kept.sort_unstable();
    kept.dedup();
    if let Some(&id) = kept.last().filter(|&&id| id as usize >= texts.len()) {
        return Err(TrimError::Unknown { id, tokens: texts.len() });
    }
    let kept: Arc<[u32]> = kept.into();
    let tensors = input.tensors.iter().map(|t| trimmed(t, &kept, texts.len()));
    Ok(Converted {
        metadata: keys(&input.metadata, texts, &kept)?,
        tensors: tensors.collect::<Result<_, _>>()?,
        warnings: input.warnings.clone(),
        notes: input.notes.clone(),
        limits: input.limits.clone(),
    })
}

/// Takes the rows of the tokens `kept`, if the tensor has one for each of `tokens` tokens.
fn trimmed(tensor: &MappedTensor, kept: &Arc<[u32]>, tokens: usize) -> Result<MappedTensor, TrimError> {
    let (rows, selection) = match tensor.name.as_str() {
        name if ROWS.contains(&name) => (tensor.rows(), Selection::of_rows(kept.clone())),
        BIAS => (tensor.weights(), Selection::of_columns(kept.clone())),
        _ => return Ok(tensor.clone()),
    };
    match rows == tokens as u64 {
        true => Ok(tensor.select(selection)),
        false => Err(TrimError::Rows { tensor: tensor.name.clone(), rows, tokens }),
    }
}

/// Returns true for a key whose value is the id of a token, or a list of ids.
fn is_id_key(key: &str) -> bool {
    key.starts_with("tokenizer.ggml.") && (key.ends_with("_token_id") || key.ends_with("_token_ids"))
}

/// Returns the ids that keys give to roles. Ids that no token has are left out.
pub(super) fn ids_in_keys(metadata: &Metadata) -> impl Iterator<Item = u32> {
    metadata.iter().filter(|(key, _)| is_id_key(key)).flat_map(|(_, value)| match value {
        Value::Array(Array::U32(ids)) => ids.clone(),
        Value::Array(Array::I32(ids)) => ids.iter().filter_map(|&id| u32::try_from(id).ok()).collect(),
        value => value.as_u64().and_then(|id| u32::try_from(id).ok()).into_iter().collect(),
    })
}

/// Returns the keys for the tokens `kept` of `texts`.
fn keys(metadata: &Metadata, texts: &[String], kept: &[u32]) -> Result<Metadata, TrimError> {
    let mut out = Metadata::new();
    for (key, value) in metadata.iter() {
        let value = match (key, value) {
            (key, Value::Array(list)) if PER_TOKEN.contains(&key) => Value::Array(list.picked(kept)),
            (MERGES, Value::Array(Array::String(merges))) => {
                Value::Array(Array::String(kept_merges(merges, texts, kept)))
            }
            (key, value) if is_id_key(key) => match renumbered(key, value, texts.len(), kept)? {
                Some(value) => value,
                None => continue,
            },
            (key, Value::U32(n)) if key.ends_with(".vocab_size") && *n as usize == texts.len() => {
                Value::U32(kept.len() as u32)
            }
            (_, value) => value.clone(),
        };
        out.set(key, value);
    }
    Ok(out)
}

/// Returns the new id of `id`.
fn new_id(key: &str, id: u32, kept: &[u32]) -> Result<u32, TrimError> {
    let at = kept.binary_search(&id).map_err(|_| TrimError::Lost { key: key.to_owned(), id })?;
    Ok(at as u32)
}

/// Returns the value of a key with new ids; `None` for an id that no token had, which stands for none.
fn renumbered(key: &str, value: &Value, tokens: usize, kept: &[u32]) -> Result<Option<Value>, TrimError> {
    let exists = |id: &u32| (*id as usize) < tokens;
    Ok(match value {
        Value::Array(Array::U32(ids)) => {
            let ids = ids.iter().copied().filter(exists).map(|id| new_id(key, id, kept));
            Some(Value::Array(Array::U32(ids.collect::<Result<_, _>>()?)))
        }
        Value::Array(Array::I32(ids)) => {
            let ids = ids.iter().filter_map(|&id| u32::try_from(id).ok()).filter(exists);
            let new = ids.map(|id| new_id(key, id, kept).map(|id| id as i32));
            Some(Value::Array(Array::I32(new.collect::<Result<_, _>>()?)))
        }
        value => match value.as_u64().and_then(|id| u32::try_from(id).ok()).filter(exists) {
            Some(id) => Some(Value::U32(new_id(key, id, kept)?)),
            None => None,
        },
    })
}

/// Returns the merges, in order, of which no part and no result is a token that is lost.
fn kept_merges(merges: &[String], texts: &[String], kept: &[u32]) -> Vec<String> {
    let kept: HashSet<&str> = kept.iter().map(|&id| texts[id as usize].as_str()).collect();
    let lost: HashSet<&str> = texts.iter().map(String::as_str).filter(|text| !kept.contains(text)).collect();
    let stays = |merge: &&String| {
        // The left half may begin with a space.
        let split = merge.char_indices().skip(1).find(|(_, letter)| *letter == ' ');
        split.is_none_or(|(at, _)| {
            let (left, right) = (&merge[..at], &merge[at + 1..]);
            let joined = format!("{left}{right}");
            ![left, right, &joined].iter().any(|text| lost.contains(text))
        })
    };
    merges.iter().filter(stays).cloned().collect()
}
