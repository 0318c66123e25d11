//! What two models write after the same beginnings.

use serde::Serialize;

use super::ReportError;
use crate::context::Context;
use crate::model::{Model, ModelError, Sampler};
use crate::text::Chunks;

/// Tokens of a beginning.
const PROMPT: usize = 16;
/// Tokens that are written after it, at most.
const WRITTEN: usize = 48;
/// Below so many tokens a sample shows nothing.
const LEAST: usize = 8;
/// Weights times tokens that all samples of one model may cost, which bounds their time: with three samples, models of up to 1.5 billion
/// weights write all tokens, and those above 4 billion none.
const WORK: u64 = 300_000_000_000;

/// What two models write after the same beginning, each token the likeliest one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SamplePair {
    /// The beginning.
    pub prompt: String,
    /// What the base writes.
    pub base: String,
    /// What the model writes.
    pub model: String,
    /// Tokens from the first on that are the same.
    pub same: usize,
    /// Tokens that the longer one has.
    pub tokens: usize,
}

/// Lets `base` and `model`, which have the same tokens, continue the beginnings of `count` chunks that are spread over a text. Returns none
/// where models are so large that it would take long.
///
/// # Errors
/// Fails when a model cannot be run.
pub fn samples(
    (base, model): (&Model, &Model),
    chunks: &Chunks,
    count: usize,
    run: &Context,
) -> Result<Vec<SamplePair>, ReportError> {
    let weights = [base, model].map(|of| of.converted().tensors.iter().map(|t| t.weights()).sum::<u64>());
    let Some(tokens) = affordable(weights[0].max(weights[1]), count) else { return Ok(Vec::new()) };
    let chunks = chunks.spread(count);
    let prompts: Vec<&[u32]> =
        (0..chunks.len()).map(|i| &chunks.chunk(i)[..PROMPT.min(chunks.context() / 2)]).collect();
    let written = |of: &Model| {
        let fault = |source: ModelError| ReportError::Run { path: of.path.clone(), source: Box::new(source) };
        prompts
            .iter()
            .map(|prompt| written(of, prompt, tokens, run).map_err(fault))
            .collect::<Result<Vec<_>, _>>()
    };
    let (theirs, ours) = (written(base)?, written(model)?);
    let fault = |source: ModelError| ReportError::Run { path: model.path.clone(), source: Box::new(source) };
    let tokenizer = model.tokenizer().map_err(fault)?;
    let pair = |((prompt, base), model): ((&&[u32], &Vec<u32>), &Vec<u32>)| SamplePair {
        prompt: tokenizer.decode(prompt),
        base: String::from_utf8_lossy(&pieces(&tokenizer, base)).into_owned(),
        model: String::from_utf8_lossy(&pieces(&tokenizer, model)).into_owned(),
        same: base.iter().zip(model).take_while(|(a, b)| a == b).count(),
        tokens: base.len().max(model.len()),
    };
    Ok(prompts.iter().zip(&theirs).zip(&ours).map(pair).collect())
}

fn pieces(by: &crate::vocab::Tokenizer, tokens: &[u32]) -> Vec<u8> {
    tokens.iter().flat_map(|&token| by.piece(token)).copied().collect()
}

/// Returns the tokens to write after each of `count` beginnings by a model of `weights` weights; `None` where they are too few to show
/// anything.
fn affordable(weights: u64, count: usize) -> Option<usize> {
    let all = usize::try_from(WORK / weights.max(1)).unwrap_or(usize::MAX);
    Some((all / count.max(1)).saturating_sub(PROMPT).min(WRITTEN)).filter(|&tokens| tokens >= LEAST)
}

/// Returns the likeliest tokens after `prompt`, up to the end of the text.
fn written(model: &Model, prompt: &[u32], tokens: usize, run: &Context) -> Result<Vec<u32>, ModelError> {
    let (tokenizer, sampler) = (model.tokenizer()?, Sampler::new(0.0, 0));
    let mut session = model.session(run.memory / 2, prompt.len() + tokens)?;
    let (mut next, mut written) = (prompt.to_vec(), Vec::new());
    while written.len() < tokens && session.room() >= next.len() {
        if run.is_cancelled() {
            return Err(ModelError::Interrupted);
        }
        let token = sampler.choose(&mut session.feed(&next)?, 0, written.len() as u64);
        if tokenizer.is_end(token) {
            break;
        }
        written.push(token);
        next = vec![token];
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_models_write_less_or_nothing() {
        assert_eq!(affordable(1_000_000, 3), Some(WRITTEN));
        assert_eq!(affordable(4_000_000_000, 3), Some(9));
        assert_eq!(affordable(70_000_000_000, 3), None);
    }
}
