//! The choice of the next token from logits.

use kquant_kernels::math;

use crate::model::draws::{pick, uniform};

/// Number of positions of a text that have random numbers of their own.
const POSITIONS: u64 = 1 << 32;

/// Added to the seed, so that a text is not drawn by the numbers by which a backward pass over it draws labels.
const SAMPLES: u64 = 0x5a6d_706c_6573;

/// A rule that chooses the next token. Its random numbers depend on the seed, the number of the text and the position
/// alone, so that neither the order of the work nor the other texts matter.
#[derive(Debug, Clone, Copy)]
pub struct Sampler {
    temperature: f32,
    top_p: f32,
    seed: u64,
}

impl Sampler {
    /// Makes a sampler that is greedy at temperature 0 and otherwise draws from the softmax of logits over temperature,
    /// reproducibly for a seed.
    pub fn new(temperature: f32, seed: u64) -> Self {
        Self { temperature, top_p: 1.0, seed }
    }

    /// Draws only from the likeliest tokens that reach the probability `top_p` together; 1 leaves all.
    ///
    /// Source: Holtzman et al., The Curious Case of Neural Text Degeneration, 2020.
    #[must_use]
    pub fn with_top_p(self, top_p: f32) -> Self {
        Self { top_p, ..self }
    }

    /// Chooses the token at `position` of text number `text`, given `logits` (`[vocab]`), which become probabilities.
    pub fn choose(&self, logits: &mut [f32], text: u64, position: u64) -> u32 {
        if self.temperature <= 0.0 {
            let best = (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best });
            return best as u32;
        }
        if self.temperature != 1.0 {
            // The largest is subtracted first, so that no quotient overflows.
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            logits.iter_mut().for_each(|logit| *logit = (*logit - largest) / self.temperature);
        }
        math::softmax(logits);
        if self.top_p < 1.0 {
            truncate(logits, self.top_p);
        }
        let number = text.wrapping_mul(POSITIONS).wrapping_add(position);
        pick(logits, uniform(self.seed.wrapping_add(SAMPLES), number)) as u32
    }
}

/// Sets all of `p` to 0 but the likeliest tokens, the first of equals before others, until they reach `top_p` together.
fn truncate(p: &mut [f32], top_p: f32) {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[b].total_cmp(&p[a]).then(a.cmp(&b)));
    let mut sum = 0.0;
    let kept = order.iter().position(|&token| {
        sum += f64::from(p[token]);
        sum >= f64::from(top_p)
    });
    order.iter().skip(kept.map_or(p.len(), |last| last + 1)).for_each(|&token| p[token] = 0.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_takes_the_first_of_the_best() {
        assert_eq!(Sampler::new(0.0, 1).choose(&mut [0.0, 3.0, 3.0, -1.0], 0, 0), 1);
    }

    #[test]
    fn sampling_follows_the_probabilities_and_the_seed() {
        let draw = |seed, text, temperature: f32| -> Vec<u32> {
            let sampler = Sampler::new(temperature, seed);
            let logits = [0.0, 3f32.ln() * temperature, f32::NEG_INFINITY];
            (0..4000).map(|position| sampler.choose(&mut logits.clone(), text, position)).collect()
        };
        for temperature in [1.0, 0.5, 2.0] {
            let ones = draw(7, 0, temperature).iter().filter(|&&t| t == 1).count();
            assert!((2890..3110).contains(&ones), "{ones} of 4000 for a probability of 3/4");
        }
        assert_eq!(draw(7, 0, 1.0), draw(7, 0, 1.0));
        assert_ne!(draw(7, 0, 1.0), draw(8, 0, 1.0));
        assert_ne!(draw(7, 0, 1.0), draw(7, 1, 1.0));
    }

    #[test]
    fn top_p_keeps_the_fewest_that_reach_it() {
        let mut p = [0.125, 0.5, 0.125, 0.25];
        truncate(&mut p, 0.75);
        assert_eq!(p, [0.0, 0.5, 0.0, 0.25]);
        let mut p = [0.125, 0.5, 0.125, 0.25];
        truncate(&mut p, 0.8);
        assert_eq!(p, [0.125, 0.5, 0.0, 0.25]);
    }
}
