//! The statistics of a comparison, as `llama-perplexity --kl-divergence` defines them.

use serde::Serialize;

use super::{Distribution, Estimate, Mean, Perplexity, TokenStats};
use crate::evaluate::estimate::{Moments, covariance, not_negative};

/// A comparison of a model with a base, over the tokens added so far.
#[derive(Debug, Clone, Default)]
pub struct Divergence {
    model: Perplexity,
    base: Perplexity,
    nll_products: f64,
    ln_ratio: Moments,
    kl: Moments,
    kl_values: Vec<f64>,
    delta_p: Moments,
    delta_p_squares: Moments,
    delta_p_values: Vec<f64>,
    same_top: u64,
}

/// The statistics of a comparison of a model with a base.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Results of the base alone.
    pub base: Base,
    /// Logarithm of the ratio of the perplexities, model to base.
    pub ln_ratio: Mean,
    /// Ratio of the perplexities, model to base.
    pub ratio: Estimate,
    /// Perplexity of the model minus that of the base.
    pub difference: Estimate,
    /// Correlation of the logarithms of the two perplexities, -1 to 1; NaN if one of them does not vary.
    pub correlation: f64,
    /// Divergence of the model from the base, in nats per token.
    pub kl: Distribution,
    /// Probability of the token that followed under the model minus that under the base, in percent.
    pub delta_p: DeltaP,
    /// Fraction of the tokens for which both models predict the same likeliest token, in percent.
    pub same_top: f64,
    /// Standard error of `same_top`, in percent.
    pub same_top_stderr: f64,
}

/// The results of the base alone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Base {
    /// Perplexity of the base over the same tokens.
    pub perplexity: Estimate,
}

/// Differences of probabilities, in percent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeltaP {
    /// Mean and quantiles, in percent.
    #[serde(flatten)]
    pub distribution: Distribution,
    /// Root of the mean square, in percent.
    pub rms: f64,
    /// Standard error of the root of the mean square, in percent.
    pub rms_stderr: f64,
}

impl Divergence {
    /// Adds a token. The order of tokens affects the last bits of the result.
    pub fn push(&mut self, token: &TokenStats) {
        self.model.push(token.nll);
        self.base.push(token.base_nll);
        self.nll_products += token.nll * token.base_nll;
        self.ln_ratio.push(token.nll - token.base_nll);
        self.kl.push(token.kl);
        self.kl_values.push(token.kl);
        let delta = 100.0 * token.delta_p();
        self.delta_p.push(delta);
        self.delta_p_squares.push(delta * delta);
        self.delta_p_values.push(delta);
        self.same_top += u64::from(token.same_top);
    }

    /// Returns the model's perplexity so far.
    pub fn perplexity(&self) -> &Perplexity {
        &self.model
    }

    /// Returns the mean divergence so far, in nats per token.
    pub fn kl(&self) -> Mean {
        self.kl.estimate()
    }

    /// Returns all statistics. Those that need more tokens than there are come out as NaN.
    pub fn comparison(&self) -> Comparison {
        let (model, base) = (self.model.estimate(), self.base.estimate());
        let ln_ratio = self.ln_ratio.estimate();
        let ratio = ln_ratio.mean.exp();
        let covariance = covariance(&self.model.nll, &self.base.nll, self.nll_products);
        let variance =
            model.stderr.powi(2) + base.stderr.powi(2) - 2.0 * model.value * base.value * covariance;
        let same_top = self.same_top as f64 / self.model.count() as f64;
        let others = self.model.count().saturating_sub(1) as f64;
        Comparison {
            base: Base { perplexity: base },
            ln_ratio,
            ratio: Estimate { value: ratio, stderr: ratio * ln_ratio.stderr },
            difference: Estimate { value: model.value - base.value, stderr: not_negative(variance).sqrt() },
            correlation: covariance / (self.model.nll.stderr() * self.base.nll.stderr()),
            kl: Distribution::of(&self.kl, &self.kl_values),
            delta_p: self.delta_p(),
            same_top: 100.0 * same_top,
            same_top_stderr: 100.0 * (same_top * (1.0 - same_top) / others).sqrt(),
        }
    }

    fn delta_p(&self) -> DeltaP {
        let rms = self.delta_p_squares.mean().sqrt();
        // The error follows from the derivative of the square root; where no probability differs, it is zero.
        let rms_stderr = if rms == 0.0 { 0.0 } else { 0.5 / rms * self.delta_p_squares.stderr() };
        DeltaP { distribution: Distribution::of(&self.delta_p, &self.delta_p_values), rms, rms_stderr }
    }
}

impl Extend<TokenStats> for Divergence {
    fn extend<T: IntoIterator<Item = TokenStats>>(&mut self, tokens: T) {
        tokens.into_iter().for_each(|token| self.push(&token));
    }
}
