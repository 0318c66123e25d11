//! Rotary position settings of `config.json`, in the layout before transformers 5 (`rope_theta`, `rope_scaling`) and
//! since (`rope_parameters`).

use super::keys::Keys;
use crate::arch::config::{Config, ConfigError};
use crate::arch::table::longrope::LongRope;
use crate::arch::table::yarn::Yarn;

/// Base of the rotary frequencies if a configuration gives none, as in transformers.
const DEFAULT_THETA: f32 = 10000.0;

/// The rotary position settings of a model.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::arch) struct Rope {
    /// Base of the frequencies.
    pub theta: f32,
    /// Base of the frequencies in layers with a window, if it is another one.
    pub window_theta: Option<f32>,
    /// The way in which the context is extended.
    pub scaling: Scaling,
    /// Value of `rope_type` for layers with a window, if the configuration gives one.
    pub window_scaling: Option<String>,
}

/// The scaling of positions or frequencies.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::arch) enum Scaling {
    /// There is no scaling.
    None,
    /// Scaling applies only beyond the trained context, which GGUF does not record.
    Dynamic,
    /// Positions are divided by `factor`.
    Linear { factor: f32 },
    /// Frequencies are scaled by YaRN.
    Yarn(Yarn),
    /// Frequencies are scaled by Llama 3.1's bands.
    Llama3(Llama3),
    /// Frequencies are scaled by LongRoPE.
    Long(LongRope),
    /// A part of the pairs turns, at the frequencies that they have in the whole head.
    Proportional,
}

impl Scaling {
    /// Returns the name in `rope_type`.
    pub(in crate::arch) fn name(&self) -> &'static str {
        match self {
            Self::None => "default",
            Self::Dynamic => "dynamic",
            Self::Linear { .. } => "linear",
            Self::Yarn(_) => "yarn",
            Self::Llama3(_) => "llama3",
            Self::Long(_) => "longrope",
            Self::Proportional => "proportional",
        }
    }
}

/// The parameters of Llama 3.1's scaling.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::arch) struct Llama3 {
    factor: f32,
    low_frequency: f32,
    high_frequency: f32,
    original_context: u32,
}

/// Returns the section with the rotary settings: transformers takes `rope_scaling` first unless it is empty.
pub(in crate::arch) fn section(config: &Config) -> Result<Option<Config>, ConfigError> {
    match config.optional_section(&["rope_scaling"])? {
        Some(scaling) if scaling.keys().next().is_some() => Ok(Some(scaling)),
        _ => config.optional_section(&["rope_parameters"]),
    }
}

impl Rope {
    /// Reads the settings; `context` is the model's context length in tokens.
    pub(in crate::arch) fn read(config: &Config, context: u32) -> Result<Self, ConfigError> {
        let flat = config.optional_number(&["rope_theta", "rotary_emb_base"])?;
        let mut window_theta = config.optional_number(&["rope_local_base_freq"])?;
        let mut window_scaling = None;
        let Some(mut params) = section(config)? else {
            let theta = flat.unwrap_or(DEFAULT_THETA);
            return Ok(Self { theta, window_theta, scaling: Scaling::None, window_scaling });
        };
        // Some models have separate settings for each kind of layer (Gemma 3).
        if let Some(window) = params.optional_section(&["sliding_attention"])? {
            window_theta = window.optional_number(&["rope_theta"])?.or(window_theta);
            window_scaling = window.optional_text(&["rope_type", "type"])?.map(str::to_owned);
        }
        if let Some(full) = params.optional_section(&["full_attention"])? {
            params = full;
        }
        let theta = params.optional_number(&["rope_theta"])?.or(flat).unwrap_or(DEFAULT_THETA);
        let scaling = Scaling::read(&params, config, context)?;
        Ok(Self { theta, window_theta, scaling, window_scaling })
    }
}

impl Scaling {
    fn read(params: &Config, config: &Config, context: u32) -> Result<Self, ConfigError> {
        // A value outside the section takes precedence in transformers (Phi 3).
        const ORIGINAL: &[&str] = &["original_max_position_embeddings"];
        let original = || {
            Ok(config.optional_count(ORIGINAL)?.or(params.optional_count(ORIGINAL)?))
                as Result<_, ConfigError>
        };
        let key = if params.optional_text(&["rope_type"])?.is_some() { "rope_type" } else { "type" };
        Ok(match params.optional_text(&[key])?.unwrap_or("default") {
            // Positions by directions of images, which are one for text (Qwen 2 VL).
            "default" | "mrope" => Self::None,
            "dynamic" => Self::Dynamic,
            "linear" => Self::Linear { factor: params.number(&["factor"])? },
            "yarn" => Self::Yarn(Yarn::read(params, original()?, context)?),
            "proportional" => Self::Proportional,
            "longrope" | "su" => Self::Long(LongRope::read(params, original()?, context)?),
            "llama3" => Self::Llama3(Llama3 {
                factor: params.number(&["factor"])?,
                low_frequency: params.number(&["low_freq_factor"])?,
                high_frequency: params.number(&["high_freq_factor"])?,
                original_context: original()?.ok_or_else(|| params.missing(ORIGINAL))?,
            }),
            _ => {
                return Err(params
                    .unusable(key, "one of default, dynamic, linear, yarn, llama3, longrope, proportional"));
            }
        })
    }
}

impl Rope {
    /// Adds the `rope.scaling.*` keys and the bases, in the converter's order; `latent` is true for DeepSeek's attention.
    pub(in crate::arch) fn write(&self, keys: &mut Keys, latent: bool) {
        self.write_scaling(keys, latent);
        keys.number("rope.freq_base", self.theta);
        keys.optional_number("rope.freq_base_swa", self.window_theta);
    }

    /// Adds the keys of the scaling, which readers of the file apply in every family.
    pub(in crate::arch) fn write_scaling(&self, keys: &mut Keys, latent: bool) {
        match &self.scaling {
            Scaling::None
            | Scaling::Dynamic
            | Scaling::Llama3(_)
            | Scaling::Long(_)
            | Scaling::Proportional => {}
            Scaling::Linear { factor } => {
                keys.add("rope.scaling.type", "linear".into());
                keys.number("rope.scaling.factor", *factor);
            }
            Scaling::Yarn(yarn) => yarn.write(keys, latent),
        }
    }

    /// Adds the keys of the scaling, and the base if it is not what readers of the file assume.
    pub(in crate::arch) fn write_unusual(&self, keys: &mut Keys) {
        self.write_scaling(keys, false);
        if self.theta != DEFAULT_THETA {
            keys.number("rope.freq_base", self.theta);
        }
    }

    /// Returns the divisors of the frequencies, `[head_dim / 2]`, if the scaling is Llama 3's.
    pub(in crate::arch) fn factors(&self, head_dim: u32) -> Option<Vec<f32>> {
        let Scaling::Llama3(llama3) = &self.scaling else { return None };
        Some(
            (0..head_dim).step_by(2).map(|i| llama3.factor(self.theta, i as f32 / head_dim as f32)).collect(),
        )
    }
}

impl Llama3 {
    /// Returns the divisor of the frequency `theta ^ -exponent`: 1 for short waves, `factor` for long ones, and between
    /// them a linear blend of the reciprocals (transformers, `_compute_llama3_parameters`).
    ///
    /// Every operation rounds to f32, and quotients of a constant are products with a reciprocal, because the converter's
    /// arithmetic is PyTorch's. The power is computed in f64 so that it is the same on every platform.
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
