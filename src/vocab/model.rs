//! The BPE model inside `tokenizer.json`.

use std::collections::HashMap;

use serde_json::Value;

use super::error::VocabError;
use super::files::Json;
use super::tokens::token_id;

/// A merge of two pieces into their concatenation.
pub(super) type Merge = (String, String);

/// The vocabulary and merges of a `tokenizer.json`.
#[derive(Debug)]
pub(super) struct Bpe {
    /// Ids by text.
    pub(super) vocab: HashMap<String, u64>,
    /// Merges in order of rank, of which the first is applied first.
    pub(super) merges: Vec<Merge>,
    /// True if characters outside the vocabulary become `<0x..>` byte tokens.
    pub(super) byte_fallback: bool,
    /// True if a word that is a token is taken whole.
    pub(super) ignore_merges: bool,
    /// Text of the token for characters that have no other.
    pub(super) unknown: Option<String>,
}

impl Bpe {
    /// Reads the object `model`.
    pub(super) fn read(file: &Json) -> Result<Self, VocabError> {
        let Some(model) = file.value.get("model") else {
            return Err(VocabError::content(&file.path, "has no \"model\""));
        };
        check_kind(file, model)?;
        dropout(file)?;
        let flag = |key| model.get(key).and_then(Value::as_bool).unwrap_or(false);
        let bpe = Self {
            vocab: read_vocab(file, model)?,
            merges: read_merges(file, model)?,
            byte_fallback: flag("byte_fallback"),
            ignore_merges: flag("ignore_merges"),
            unknown: model.get("unk_token").and_then(Value::as_str).map(str::to_owned),
        };
        bpe.check_merges(file)?;
        Ok(bpe)
    }

    /// Returns the highest id + 1; 0 if there is no token.
    pub(super) fn end(&self) -> u64 {
        self.vocab.values().max().map_or(0, |id| id + 1)
    }

    /// Returns the vocabulary in order of ids.
    pub(super) fn by_id(&self) -> Vec<(u64, &str)> {
        let mut tokens: Vec<_> = self.vocab.iter().map(|(text, &id)| (id, text.as_str())).collect();
        tokens.sort_unstable();
        tokens
    }

    /// Fails when the result of a merge is not a token: Hugging Face refuses such a file, llama.cpp would drop the merge.
    fn check_merges(&self, file: &Json) -> Result<(), VocabError> {
        for (rank, (left, right)) in self.merges.iter().enumerate() {
            let merged = format!("{left}{right}");
            for piece in [left, right, &merged] {
                if !self.vocab.contains_key(piece) {
                    let what = format!("model.merges[{rank}] needs {piece:?}, which is not in model.vocab");
                    return Err(VocabError::content(&file.path, what));
                }
            }
        }
        Ok(())
    }
}

/// Fails unless the model is BPE, the only kind that can be converted. The oldest files (GPT-2's own) have no `type` and
/// are recognised by vocabulary and merges.
fn check_kind(file: &Json, model: &Value) -> Result<(), VocabError> {
    const INSTEAD: &str =
        "Unigram and WordPiece are, and BPE: byte-level, and SentencePiece's with byte fallback";
    match model.get("type").and_then(Value::as_str) {
        Some("BPE") => {}
        None if model.get("merges").is_some() => {}
        other => {
            let what = format!("a vocabulary of type {:?}", other.unwrap_or("unknown"));
            return Err(VocabError::unsupported(&file.path, what, INSTEAD));
        }
    }
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if model.get(key).and_then(Value::as_str).is_some_and(|affix| !affix.is_empty()) {
            return Err(VocabError::unsupported(&file.path, format!("model.{key}"), INSTEAD));
        }
    }
    Ok(())
}

/// Returns the probability with which training skips merges, if there is one. It is ignored, because a text has one
/// tokenization here; Hugging Face's library would skip merges in use as well.
///
/// # Errors
/// Fails when it is not a probability.
pub(super) fn dropout(file: &Json) -> Result<Option<f64>, VocabError> {
    let dropout = file.value.get("model").and_then(|model| model.get("dropout"));
    let Some(dropout) = dropout.filter(|value| !value.is_null()) else { return Ok(None) };
    match dropout.as_f64().filter(|share| (0.0..=1.0).contains(share)) {
        Some(share) => Ok(Some(share).filter(|&share| share > 0.0)),
        None => {
            let what = format!("model.dropout is {dropout}, which is no probability from 0 to 1");
            Err(VocabError::content(&file.path, what))
        }
    }
}

/// Returns the ids of `model.vocab`, by text.
pub(super) fn read_vocab(file: &Json, model: &Value) -> Result<HashMap<String, u64>, VocabError> {
    let Some(entries) = model.get("vocab").and_then(Value::as_object) else {
        return Err(VocabError::content(&file.path, "model.vocab is no map of text to id"));
    };
    let mut owner = HashMap::with_capacity(entries.len());
    let mut vocab = HashMap::with_capacity(entries.len());
    for (text, id) in entries {
        let id = token_id(id)
            .map_err(|what| VocabError::content(&file.path, format!("model.vocab[{text:?}]: {what}")))?;
        if let Some(first) = owner.insert(id, text) {
            let what = format!("model.vocab gives id {id} to both {first:?} and {text:?}");
            return Err(VocabError::content(&file.path, what));
        }
        vocab.insert(text.clone(), id);
    }
    Ok(vocab)
}

/// Reads merges, which are pairs; before transformers 4.45 they were strings with a space in between.
fn read_merges(file: &Json, model: &Value) -> Result<Vec<Merge>, VocabError> {
    let Some(entries) = model.get("merges").and_then(Value::as_array) else {
        return Err(VocabError::content(&file.path, "model.merges is no list"));
    };
    if entries.is_empty() {
        return Err(VocabError::content(
            &file.path,
            "model.merges is empty; llama.cpp cannot load such a vocabulary",
        ));
    }
    let pair = |(rank, entry): (usize, &Value)| {
        split_merge(entry).ok_or_else(|| {
            let what = format!("model.merges[{rank}] is no pair and no \"left right\": {entry}");
            VocabError::content(&file.path, what)
        })
    };
    entries.iter().enumerate().map(pair).collect()
}

fn split_merge(entry: &Value) -> Option<Merge> {
    let (left, right) = match entry {
        Value::String(line) => line.split_once(' ').filter(|(_, right)| !right.contains(' '))?,
        Value::Array(pair) => match pair.as_slice() {
            [left, right] => (left.as_str()?, right.as_str()?),
            _ => return None,
        },
        _ => return None,
    };
    Some((left.to_owned(), right.to_owned()))
}
