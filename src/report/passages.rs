//! Where in a text two models part: divergence by position in a chunk, and the passages that suffer most.

use std::path::Path;

use serde::Serialize;

use super::ReportError;
use super::facts::name_of;
use crate::context::Context;
use crate::evaluate::{self, Guess, Listeners, PositionScore, Reference};
use crate::model::{Model, ModelError};
use crate::text::Chunks;
use crate::vocab::Tokenizer;

/// Tokens of a passage.
const PASSAGE: usize = 16;
/// Passages that are kept.
const PASSAGES: usize = 5;
/// Tokens that are shown before a passage, so that it can be understood.
const BEFORE: usize = 40;
/// Ranges of positions that divergence is told of, at most.
const SPANS: usize = 24;

/// The divergence at some neighbouring positions of all chunks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PositionSpan {
    /// The first position, from 0.
    pub first: usize,
    /// The last position.
    pub last: usize,
    /// Mean divergence there, in nats per token.
    pub kl: f64,
}

/// A token that a model finds likeliest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    /// Text of the token.
    pub text: String,
    /// Its probability, from 0 to 1.
    pub probability: f64,
}

/// A token of a passage, and what was expected in its place.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PassageToken {
    /// Text of the token, as the text has it.
    pub text: String,
    /// Divergence where it is predicted, in nats.
    pub kl: f64,
    /// Whether both models expect the same token.
    pub same_top: bool,
    /// What the base expects.
    pub base_expects: Prediction,
    /// What the model expects.
    pub model_expects: Prediction,
    /// Probability of the token under the base.
    pub base_probability: f64,
    /// Probability of the token under the model.
    pub model_probability: f64,
}

/// Some neighbouring tokens of a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Passage {
    /// Number of the chunk, from 0.
    pub chunk: usize,
    /// Position of the first token in the chunk.
    pub position: usize,
    /// Mean divergence over the tokens, in nats per token.
    pub kl: f64,
    /// The text just before.
    pub before: String,
    /// The tokens.
    pub tokens: Vec<PassageToken>,
}

/// What a comparison on a text found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TextFindings {
    /// Path of the text.
    pub text: String,
    /// Perplexities, divergence and its quantiles.
    #[serde(flatten)]
    pub report: evaluate::Report,
    /// Divergence by position in a chunk; nothing where only one model was scored.
    pub positions: Vec<PositionSpan>,
    /// The passages with the largest divergence, the worst first; they do not overlap.
    pub passages: Vec<Passage>,
}

impl TextFindings {
    /// Returns the text's name: the last part of its path.
    pub(super) fn name(&self) -> String {
        name_of(Path::new(&self.text))
    }
}

/// Scores `model` on `chunks` and compares it with `base`. Besides what [`evaluate`](crate::evaluate::evaluate()) needs, it holds some
/// numbers for each position.
///
/// # Errors
/// Fails as [`evaluate`](crate::evaluate::evaluate()) does, and when there is no tokenizer to show tokens with.
pub fn findings(
    (model, base): (&Model, Option<&Reference>),
    (text, chunks): (&str, &Chunks),
    run: &Context,
    listeners: &mut Listeners,
) -> Result<TextFindings, ReportError> {
    let mut seen: Vec<PositionScore> = Vec::new();
    let report = {
        let mut watch = |position: &PositionScore| seen.push(*position);
        let mut all = Listeners {
            record: listeners.record.as_deref_mut(),
            running: &mut *listeners.running,
            watch: Some(&mut watch),
        };
        evaluate::evaluate_watched(model, base, chunks, run, &mut all)?
    };
    let tokenizer = |of: &Model| {
        let fault = |source: ModelError| ReportError::Run { path: of.path.clone(), source: Box::new(source) };
        of.tokenizer().map_err(fault)
    };
    let own = tokenizer(model)?;
    let theirs = match base {
        Some(Reference::Larger { model, .. } | Reference::Model(model)) => tokenizer(model)?,
        _ => tokenizer(model)?,
    };
    let shown = TokenTexts { chunks, own: &own, theirs: &theirs };
    let per_chunk = chunks.scored().len();
    let passages = worst(&seen, per_chunk).into_iter().map(|at| shown.passage(&seen, at)).collect();
    Ok(TextFindings { text: text.to_owned(), report, positions: spans(&seen, chunks), passages })
}

/// Returns the mean divergence of ranges of positions over all chunks.
fn spans(seen: &[PositionScore], chunks: &Chunks) -> Vec<PositionSpan> {
    let scored = chunks.scored();
    let width = scored.len().div_ceil(SPANS).max(1);
    let (mut sums, mut counts) = (vec![0.0; scored.len().div_ceil(width)], vec![0u64; SPANS]);
    for score in seen {
        let at = (score.position - scored.start) / width;
        sums[at] += score.stats.kl;
        counts[at] += 1;
    }
    let span = |(i, (sum, &count)): (usize, (f64, &u64))| PositionSpan {
        first: scored.start + i * width,
        last: (scored.start + (i + 1) * width).min(scored.end) - 1,
        kl: sum / count as f64,
    };
    let all = sums.into_iter().zip(&counts).enumerate();
    all.filter(|(_, (_, count))| **count > 0).map(span).collect()
}

/// Returns the places in `seen` where the worst passages begin; a chunk has `per_chunk` places, and no passage leaves its chunk.
fn worst(seen: &[PositionScore], per_chunk: usize) -> Vec<usize> {
    let mut found: Vec<(f64, usize)> = Vec::new();
    for (chunk, scores) in seen.chunks(per_chunk.max(1)).enumerate() {
        for (at, window) in scores.windows(PASSAGE.min(scores.len())).enumerate() {
            found.push((window.iter().map(|s| s.stats.kl).sum(), chunk * per_chunk + at));
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut taken: Vec<usize> = Vec::new();
    for (sum, at) in found {
        if taken.len() == PASSAGES || sum <= 0.0 {
            break;
        }
        if taken.iter().all(|&other| at.abs_diff(other) >= PASSAGE) {
            taken.push(at);
        }
    }
    taken
}

/// Tokens as texts.
struct TokenTexts<'a> {
    chunks: &'a Chunks,
    own: &'a Tokenizer,
    theirs: &'a Tokenizer,
}

impl TokenTexts<'_> {
    /// Returns the passage that begins at place `at` of `seen`.
    fn passage(&self, seen: &[PositionScore], at: usize) -> Passage {
        let first = seen[at];
        let same_chunk = |score: &&PositionScore| score.chunk == first.chunk;
        let scores: Vec<&PositionScore> = seen[at..].iter().take(PASSAGE).take_while(same_chunk).collect();
        let tokens: Vec<PassageToken> = scores.iter().map(|score| self.token(score)).collect();
        let from = (first.position + 1).saturating_sub(BEFORE);
        let chunk = self.chunks.chunk(first.chunk);
        let before = chunk.get(from..=first.position).unwrap_or_default();
        Passage {
            chunk: first.chunk,
            position: first.position + 1,
            kl: tokens.iter().map(|t| t.kl).sum::<f64>() / tokens.len().max(1) as f64,
            before: self.own.decode(before),
            tokens,
        }
    }

    fn token(&self, score: &PositionScore) -> PassageToken {
        let prediction = |guess: Guess, by: &Tokenizer| Prediction {
            text: token_text(by, guess.token),
            probability: guess.probability,
        };
        PassageToken {
            text: token_text(self.own, score.target),
            kl: score.stats.kl,
            same_top: score.stats.same_top,
            base_expects: prediction(score.base, self.theirs),
            model_expects: prediction(score.model, self.own),
            base_probability: (-score.stats.base_nll).exp(),
            model_probability: (-score.stats.nll).exp(),
        }
    }
}

/// Returns the text of one token: its piece, or its name in the vocabulary where it is no text.
pub(super) fn token_text(by: &Tokenizer, id: u32) -> String {
    match by.piece(id) {
        [] => by.text(id).to_owned(),
        piece => String::from_utf8_lossy(piece).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::TokenStats;

    fn score(chunk: usize, position: usize, kl: f64) -> PositionScore {
        let stats = TokenStats { nll: 1.0, base_nll: 1.0, kl, same_top: true };
        let guess = Guess { token: 0, probability: 0.5 };
        PositionScore { chunk, position, target: 0, stats, base: guess, model: guess }
    }

    #[test]
    fn the_worst_passages_do_not_overlap_and_stay_in_their_chunk() {
        let loud = |chunk: usize, i: usize| match (chunk, i) {
            (1, 3) => 9.0,
            (2, 30) => 8.0,
            _ => 0.1,
        };
        let seen: Vec<_> = (0..3).flat_map(|c| (0..40).map(move |i| score(c, 40 + i, loud(c, i)))).collect();
        let worst = worst(&seen, 40);
        assert_eq!(worst.len(), PASSAGES);
        assert!((40..44).contains(&worst[0]) && (95..=104).contains(&worst[1]), "{worst:?}");
        for (i, a) in worst.iter().enumerate() {
            assert!(a % 40 + PASSAGE <= 40, "{worst:?}");
            assert!(worst[..i].iter().all(|b| a.abs_diff(*b) >= PASSAGE), "{worst:?}");
        }
    }

    #[test]
    fn equal_models_have_no_worst_passage() {
        let seen: Vec<_> = (0..40).map(|i| score(0, 40 + i, 0.0)).collect();
        assert!(worst(&seen, 40).is_empty());
    }

    #[test]
    fn spans_cover_all_positions() {
        let chunks = Chunks::new((0..200).collect(), 100, None, None).unwrap();
        let at = |c| chunks.scored().map(move |p| score(c, p, p as f64));
        let seen: Vec<_> = (0..2).flat_map(at).collect();
        let spans = spans(&seen, &chunks);
        assert!(spans.len() <= SPANS);
        assert_eq!((spans[0].first, spans[spans.len() - 1].last), (50, 98));
        assert!(spans.windows(2).all(|pair| pair[0].last + 1 == pair[1].first && pair[0].kl < pair[1].kl));
    }
}
