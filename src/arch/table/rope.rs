//! Rotary position settings of `config.json`, in the layout before transformers 5 (`rope_theta`, `rope_scaling`) and
//! since (`rope_parameters`).

use super::keys::Keys;
use crate::arch::config::{Config, ConfigError};

/// Base of the rotary frequencies where a configuration gives none: transformers' default.
const DEFAULT_THETA: f32 = 10000.0;

/// Rotary position settings.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::arch) struct Rope {
    /// Base of the frequencies.
    pub theta: f32,
    /// The same in layers that see a window of the text only, where it is another one.
    pub window_theta: Option<f32>,
    /// How longer contexts are reached.
    pub scaling: Scaling,
}

/// How positions or frequencies are stretched.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::arch) enum Scaling {
    /// Not at all, or only beyond the trained context ("dynamic"), which GGUF does not record.
    None,
    /// Positions divided by `factor`.
    Linear { factor: f32 },
    /// YaRN (arXiv:2309.00071).
    Yarn(Yarn),
    /// Llama 3.1's frequency bands.
    Llama3(Llama3),
}

/// YaRN's parameters.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::arch) struct Yarn {
    factor: f32,
    original_context: u32,
    extrapolation: Option<f32>,
    attention: Option<f32>,
    beta_fast: Option<f32>,
    beta_slow: Option<f32>,
}

/// Llama 3.1's parameters.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::arch) struct Llama3 {
    factor: f32,
    low_frequency: f32,
    high_frequency: f32,
    original_context: u32,
}

impl Rope {
    /// Reads the settings; `context` is the model's context length in tokens.
    pub(in crate::arch) fn read(config: &Config, context: u32) -> Result<Self, ConfigError> {
        let flat = config.optional_number(&["rope_theta", "rotary_emb_base"])?;
        let mut window_theta = config.optional_number(&["rope_local_base_freq"])?;
        let Some(mut params) = config.optional_section(&["rope_parameters", "rope_scaling"])? else {
            return Ok(Self { theta: flat.unwrap_or(DEFAULT_THETA), window_theta, scaling: Scaling::None });
        };
        // Kinds of layers with settings of their own (Gemma 3).
        if let Some(window) = params.optional_section(&["sliding_attention"])? {
            window_theta = window.optional_number(&["rope_theta"])?.or(window_theta);
        }
        if let Some(full) = params.optional_section(&["full_attention"])? {
            params = full;
        }
        let theta = params.optional_number(&["rope_theta"])?.or(flat).unwrap_or(DEFAULT_THETA);
        let original = || -> Result<Option<u32>, ConfigError> {
            const KEY: &[&str] = &["original_max_position_embeddings"];
            Ok(params.optional_count(KEY)?.or(config.optional_count(KEY)?))
        };
        let key = if params.optional_text(&["rope_type"])?.is_some() { "rope_type" } else { "type" };
        let scaling = match params.optional_text(&[key])?.unwrap_or("default") {
            "default" | "dynamic" => Scaling::None,
            "linear" => Scaling::Linear { factor: params.number(&["factor"])? },
            "yarn" => Scaling::Yarn(Yarn {
                factor: params.number(&["factor"])?,
                original_context: original()?.unwrap_or(context),
                extrapolation: params.optional_number(&["extrapolation_factor"])?,
                attention: params.optional_number(&["attention_factor", "attn_factor"])?,
                beta_fast: params.optional_number(&["beta_fast"])?,
                beta_slow: params.optional_number(&["beta_slow"])?,
            }),
            "llama3" => Scaling::Llama3(Llama3 {
                factor: params.number(&["factor"])?,
                low_frequency: params.number(&["low_freq_factor"])?,
                high_frequency: params.number(&["high_freq_factor"])?,
                original_context: original()?
                    .ok_or_else(|| params.missing(&["original_max_position_embeddings"]))?,
            }),
            _ => return Err(params.unusable(key, "one of default, dynamic, linear, yarn, llama3")),
        };
        Ok(Self { theta, window_theta, scaling })
    }

    /// Adds the `rope.scaling.*` keys and the base, in the converter's order.
    pub(in crate::arch) fn write(&self, keys: &mut Keys) {
        match &self.scaling {
            Scaling::None | Scaling::Llama3(_) => {}
            Scaling::Linear { factor } => {
                keys.add("rope.scaling.type", "linear".into());
                keys.number("rope.scaling.factor", *factor);
            }
            Scaling::Yarn(yarn) => {
                keys.add("rope.scaling.type", "yarn".into());
                keys.number("rope.scaling.factor", yarn.factor);
                keys.count("rope.scaling.original_context_length", yarn.original_context);
                keys.optional_number("rope.scaling.yarn_ext_factor", yarn.extrapolation);
                keys.optional_number("rope.scaling.yarn_attn_factor", yarn.attention);
                keys.optional_number("rope.scaling.yarn_beta_fast", yarn.beta_fast);
                keys.optional_number("rope.scaling.yarn_beta_slow", yarn.beta_slow);
            }
        }
        keys.number("rope.freq_base", self.theta);
        keys.optional_number("rope.freq_base_swa", self.window_theta);
    }

    /// Adds the base alone, where it is not what readers of the file assume.
    pub(in crate::arch) fn write_unusual(&self, keys: &mut Keys) {
        if self.theta != DEFAULT_THETA {
            keys.number("rope.freq_base", self.theta);
        }
    }

    /// The divisors of the frequencies, `[head_dim / 2]`, where the scaling is Llama 3's.
    pub(in crate::arch) fn factors(&self, head_dim: u32) -> Option<Vec<f32>> {
        let Scaling::Llama3(llama3) = &self.scaling else { return None };
        Some(
            (0..head_dim).step_by(2).map(|i| llama3.factor(self.theta, i as f32 / head_dim as f32)).collect(),
        )
    }
}

impl Llama3 {
    /// The divisor of the frequency `theta ^ -exponent`: 1 for short waves, `factor` for long ones, between them a
    /// linear blend of the reciprocals (transformers, `_compute_llama3_parameters`).
    ///
    /// Every operation rounds to f32, quotients of a constant are products with a reciprocal: the converter's
    /// arithmetic is PyTorch's. The power goes through f64 so that it is the same on every platform.
    fn factor(&self, theta: f32, exponent: f32) -> f32 {
        let context = self.original_context as f32;
        let frequency = 1.0 / f64::from(theta).powf(exponent.into()) as f32;
        let wavelength = (1.0 / frequency) * std::f32::consts::TAU;
        if wavelength < context / self.high_frequency {
            1.0
        } else if wavelength > context / self.low_frequency {
            self.factor
        } else {
            let waves = (1.0 / wavelength) * context;
            let smooth = (waves - self.low_frequency) / (self.high_frequency - self.low_frequency);
            1.0 / ((1.0 - smooth) / self.factor + smooth)
        }
    }
}
