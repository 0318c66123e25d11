//! SentencePiece BPE vocabularies with byte fallback, for which `tokenizer.ggml.model` is `llama`.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use kquant_formats::gguf::{Metadata, Value};
use kquant_formats::sentencepiece::{Piece, PieceKind, SentencePiece};

use super::added::{self, Added};
use super::beside;
use super::error::VocabError;
use super::files::{Files, Json};
use super::model::Bpe;
use super::spaces;
use super::tokens::{Kind, Token, Tokens, byte_of};

/// Key of the flag that is true if a space is put before the text.
pub(super) const ADD_SPACE_PREFIX: &str = "tokenizer.ggml.add_space_prefix";

/// Score of an embedding row that no file names, as in the converter.
const UNUSED_SCORE: f32 = -10000.0;
/// Score of an added token, as in the converter.
pub(super) const ADDED_SCORE: f32 = -1000.0;

/// Sets the keys from a parsed `tokenizer.model`.
pub(super) fn load_model(
    path: &Path,
    model: &SentencePiece,
    files: &Files,
    rows: Option<u64>,
    out: &mut Metadata,
) -> Result<(), VocabError> {
    let tokens = model_tokens(path, model, files, rows)?;
    write(tokens, model.add_dummy_prefix, path, out)
}

/// Returns the tokens of a parsed `tokenizer.model` and those added to it.
pub(super) fn model_tokens(
    path: &Path,
    model: &SentencePiece,
    files: &Files,
    rows: Option<u64>,
) -> Result<Tokens, VocabError> {
    if model.whitespace_suffix || !model.escape_whitespaces {
        let what = "a SentencePiece model whose spaces are not \u{2581} at the start of a word";
        return Err(VocabError::unsupported(path, what, "llama.cpp has no key that says so"));
    }
    let added = added::beside_model(files)?;
    let end = model.pieces.len() as u64;
    let mut tokens = unused(end, &added, rows, path)?;
    for (id, piece) in (0..).zip(&model.pieces) {
        let kind = kind_of(piece);
        tokens.put(id, Token { text: kind.respell(piece.text.clone()), score: piece.score, kind });
    }
    beside::add(path, model, files, &added, &mut tokens)?;
    Ok(tokens)
}

/// Sets the keys from `tokenizer.json` alone.
///
/// Scores come from the merges, because llama.cpp's SPM tokenizer joins the neighbours whose union scores highest
/// where Hugging Face applies the merge of lowest rank. (The converter writes -1000 for every token here, which makes
/// llama.cpp join from left to right.)
pub(super) fn load_json(
    file: &Json,
    bpe: &Bpe,
    files: &Files,
    rows: Option<u64>,
    out: &mut Metadata,
) -> Result<(), VocabError> {
    let prefix = spaces::prefixes_space(file, bpe)?;
    let added = added::collect(file, &bpe.vocab, files)?;
    write(place(file, bpe, &added, rows)?, prefix, &file.path, out)
}

/// Puts vocabulary and added tokens at their ids.
pub(super) fn place(
    file: &Json,
    bpe: &Bpe,
    added: &[Added],
    rows: Option<u64>,
) -> Result<Tokens, VocabError> {
    let mut tokens = unused(bpe.end(), added, rows, &file.path)?;
    put_vocabulary(bpe, added, &mut tokens);
    for token in added {
        tokens.check_free(token, &bpe.vocab, &file.path)?;
        let kind = token.kind();
        tokens.put(token.id, Token { text: kind.respell(token.content.clone()), score: ADDED_SCORE, kind });
    }
    Ok(tokens)
}

/// Puts the tokens of `model.vocab` at their ids, scored by the merges.
fn put_vocabulary(bpe: &Bpe, added: &[Added], tokens: &mut Tokens) {
    let is_added: HashSet<&str> = added.iter().map(|token| token.content.as_str()).collect();
    let ranks = rank_of_tokens(bpe);
    // Tokens that no merge makes (single characters) follow all others, as SentencePiece numbers them.
    let mut unmerged = ranks.len()..;
    for (id, text) in bpe.by_id() {
        let kind = match text {
            _ if byte_of(text).is_some() => Kind::Byte,
            _ if bpe.unknown.as_deref() == Some(text) => Kind::Unknown,
            _ => Kind::Normal,
        };
        let rank = match ranks.get(text) {
            _ if kind != Kind::Normal || is_added.contains(text) => 0,
            Some(rank) => *rank,
            None => unmerged.next().unwrap_or_default(),
        };
        tokens.put(id, Token { text: text.to_owned(), score: 0.0 - rank as f32, kind });
    }
}

/// Returns unused rows: as many as the embedding has or, if that is not known, as the vocabulary of `end` ids and the
/// tokens added to it need.
///
/// Added tokens beyond the embedding are left out, with a warning, as in the converter: many fine-tunes name a padding
/// token without adding a row for it.
pub(super) fn unused(
    end: u64,
    added: &[Added],
    rows: Option<u64>,
    path: &Path,
) -> Result<Tokens, VocabError> {
    Tokens::unused(row_count(end, added, rows, path)?, UNUSED_SCORE, path)
}

/// Returns the number of rows of the embedding or, if that is not known, the number that the tokens need.
///
/// # Errors
/// Fails when the vocabulary of `end` ids does not fit.
pub(super) fn row_count(
    end: u64,
    added: &[Added],
    rows: Option<u64>,
    path: &Path,
) -> Result<u64, VocabError> {
    let Some(rows) = rows else {
        return Ok(added.iter().map(|token| token.id + 1).max().unwrap_or(0).max(end));
    };
    if end > rows {
        return Err(VocabError::TooManyTokens { path: path.to_owned(), tokens: end, rows });
    }
    Ok(rows)
}

/// Returns the order in which merges first make each token.
fn rank_of_tokens(bpe: &Bpe) -> HashMap<String, usize> {
    let mut ranks = HashMap::with_capacity(bpe.merges.len());
    for (left, right) in &bpe.merges {
        let rank = ranks.len();
        ranks.entry(format!("{left}{right}")).or_insert(rank);
    }
    ranks
}

fn write(tokens: Tokens, prefix: bool, path: &Path, out: &mut Metadata) -> Result<(), VocabError> {
    tokens.check_unique(path)?;
    tokens.check_bytes(path)?;
    // llama.cpp's default is true. The converter leaves the key to `tokenizer_config.json`; a model that wants no
    // prefix and does not say so there would be tokenized wrongly.
    if !prefix && out.get(ADD_SPACE_PREFIX).is_none() {
        out.set(ADD_SPACE_PREFIX, Value::Bool(false));
    }
    out.set("tokenizer.ggml.model", Value::from("llama"));
    out.set("tokenizer.ggml.pre", Value::from("default"));
    tokens.write(true, out);
    Ok(())
}

/// Returns the kind of a piece. The converter makes user-defined pieces normal ones, which llama.cpp finds only where it
/// can merge them from others, while SentencePiece finds them first.
fn kind_of(piece: &Piece) -> Kind {
    match piece.kind {
        PieceKind::Normal => Kind::Normal,
        PieceKind::UserDefined if added::looks_special(&piece.text) => Kind::Control,
        PieceKind::UserDefined => Kind::UserDefined,
        PieceKind::Unknown => Kind::Unknown,
        PieceKind::Control => Kind::Control,
        PieceKind::Unused => Kind::Unused,
        PieceKind::Byte => Kind::Byte,
    }
}
