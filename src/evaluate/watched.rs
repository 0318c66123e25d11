//! What two models predict at each position of a text, for who wants more than sums.

use kquant_formats::logits::LogitsWriter;

use super::softmax::max;
use super::{Normalizer, RowError, Running, TokenStats};

/// The token that a model finds likeliest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guess {
    /// Id of the token in the model's own vocabulary, the first of equals.
    pub token: u32,
    /// Its probability, from 0 to 1.
    pub probability: f64,
}

impl Guess {
    /// Returns the likeliest token of the logits `row` `[vocabulary]`.
    ///
    /// # Errors
    /// Fails when a logit is NaN or positive infinity, or none is finite.
    pub fn of(row: &[f32]) -> Result<Self, RowError> {
        let (normalizer, best) = (Normalizer::of(row)?, max(row));
        let at = row.iter().position(|&logit| logit == best).unwrap_or(0);
        Ok(Self { token: at as u32, probability: (-normalizer.log_sum_exp).exp() })
    }
}

/// What a model and its base predict at one position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PositionScore {
    /// Number of the chunk, from 0.
    pub chunk: usize,
    /// Position in the chunk, from 0; what is predicted stands at the next one.
    pub position: usize,
    /// The token that follows.
    pub target: u32,
    /// Probabilities of that token, and the divergence.
    pub stats: TokenStats,
    /// What the base expects.
    pub base: Guess,
    /// What the model expects.
    pub model: Guess,
}

/// Who is told what on the way of an evaluation.
pub struct Listeners<'l> {
    /// Receives the rows of a logits file.
    pub record: Option<&'l mut LogitsWriter>,
    /// Called after every chunk.
    pub running: &'l mut dyn FnMut(Running),
    /// Called with every position that is compared, in the order of the text.
    pub watch: Option<&'l mut dyn FnMut(&PositionScore)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_token_has_its_probability() {
        let guess = Guess::of(&[0.0, 3f32.ln(), 3f32.ln(), f32::NEG_INFINITY]).unwrap();
        assert_eq!(guess.token, 1);
        assert!((guess.probability - 3.0 / 7.0).abs() < 1e-7, "{guess:?}");
        assert!(Guess::of(&[f32::NAN]).is_err());
    }
}
