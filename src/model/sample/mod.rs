//! Texts that a model writes itself, many at once, so that each step is a product over all of them.
//!
//! Calibration uses them where no text is at hand. A text begins as the model's texts do and has exactly `context` tokens:
//! after an end of sequence the beginning follows again. The same tokens come for any memory, any number of threads and
//! any number of texts at once, since no logit depends on the other texts and random numbers come from counters.

mod sampler;

use rayon::prelude::*;

use super::{Logits, Model, ModelError};
use crate::context::Context;
use crate::graph::Slot;
use crate::text::{ChunkError, Chunks};
use crate::vocab::Tokenizer;

pub use sampler::Sampler;

/// Largest number of texts at once: more make no product faster.
const TEXTS: usize = 512;

/// What is sampled.
#[derive(Debug, Clone, Copy)]
pub struct Sampling {
    /// Number of tokens in all, rounded up to whole texts.
    pub tokens: usize,
    /// Tokens per text.
    pub context: usize,
    /// Seed of the random numbers.
    pub seed: u64,
    /// Divisor of the logits; 1 draws from the model's own distribution, 0 takes the likeliest token.
    pub temperature: f32,
    /// Probability that the likeliest tokens, from which alone is drawn, reach together; 1 draws from all.
    pub top_p: f32,
}

/// Sampled texts of equal length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampled {
    tokens: Vec<u32>,
    context: usize,
}

impl Sampled {
    /// Returns the tokens, `[texts][context]`.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Returns the texts, each of `context` tokens.
    pub fn texts(&self) -> impl Iterator<Item = &[u32]> {
        self.tokens.chunks_exact(self.context)
    }

    /// Makes each text a chunk, without a way through text, which would change tokens.
    ///
    /// # Errors
    /// Fails when a text has less than 3 tokens.
    pub fn into_chunks(self) -> Result<Chunks, ChunkError> {
        Chunks::recorded(self.tokens, self.context, None, None)
    }
}

impl Sampling {
    /// Returns the number of texts.
    pub fn texts(&self) -> usize {
        self.tokens.div_ceil(self.context.max(1))
    }

    fn check(&self, model: &Model) -> Result<(), ModelError> {
        let longest = model.hyper.context;
        if self.context > longest {
            return Err(ModelError::Context { asked: self.context, longest });
        }
        let wrong = [
            (self.tokens == 0, "the number of tokens to sample is 0; ask for at least one"),
            (self.context < 3, "a sampled text needs at least 3 tokens; ask for a longer context"),
            (
                !self.temperature.is_finite() || self.temperature < 0.0,
                "the temperature of sampling must be 0 or more",
            ),
            (!(self.top_p > 0.0 && self.top_p <= 1.0), "top-p must be above 0 and at most 1"),
        ];
        wrong.iter().find(|(is, _)| *is).map_or(Ok(()), |(_, what)| Err(ModelError::Sampling(what)))
    }
}

/// The division of a model's memory between weights and texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share {
    /// True if all weights are held decoded.
    hold: bool,
    /// Texts at once.
    texts: usize,
}

impl Model {
    /// Returns the bytes that a text of `context` tokens takes: keys and values, which grow by doubling, the states of recurrent
    /// layers, the buffers of one token, and its logits twice.
    fn text_bytes(&self, context: usize) -> u64 {
        let cached = self.widths[Slot::Key as usize] + self.widths[Slot::Value as usize];
        let cache = 4 * (self.hyper.layers * context.next_power_of_two() * cached) as u64;
        let states = self.hyper.recurrent.as_ref().map_or(0, |r| r.kernel * r.channels() + r.inner * r.state);
        cache + 4 * (self.hyper.layers * states) as u64 + self.token_bytes() + 8 * self.vocab as u64
    }

    /// Divides `memory` so that all weights are held if at least one of `texts` texts fits beside them, and one layer at a
    /// time is decoded otherwise.
    fn share(&self, texts: usize, context: usize, memory: u64) -> Result<Share, ModelError> {
        let (each, wanted) = (self.text_bytes(context), texts.min(TEXTS));
        let beside = |weights: u64| memory.saturating_sub(weights) / each;
        match beside(self.decoded_bytes()).min(wanted as u64) as usize {
            0 => {}
            texts => return Ok(Share { hold: true, texts }),
        }
        match beside(self.layer_bytes()).min(wanted as u64) as usize {
            0 => Err(ModelError::Memory { needed: self.layer_bytes() + each }),
            texts => Ok(Share { hold: false, texts }),
        }
    }
}

/// Samples texts from `model` as `sampling` says.
///
/// # Errors
/// Fails when an option is out of its range, the model has no token that begins a text, one layer and one text do not fit
/// the memory, weights cannot be read, an activation overflows, or the run is cancelled.
pub fn sample(model: &Model, sampling: &Sampling, run: &Context) -> Result<Sampled, ModelError> {
    sampling.check(model)?;
    let marks = Marks::of(model)?;
    let share = model.share(sampling.texts(), sampling.context, run.memory)?;
    sample_by(model, sampling, &marks, share, run)
}

/// Tokens with a meaning of their own in sampling.
struct Marks {
    /// Token that begins a text.
    start: u32,
    /// Tokens that end a text.
    ends: Vec<u32>,
    /// Number of tokens that the tokenizer has; logits beyond are padding.
    known: usize,
}

impl Marks {
    fn of(model: &Model) -> Result<Self, ModelError> {
        let tokenizer: Tokenizer = model.tokenizer()?;
        let start = tokenizer.bos().or(tokenizer.eos());
        let start = start.ok_or_else(|| ModelError::NoBeginning { path: model.path.clone() })?;
        let known = tokenizer.vocab_size().min(model.vocab);
        let ends = (0..known as u32).filter(|&token| tokenizer.is_end(token)).collect();
        Ok(Self { start, ends, known })
    }

    /// Returns the token that must follow `token`, if one must: the beginning after an end that is not the beginning itself.
    fn forced(&self, token: u32) -> Option<u32> {
        (token != self.start && self.ends.contains(&token)).then_some(self.start)
    }
}

fn sample_by(
    model: &Model,
    sampling: &Sampling,
    marks: &Marks,
    share: Share,
    run: &Context,
) -> Result<Sampled, ModelError> {
    let (context, texts) = (sampling.context, sampling.texts());
    let sampler = Sampler::new(sampling.temperature, sampling.seed).with_top_p(sampling.top_p);
    let mut session = model.sessions(0, context, share.hold)?;
    let mut tokens = Vec::with_capacity(texts * context);
    for first in (0..texts).step_by(share.texts) {
        let group = share.texts.min(texts - first);
        session.restart(group);
        let mut last = vec![marks.start; group];
        // Tokens of the group, `[context][group]`.
        let mut steps = vec![last.clone()];
        for position in 1..context {
            if run.is_cancelled() {
                return Err(ModelError::Interrupted);
            }
            let logits = session.feed_each(&last, 1)?;
            last = choose(&sampler, marks, &logits, &last, (first, position));
            steps.push(last.clone());
            run.progress.advance((first * context + position * group) as u64, "sampling");
        }
        tokens.extend((0..group).flat_map(|text| steps.iter().map(move |step| step[text])));
    }
    Ok(Sampled { tokens, context })
}

/// Chooses the tokens at `position` that follow `last`, of the texts from number `first` on.
fn choose(
    sampler: &Sampler,
    marks: &Marks,
    logits: &Logits,
    last: &[u32],
    (first, position): (usize, usize),
) -> Vec<u32> {
    let next = last.par_iter().enumerate().map_init(Vec::new, |row, (text, &token)| {
        marks.forced(token).unwrap_or_else(|| {
            logits.row(text, row);
            sampler.choose(&mut row[..marks.known], (first + text) as u64, position as u64)
        })
    });
    next.collect()
}

#[cfg(test)]
mod tests;
