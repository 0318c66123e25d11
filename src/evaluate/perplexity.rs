//! Perplexity: the exponential of the mean negative log-probability of the tokens that followed.

use super::Estimate;
use crate::evaluate::estimate::Moments;

/// Perplexity over the tokens added so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Perplexity {
    pub(super) nll: Moments,
}

impl Perplexity {
    /// Adds a token's negative log-probability, in nats. The order of tokens affects the last bits of the result.
    pub fn push(&mut self, nll: f64) {
        self.nll.push(nll);
    }

    /// Returns the number of tokens so far.
    pub fn count(&self) -> u64 {
        self.nll.count()
    }

    /// Returns the perplexity; NaN if there are no tokens.
    pub fn value(&self) -> f64 {
        self.nll.mean().exp()
    }

    /// Returns the standard error of the perplexity, `perplexity * sqrt((E[nll^2] - E[nll]^2) / (n - 1))`; NaN for fewer
    /// than two tokens.
    pub fn stderr(&self) -> f64 {
        self.value() * self.nll.stderr()
    }

    /// Returns the perplexity and its standard error.
    pub fn estimate(&self) -> Estimate {
        Estimate { value: self.value(), stderr: self.stderr() }
    }
}

impl Extend<f64> for Perplexity {
    fn extend<T: IntoIterator<Item = f64>>(&mut self, nlls: T) {
        nlls.into_iter().for_each(|nll| self.push(nll));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_tokens_by_hand() {
        let mut perplexity = Perplexity::default();
        assert!(perplexity.value().is_nan());
        perplexity.extend([2f64.ln(), 8f64.ln()]);
        let Estimate { value, stderr } = perplexity.estimate();
        // Deviations from ln 4 are ln 2 in both directions, with one degree of freedom.
        assert!((value - 4.0).abs() < 1e-12 && (stderr - 4.0 * 2f64.ln()).abs() < 1e-12, "{value} {stderr}");
        assert_eq!(perplexity.count(), 2);
    }
}
