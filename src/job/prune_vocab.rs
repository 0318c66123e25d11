//! Pruning: which tokens of a model are kept, what that costs on a text, and the GGUF that is left.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use kquant_formats::gguf::Value;
use serde::Serialize;

use super::pruned::{Pruned, parameters, record_text};
use crate::context::Context;
use crate::convert::Converted;
use crate::evaluate::{EvaluateError, divergences, masses};
use crate::model::Model;
use crate::text::Chunks;
use crate::transform::{Order, TrimError, describe, order, trim};
use crate::vocab::{Tokenizer, TokenizerError, script};

/// Sizes of vocabularies are multiples of this where they can be, which kernels of every runtime like.
const MULTIPLE: usize = 64;

/// How many tokens are kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum VocabSize {
    /// This many.
    Number(usize),
    /// The fewest whose divergence on the text is below this many nats per token.
    Divergence(f64),
    /// Those asked for and those of the text alone, up to the next multiple of 64.
    AsAsked,
}

/// Why a vocabulary cannot be trimmed as asked.
#[derive(Debug, thiserror::Error)]
pub enum PruneVocabError {
    /// More tokens than there are.
    #[error("--vocab {asked}: the model has {has} tokens; ask for fewer")]
    TooMany {
        /// Number asked for.
        asked: usize,
        /// Number of tokens.
        has: usize,
    },
    /// Fewer tokens than must be kept.
    #[error(
        "--vocab {asked}: {least} tokens must be kept (control, user-defined and byte tokens, those of keys and templates, and \
         what they are merged from); ask for at least as many"
    )]
    TooFew {
        /// Number asked for.
        asked: usize,
        /// The least.
        least: usize,
    },
    /// A divergence that none can have.
    #[error("--vocab-kl {0}: give a number above 0")]
    Divergence(f64),
    /// Only the whole vocabulary has so little divergence.
    #[error(
        "--vocab-kl {0}: only the whole vocabulary costs less than that on the text; ask for more, or give a --vocab"
    )]
    All(f64),
    /// The vocabulary cannot be read.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The model cannot be trimmed.
    #[error(transparent)]
    Trim(#[from] TrimError),
    /// The text cannot be run.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
}

/// What was trimmed.
#[derive(Debug, Serialize)]
pub struct PruneVocabReport {
    /// Tokens before.
    pub tokens_before: usize,
    /// Tokens after.
    pub tokens: usize,
    /// Tokens that no text can do without.
    pub indispensable: usize,
    /// These and those of the text or asked for.
    pub of_text: usize,
    /// Weights before.
    pub parameters_before: u64,
    /// Weights after.
    pub parameters: u64,
    /// Mean divergence on the text in nats per token, where all tokens of the text are kept.
    pub kl: f64,
    /// Tokens by script, those first of which most are lost.
    pub scripts: Vec<ScriptTokens>,
}

/// The tokens of a script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScriptTokens {
    /// Its name, such as `Latin`, or that of a group of tokens without letters.
    pub script: &'static str,
    /// Tokens before.
    pub before: usize,
    /// Tokens after.
    pub after: usize,
}

/// Counts the tokens of `tokenizer` and of those that are `kept` by script.
fn scripts(tokenizer: &Tokenizer, kept: &[u32]) -> Vec<ScriptTokens> {
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for id in 0..tokenizer.vocab_size() as u32 {
        counts.entry(script(tokenizer.piece(id))).or_default().0 += 1;
    }
    kept.iter().for_each(|&id| counts.entry(script(tokenizer.piece(id))).or_default().1 += 1);
    let row = |(script, (before, after))| ScriptTokens { script, before, after };
    let mut all: Vec<ScriptTokens> = counts.into_iter().map(row).collect();
    all.sort_by_key(|of| Reverse(of.before - of.after));
    all
}

/// How a vocabulary is trimmed.
#[derive(Debug, Clone, Copy)]
pub struct VocabRequest<'a> {
    /// The part of the text over which probabilities are summed and the divergence is measured.
    pub chunks: &'a Chunks,
    /// The tokens of the whole text, which are kept before others.
    pub tokens: &'a [u32],
    /// SHA-256 of the text, in hexadecimal.
    pub text_sha256: &'a str,
    /// Ids that are kept in any case.
    pub asked: &'a [u32],
    /// How many are kept.
    pub size: VocabSize,
}

/// Trims the vocabulary of `model` as `request` says.
///
/// # Errors
/// [`PruneVocabError`]: sizes that cannot be are told of before the text is run.
pub fn prune_vocab(
    model: &Model,
    request: &VocabRequest,
    run: &Context,
) -> Result<Pruned<PruneVocabReport>, PruneVocabError> {
    let VocabRequest { chunks, asked, size, .. } = *request;
    let input = model.converted();
    let tokenizer = Tokenizer::from_metadata(&input.metadata)?;
    let all = tokenizer.vocab_size();
    trim(input, &(0..all as u32).collect::<Vec<_>>())?;
    check(size, all, order(&input.metadata, &tokenizer, &[], &[], &[]).indispensable)?;
    let mut counts = vec![0; all];
    for &id in request.tokens {
        if let Some(count) = counts.get_mut(id as usize) {
            *count += 1;
        }
    }
    let mass = masses(model, chunks, run)?;
    let order = order(&input.metadata, &tokenizer, asked, &counts, &mass);
    let (kept, kl) = cut(model, chunks, &order, size, run)?;
    let mut trimmed = trim(input, &order.ids[..kept])?;
    let report = PruneVocabReport {
        tokens_before: all,
        tokens: kept,
        indispensable: order.indispensable,
        of_text: order.of_text,
        parameters_before: parameters(input),
        parameters: parameters(&trimmed),
        kl,
        scripts: scripts(&tokenizer, &order.ids[..kept]),
    };
    describe(input, &mut trimmed);
    let keys = &mut trimmed.metadata;
    keys.set("kquant.pruned.vocab", Value::U32(kept as u32));
    keys.set("kquant.pruned.tokens_before", Value::U32(all as u32));
    record_text(keys, request.text_sha256);
    keys.set("kquant.pruned.kl", Value::F64(kl));
    Ok(Pruned { model: trimmed, report })
}

fn check(size: VocabSize, has: usize, least: usize) -> Result<(), PruneVocabError> {
    match size {
        VocabSize::Number(asked) if asked > has => Err(PruneVocabError::TooMany { asked, has }),
        VocabSize::Number(asked) if asked < least => Err(PruneVocabError::TooFew { asked, least }),
        VocabSize::Divergence(kl) if kl.is_nan() || kl <= 0.0 => Err(PruneVocabError::Divergence(kl)),
        _ => Ok(()),
    }
}

/// Returns how many tokens of `order` are kept, and the divergence that this costs.
fn cut(
    model: &Model,
    chunks: &Chunks,
    order: &Order,
    size: VocabSize,
    run: &Context,
) -> Result<(usize, f64), PruneVocabError> {
    let all = order.ids.len();
    let number = match size {
        VocabSize::Number(number) => number,
        VocabSize::AsAsked => order.of_text.next_multiple_of(MULTIPLE).min(all),
        VocabSize::Divergence(most) => {
            let lost = divergences(model, chunks, &order.ids, MULTIPLE, run)?;
            let least = order.indispensable.div_ceil(MULTIPLE).max(1) - 1;
            let found = (least..lost.len()).find(|&at| lost[at] < most && (at + 1) * MULTIPLE < all);
            let at = found.ok_or(PruneVocabError::All(most))?;
            return Ok(((at + 1) * MULTIPLE, lost[at]));
        }
    };
    let lost = divergences(model, chunks, &order.ids[..number], number.max(1), run)?;
    Ok((number, lost.last().copied().unwrap_or(0.0)))
}

/// Tokens of a text before and after.
#[derive(Debug, Serialize)]
pub struct Fertility {
    /// Characters of the text.
    pub characters: usize,
    /// Tokens by the original vocabulary.
    pub tokens_before: usize,
    /// Tokens by the trimmed one.
    pub tokens: usize,
    /// Share of the original's tokens that stand at the same place in both.
    pub alike: f64,
}

/// Compares how both models' vocabularies cut `text`.
///
/// # Errors
/// When one cannot be read or cannot express the text.
pub fn fertility(before: &Converted, after: &Converted, text: &str) -> Result<Fertility, TokenizerError> {
    let [old, new] = [before, after].map(|model| -> Result<_, TokenizerError> {
        let tokenizer = Tokenizer::from_metadata(&model.metadata)?;
        let mut at = 0;
        let spans = tokenizer.encode(text, false)?.into_iter().map(|id| {
            let start = at;
            at += tokenizer.piece(id).len();
            (start, at)
        });
        Ok(spans.collect::<Vec<(usize, usize)>>())
    });
    let (old, new) = (old?, new?);
    let found: HashSet<&(usize, usize)> = new.iter().collect();
    let alike = old.iter().filter(|span| found.contains(span)).count();
    Ok(Fertility {
        characters: text.chars().count(),
        tokens_before: old.len(),
        tokens: new.len(),
        alike: alike as f64 / old.len().max(1) as f64,
    })
}
