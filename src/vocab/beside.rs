//! Tokens that other files add to a `tokenizer.model`, and contradictions between the files.

use std::collections::HashMap;
use std::path::Path;

use kquant_formats::sentencepiece::SentencePiece;
use serde_json::Value;

use super::added::{Added, CONFIG, TOKENIZER};
use super::error::VocabError;
use super::files::{Files, Json};
use super::spm::ADDED_SCORE;
use super::tokens::{Kind, Token, Tokens};

/// Adds tokens to those of the model in `path`, which are in `tokens` already. An id of the model keeps its text, unless
/// `tokenizer_config.json` renames it, as in the converter.
///
/// # Errors
/// Fails when another file gives a token of the model another id, or an id of the model another text, or when
/// `tokenizer.json` has ordinary tokens that the model lacks.
pub(super) fn add(
    path: &Path,
    model: &SentencePiece,
    files: &Files,
    added: &[Added],
    tokens: &mut Tokens,
) -> Result<(), VocabError> {
    let ids: HashMap<&str, u64> = model.pieces.iter().map(|piece| piece.text.as_str()).zip(0..).collect();
    for token in added {
        let piece = usize::try_from(token.id).ok().and_then(|id| model.pieces.get(id));
        let old = tokens.at(token.id).map(|old| old.kind);
        if token.source != CONFIG && piece.is_some() {
            if let Some(piece) = piece.filter(|piece| old.is_some() && piece.text != token.content) {
                let what = format!(
                    "id {} is {:?}, but the added token {:?} in {}; {KEEP_ONE}",
                    token.id,
                    piece.text,
                    token.content,
                    files.folder.join(token.source).display()
                );
                return Err(VocabError::content(path, what));
            }
            // Tokens that the model marks itself keep their kind.
            if !matches!(old, None | Some(Kind::Normal | Kind::UserDefined)) || old == Some(token.kind()) {
                continue;
            }
        }
        let kind = token.kind();
        tokens.put(token.id, Token { text: kind.respell(token.content.clone()), score: ADDED_SCORE, kind });
    }
    check_texts(path, &ids, files, added, tokens)?;
    match &files.tokenizer {
        Some(file) => check_vocabulary(path, model, file, added),
        None => Ok(()),
    }
}

/// Advice on two files that contradict each other.
const KEEP_ONE: &str = "remove the file that is not this model's";

/// Fails when a piece of the model, still under its text, has another id as an added token.
fn check_texts(
    path: &Path,
    ids: &HashMap<&str, u64>,
    files: &Files,
    added: &[Added],
    tokens: &Tokens,
) -> Result<(), VocabError> {
    for token in added {
        let Some(&id) = ids.get(token.content.as_str()).filter(|&&id| id != token.id) else { continue };
        if tokens.at(id).is_some_and(|piece| piece.text == piece.kind.respell(token.content.clone())) {
            let what = format!(
                "token {:?} has id {id}, but {} as an added token in {}; {KEEP_ONE}",
                token.content,
                token.id,
                files.folder.join(token.source).display()
            );
            return Err(VocabError::content(path, what));
        }
    }
    Ok(())
}

/// Fails when `model.vocab` of `tokenizer.json` is longer than the model: only added tokens may follow, as others need
/// scores, which are not in that file.
fn check_vocabulary(
    path: &Path,
    model: &SentencePiece,
    file: &Json,
    added: &[Added],
) -> Result<(), VocabError> {
    let count = model.pieces.len() as u64;
    let added: HashMap<u64, &str> = added.iter().map(|token| (token.id, token.content.as_str())).collect();
    let beyond = |(id, text): &(u64, &str)| *id >= count && added.get(id) != Some(text);
    let Some((id, text)) = vocabulary(file).into_iter().filter(beyond).min() else { return Ok(()) };
    let what = format!(
        "has {count} tokens, but {} has {text:?} with id {id} in model.vocab; {KEEP_ONE}",
        file.path.display()
    );
    Err(VocabError::content(path, what))
}

/// Returns ids and texts of `model.vocab` of a `tokenizer.json`, of BPE or Unigram; malformed entries are ignored.
fn vocabulary(file: &Json) -> Vec<(u64, &str)> {
    match file.value.get("model").and_then(|model| model.get("vocab")) {
        Some(Value::Object(entries)) => {
            entries.iter().filter_map(|(text, id)| Some((id.as_u64()?, text.as_str()))).collect()
        }
        Some(Value::Array(entries)) => {
            (0..).zip(entries).filter_map(|(id, entry)| Some((id, entry.get(0)?.as_str()?))).collect()
        }
        _ => Vec::new(),
    }
}

/// Returns warnings on differences between the files and the tokens of a `tokenizer.model`, whose final texts and kinds
/// are `texts` and `kinds`, by id.
pub(super) fn warnings(files: &Files, texts: &[String], kinds: &[i32]) -> Vec<String> {
    let Some(file) = &files.tokenizer else { return Vec::new() };
    let mut differ: Vec<(u64, &str, &str)> = vocabulary(file)
        .into_iter()
        .filter_map(|(id, text)| {
            let at = usize::try_from(id).ok()?;
            let (own, kind) = (texts.get(at)?, kinds.get(at)?);
            (*kind == Kind::Normal as i32 && own != text).then_some((id, own.as_str(), text))
        })
        .collect();
    differ.sort_unstable();
    let Some((id, own, other)) = differ.first() else { return Vec::new() };
    vec![format!(
        "tokenizer.model and {TOKENIZER} have other texts for {} ids, such as {own:?} and {other:?} for {id}; the output \
         has those of tokenizer.model: remove it if {TOKENIZER} is the model's",
        differ.len()
    )]
}
