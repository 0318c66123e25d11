//! Which tokens two models have in common.

use std::collections::HashMap;
use std::path::Path;

use kquant_formats::gguf::{Array, Metadata, Value};

use super::{Model, ModelError};

/// A token as another vocabulary can have it: its text, its kind if kinds are given, and how many tokens of both the same
/// text and kind come before it.
type Key<'a> = (&'a str, Option<i64>, usize);

impl Model {
    /// Returns the id in `base` of each token of this model, `[vocabulary]`, where the base has all of these tokens and more;
    /// `None` where both have the same tokens, so that their logits can be compared one by one.
    ///
    /// Tokens are the same if their texts and kinds are. Rows of the base's embedding that belong to no token count as tokens
    /// that this model lacks.
    ///
    /// # Errors
    /// Fails with [`ModelError::Vocabulary`], which names the first token that differs, when this model has a token that the
    /// base lacks, or as many tokens as the base and others, or rows that belong to no token and that the base has not.
    pub fn ids_in(&self, base: &Self) -> Result<Option<Vec<u32>>, ModelError> {
        self.ids_in_vocabulary(base.metadata(), base.vocab, &base.path)
    }

    /// Returns the same as [`ids_in`](Self::ids_in) for the vocabulary that the keys `base` of the file `path` describe, of a model with
    /// `vocab` logits.
    ///
    /// # Errors
    /// Fails as [`ids_in`](Self::ids_in) does.
    pub fn ids_in_vocabulary(
        &self,
        base: &Metadata,
        vocab: usize,
        path: &Path,
    ) -> Result<Option<Vec<u32>>, ModelError> {
        let (ours, theirs) = (texts(self.metadata()), texts(base));
        if self.vocab == vocab && ours == theirs {
            return Ok(None);
        }
        let error = |what| ModelError::Vocabulary { path: self.path.clone(), other: path.to_owned(), what };
        let (Some(ours), Some(theirs)) = (ours, theirs) else {
            return Err(error("at least one of them has no list of tokens".into()));
        };
        if self.vocab == vocab {
            return Err(error(first_difference(ours, theirs)));
        }
        if ours.len() != self.vocab {
            return Err(error(format!("the first has {} tokens and {} logits", ours.len(), self.vocab)));
        }
        let theirs = &theirs[..vocab.min(theirs.len())];
        found(&keys(ours, self.metadata()), &keys(theirs, base)).map(Some).map_err(error)
    }

    /// Returns the number of logits that belong to tokens: rows of the embedding beyond the list of tokens belong to none.
    pub(crate) fn known_tokens(&self) -> usize {
        texts(self.metadata()).map_or(self.vocab, |texts| texts.len().min(self.vocab))
    }
}

/// Returns the texts of the tokens.
fn texts(metadata: &Metadata) -> Option<&[String]> {
    match metadata.get("tokenizer.ggml.tokens") {
        Some(Value::Array(Array::String(texts))) => Some(texts),
        _ => None,
    }
}

/// Returns what tells the tokens `texts` apart.
fn keys<'a>(texts: &'a [String], metadata: &Metadata) -> Vec<Key<'a>> {
    let kinds: Vec<i64> = match metadata.get("tokenizer.ggml.token_type") {
        Some(Value::Array(Array::I32(kinds))) => kinds.iter().map(|&kind| kind.into()).collect(),
        Some(Value::Array(Array::U32(kinds))) => kinds.iter().map(|&kind| kind.into()).collect(),
        _ => Vec::new(),
    };
    let mut counts = HashMap::new();
    let key = |(id, text): (usize, &'a String)| {
        let kind = kinds.get(id).copied();
        let count = counts.entry((text.as_str(), kind)).or_insert(0);
        *count += 1;
        (text.as_str(), kind, *count - 1)
    };
    texts.iter().enumerate().map(key).collect()
}

/// Returns the place among `theirs` of each of `ours`, or says which is the first that has none.
fn found(ours: &[Key], theirs: &[Key]) -> Result<Vec<u32>, String> {
    let ids: HashMap<&Key, u32> = theirs.iter().zip(0..).collect();
    let id = |(id, key): (usize, &Key)| {
        ids.get(key).copied().ok_or_else(|| {
            let kind = key.1.map_or_else(String::new, |kind| format!(" of kind {kind}"));
            format!("token {id}, {:?}{kind}, of the first is not in the second", key.0)
        })
    };
    ours.iter().enumerate().map(id).collect()
}

/// Says where two lists part.
fn first_difference(ours: &[String], theirs: &[String]) -> String {
    match ours.iter().zip(theirs).position(|(a, b)| a != b) {
        Some(id) => {
            format!("token {id} is {:?} in the first and {:?} in the second", ours[id], theirs[id])
        }
        None => format!("the first has {} tokens and the second {}", ours.len(), theirs.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_by_text_kind_and_order() {
        let base = [("a", Some(1), 0), ("<s>", Some(3), 0), ("b", Some(1), 0), ("a", Some(1), 1)];
        assert_eq!(found(&[base[3], base[1]], &base), Ok(vec![3, 1]));
        let other = found(&[base[0], ("<s>", Some(1), 0)], &base).unwrap_err();
        assert_eq!(other, "token 1, \"<s>\" of kind 1, of the first is not in the second");
        assert!(found(&[("b", Some(1), 1)], &base).is_err(), "the base has one of these");
        assert!(found(&[("b", None, 0)], &base).unwrap_err().starts_with("token 0, \"b\", of"));
    }

    #[test]
    fn equal_texts_and_kinds_are_counted() {
        let texts = ["x", "y", "x", "x"].map(String::from);
        let mut metadata = Metadata::new();
        metadata.set("tokenizer.ggml.token_type", Value::Array(Array::I32(vec![1, 1, 6, 1])));
        let expected = [("x", Some(1), 0), ("y", Some(1), 0), ("x", Some(6), 0), ("x", Some(1), 1)];
        assert_eq!(keys(&texts, &metadata), expected);
    }

    #[test]
    fn differences_are_named() {
        let lists = [["a", "b"], ["a", "c"]].map(|list| list.map(String::from).to_vec());
        assert_eq!(
            first_difference(&lists[0], &lists[1]),
            "token 1 is \"b\" in the first and \"c\" in the second"
        );
        assert_eq!(first_difference(&lists[0], &lists[0][..1]), "the first has 2 tokens and the second 1");
    }
}
