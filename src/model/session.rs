//! Generation of one text, token by token, with a cache of keys and values. It serves to see whether a model works.

use super::rope::Ropes;
use super::steps::{Attend, BoundSteps, Cache, Positions};
use super::tile::Tile;
use super::{Head, Model, ModelError};

/// A text under generation.
pub struct Session<'a> {
    model: &'a Model,
    head: Head<'a>,
    /// Weights of all layers, where memory allows; otherwise empty, and each layer is decoded for every step.
    held: Vec<BoundSteps>,
    /// Keys and values of each layer.
    caches: Vec<Cache>,
    ropes: Ropes,
    position: usize,
}

impl Model {
    /// Starts a text, whose weights are held decoded if they fit `memory` bytes.
    ///
    /// # Errors
    /// Fails when weights cannot be read.
    pub fn session(&self, memory: u64) -> Result<Session<'_>, ModelError> {
        let all: u64 = self.input.tensors.iter().map(|t| t.weights() * self.products.weight_bytes()).sum();
        let held = if all <= memory {
            (0..self.hyper.layers).map(|layer| self.layer_steps(layer)).collect::<Result<_, _>>()?
        } else {
            Vec::new()
        };
        Ok(Session {
            model: self,
            head: self.head(if all <= memory { u64::MAX } else { 0 })?,
            held,
            caches: (0..self.hyper.layers).map(|_| Cache::default()).collect(),
            ropes: self.ropes(self.hyper.context)?,
            position: 0,
        })
    }
}

impl Session<'_> {
    /// Returns the number of tokens that still fit the model's context.
    pub fn room(&self) -> usize {
        self.model.hyper.context - self.position
    }

    /// Appends `tokens` and returns the logits (`[vocab]`) of the token that follows.
    ///
    /// # Errors
    /// Fails when there are no tokens, they do not fit the context, or the pass fails.
    pub fn feed(&mut self, tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
        if tokens.is_empty() || tokens.len() > self.room() {
            let asked = self.position + tokens.len();
            return Err(ModelError::Context { asked, longest: self.model.hyper.context });
        }
        let (model, hidden) = (self.model, self.model.hyper.hidden);
        let mut tile = Tile::new(tokens.len());
        tile.set_stream(model.embed(tokens, self.position, tokens.len())?, hidden, self.position);
        for (number, cache) in self.caches.iter_mut().enumerate() {
            let decoded;
            let steps = match self.held.get(number) {
                Some(steps) => steps,
                None => {
                    decoded = model.layer_steps(number)?;
                    &decoded
                }
            };
            let attend = Attend::Cached { start: self.position, cache };
            steps.run(&mut tile, &mut Positions { ropes: &self.ropes, attend }, &mut None)?;
        }
        self.position += tokens.len();
        let stream = tile.take_stream();
        let logits = self.head.logits(&self.head.normed(&stream[stream.len() - hidden..]))?;
        let mut row = Vec::with_capacity(model.vocab);
        logits.row(0, &mut row);
        Ok(row)
    }
}

/// A rule that chooses the next token.
#[derive(Debug, Clone)]
pub struct Sampler {
    temperature: f32,
    state: u64,
}

impl Sampler {
    /// Makes a sampler that is greedy at temperature 0 and otherwise draws from the softmax of logits over temperature,
    /// reproducibly for a seed.
    pub fn new(temperature: f32, seed: u64) -> Self {
        Self { temperature, state: seed }
    }

    /// Chooses the token that follows, given `logits` (`[vocab]`).
    pub fn choose(&mut self, logits: &[f32]) -> u32 {
        let best = logits.iter().enumerate().fold(0, |best, (i, &l)| if l > logits[best] { i } else { best });
        if self.temperature <= 0.0 {
            return best as u32;
        }
        let (max, temperature) = (logits[best], self.temperature);
        let weight = |l: f32| f64::from((l - max) / temperature).exp();
        let total: f64 = logits.iter().map(|&l| weight(l)).sum();
        let mut left = self.uniform() * total;
        for (token, &l) in logits.iter().enumerate() {
            left -= weight(l);
            if left < 0.0 {
                return token as u32;
            }
        }
        best as u32
    }

    /// Returns the next number of SplitMix64, in 0..1 (Steele, Lea and Flood, Fast Splittable Pseudorandom Number
    /// Generators, 2014).
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as f64 / 2f64.powi(64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_takes_the_first_of_the_best() {
        assert_eq!(Sampler::new(0.0, 1).choose(&[0.0, 3.0, 3.0, -1.0]), 1);
    }

    #[test]
    fn sampling_follows_the_probabilities_and_the_seed() {
        let logits = [0.0, 3f32.ln(), f32::NEG_INFINITY];
        let draw = |seed| {
            let mut sampler = Sampler::new(1.0, seed);
            (0..4000).map(|_| sampler.choose(&logits)).collect::<Vec<_>>()
        };
        let ones = draw(7).iter().filter(|&&t| t == 1).count();
        assert!((2900..3100).contains(&ones), "{ones} of 4000 for a probability of 3/4");
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
