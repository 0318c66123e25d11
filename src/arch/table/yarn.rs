//! YaRN (arXiv:2309.00071), as transformers reads it from a configuration and as llama.cpp reads it from a GGUF.

use crate::arch::config::{Config, ConfigError};
use crate::arch::table::keys::Keys;

/// Number of turns over the original context from which on llama.cpp leaves a pair alone, whatever the keys.
const BETA_FAST: f64 = 32.0;
/// Number of turns over the original context up to which llama.cpp stretches a pair in full.
const BETA_SLOW: f64 = 1.0;

/// The parameters of YaRN.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::arch) struct Yarn {
    /// Factor by which the context has become longer.
    factor: f64,
    original_context: u32,
    extrapolation: Option<f32>,
    attention: Option<f64>,
    mscale: Option<f64>,
    mscale_all_dim: Option<f64>,
    beta_fast: Option<f32>,
    beta_slow: Option<f32>,
    truncate: Option<bool>,
}

impl Yarn {
    /// Reads `params`, the section with the rotary settings; `original` is the context before the extension and `context`
    /// the present one, in tokens.
    pub(in crate::arch) fn read(
        params: &Config,
        original: Option<u32>,
        context: u32,
    ) -> Result<Self, ConfigError> {
        let original_context = original.unwrap_or(context);
        let positive = |key: &'static str| match params.optional_double(&[key])? {
            Some(number) if number > 0.0 => Ok(Some(number)),
            Some(_) => Err(params.unusable(key, "a positive number")),
            None => Ok(None),
        };
        let factor = match positive("factor")? {
            Some(factor) => factor,
            // In DeepSeek's configurations, an explicit null stands for the quotient of the contexts.
            None if params.value("factor").is_some() => f64::from(context) / f64::from(original_context),
            None => return Err(params.missing(&["factor"])),
        };
        Ok(Self {
            factor,
            original_context,
            extrapolation: params.optional_number(&["extrapolation_factor"])?,
            attention: positive("attention_factor")?,
            mscale: params.optional_double(&["mscale"])?,
            mscale_all_dim: params.optional_double(&["mscale_all_dim"])?,
            beta_fast: params.optional_number(&["beta_fast"])?,
            beta_slow: params.optional_number(&["beta_slow"])?,
            truncate: params.optional_flag("truncate")?,
        })
    }

    /// Returns transformers' factor of cosines and sines (`_compute_yarn_parameters`).
    pub(in crate::arch) fn multiplier(&self) -> f64 {
        match (self.attention, given(self.mscale), given(self.mscale_all_dim)) {
            (Some(attention), ..) => attention,
            (None, Some(mscale), Some(all)) => self.length(mscale) / self.length(all),
            (None, ..) => self.length(1.0),
        }
    }

    /// Returns the quotient of the length factors of scales of 1 and of `all`, which readers compute from the key
    /// `yarn_log_multiplier` of Mistral 3.
    pub(in crate::arch) fn quotient(&self, all: f64) -> f64 {
        self.length(1.0) / self.length(all)
    }

    /// Returns the length factor `0.1 * scale * ln(factor) + 1` of rotated pairs, which YaRN recommends with a `scale` of
    /// 1.
    fn length(&self, scale: f64) -> f64 {
        if self.factor <= 1.0 { 1.0 } else { 0.1 * scale * self.factor.ln() + 1.0 }
    }

    /// Returns true if the multiplier is the one that readers of the file compute from the factor.
    pub(in crate::arch) fn has_usual_multiplier(&self) -> bool {
        (self.multiplier() / self.length(1.0)) as f32 == 1.0
    }

    /// Returns a setting that keys cannot express, as a noun phrase with key, value and verb; `truncated` says whether
    /// the ends of the blend are whole pairs by default.
    pub(in crate::arch) fn unsaid(&self, truncated: bool) -> Option<String> {
        let beta = |key, value: Option<f32>, usual: f64| {
            let value = value.filter(|&value| value != 0.0 && f64::from(value) != usual)?;
            Some(format!("a YaRN blend with other ends than {usual} turns (`{key}` is {value}) is"))
        };
        let whole = self.truncate.filter(|&truncate| truncate != truncated).map(|truncate| {
            let ends = if truncate { "whole pairs" } else { "parts of pairs" };
            format!("a YaRN blend that ends at {ends} (`truncate` is {truncate}) is")
        });
        beta("beta_fast", self.beta_fast, BETA_FAST)
            .or_else(|| beta("beta_slow", self.beta_slow, BETA_SLOW))
            .or(whole)
    }

    /// Adds the keys in the converter's order, and the multiplier if it is not what readers of the file compute from the
    /// factor. `latent` is true for DeepSeek's attention.
    pub(in crate::arch) fn write(&self, keys: &mut Keys, latent: bool) {
        self.write_common(keys);
        let length = self.multiplier();
        let kept = latent && self.log_multiplier().is_some();
        let factor = if kept { length } else { length / self.length(1.0) };
        if factor as f32 != 1.0 {
            keys.number("rope.scaling.attn_factor", factor as f32);
        }
    }

    /// Returns `yarn_log_multiplier` for DeepSeek's latent attention, which multiplies scores by a further factor.
    ///
    /// In llama.cpp's graph rotated pairs have the length `r`: `attn_factor` if there is a log multiplier `l`, else that
    /// times `0.1 ln(factor) + 1`. It multiplies scores by `(r * (1 + l ln(factor)))^2`, transformers by
    /// `(0.1 mscale_all_dim ln(factor) + 1)^2`.
    pub(in crate::arch) fn log_multiplier(&self) -> Option<f32> {
        let (length, all) = (self.multiplier(), given(self.mscale_all_dim).unwrap_or(0.0));
        let root = if all == 0.0 { 1.0 } else { self.length(all) };
        let log = match length == 1.0 {
            // The value is the one that the converter writes.
            true => 0.1 * all as f32,
            false => ((root / length - 1.0) / self.factor.ln()) as f32,
        };
        Some(log).filter(|log| log.is_finite() && *log != 0.0)
    }

    fn write_common(&self, keys: &mut Keys) {
        keys.add("rope.scaling.type", "yarn".into());
        keys.number("rope.scaling.factor", self.factor as f32);
        keys.count("rope.scaling.original_context_length", self.original_context);
        keys.optional_number("rope.scaling.yarn_ext_factor", self.extrapolation);
        keys.optional_number("rope.scaling.yarn_beta_fast", self.beta_fast);
        keys.optional_number("rope.scaling.yarn_beta_slow", self.beta_slow);
    }
}

/// Returns `value` unless it is 0, which transformers takes for absent.
fn given(value: Option<f64>) -> Option<f64> {
    value.filter(|&value| value != 0.0)
}
