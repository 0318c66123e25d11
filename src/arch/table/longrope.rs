//! LongRoPE (Ding et al., 2024): each frequency has a divisor, and another one in long contexts.

use crate::arch::config::{Config, ConfigError};

/// The parameters of LongRoPE.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::arch) struct LongRope {
    /// Divisors of the frequencies in contexts longer than the original, `[rotary / 2]`.
    pub long: Vec<f32>,
    /// Divisors of the frequencies in contexts up to the original length, `[rotary / 2]`.
    pub short: Vec<f32>,
    /// Factor of cosines and sines.
    pub multiplier: f64,
    /// Number of tokens from which on a context is long.
    pub original: u32,
}

/// Phi 3's original context in tokens if its configuration does not give one, as in transformers.
const ORIGINAL: u32 = 4096;

impl LongRope {
    /// Reads `params`, the section with the rotary settings; `original` is the context before the extension and `context`
    /// the present one, in tokens (transformers, `_compute_longrope_parameters`).
    pub(in crate::arch) fn read(
        params: &Config,
        original: Option<u32>,
        context: u32,
    ) -> Result<Self, ConfigError> {
        let original = original.unwrap_or(ORIGINAL);
        let factors = |key: &'static str| params.optional_numbers(key)?.ok_or_else(|| params.missing(&[key]));
        let factor = match params.optional_double(&["factor"])? {
            Some(factor) => factor,
            None => f64::from(context) / f64::from(original),
        };
        let multiplier = match params.optional_double(&["attention_factor"])? {
            Some(attention) if attention > 0.0 => attention,
            Some(_) => return Err(params.unusable("attention_factor", "a positive number")),
            None if factor <= 1.0 => 1.0,
            None => (1.0 + factor.ln() / f64::from(original).ln()).sqrt(),
        };
        Ok(Self { long: factors("long_factor")?, short: factors("short_factor")?, multiplier, original })
    }
}
