//! Parameters of RoPE and of the scale of attention scores from GGUF keys, read as llama.cpp's graphs of the
//! architectures do.
//!
//! Keys that only other architectures' graphs read (`rope.scaling.yarn_attn_factor`, `yarn_ext_factor`, `yarn_beta_fast`,
//! `yarn_beta_slow`: Grok and Mistral 3) are ignored.

use kquant_kernels::math::Yarn;

use crate::graph::keys::Keys;
use crate::graph::{Graph, KeyError, RopeKeys};

/// Number of turns over the original context from which on YaRN leaves a pair alone; llama.cpp's default.
const BETA_FAST: f64 = 32.0;
/// Number of turns over the original context up to which YaRN stretches a pair in full; llama.cpp's default.
const BETA_SLOW: f64 = 1.0;

/// The stretching of positions.
struct Stretch {
    /// True if `rope.scaling.type` is `yarn`.
    yarn: bool,
    /// Factor by which the context has become longer; 1 if positions are not stretched.
    factor: f32,
    /// Value of `rope.scaling.attn_factor`.
    attention: f64,
    /// Value of `rope.scaling.yarn_log_multiplier`, which only DeepSeek 2 and Mistral 3 have, if it is not 0.
    log: Option<f64>,
    /// True for the attention of DeepSeek 2, whose log multiplier is a factor of scores.
    latent: bool,
}

impl Stretch {
    /// Returns `1 + 0.1 ln(factor)`.
    fn logarithmic(&self) -> f64 {
        1.0 + 0.1 * f64::from(self.factor).ln()
    }

    /// Returns the factor of the length of rotated pairs.
    fn length(&self) -> f64 {
        match self.log {
            _ if !self.yarn || self.factor <= 1.0 => self.attention,
            None => self.attention * self.logarithmic(),
            Some(_) if self.latent => self.attention,
            Some(log) => {
                let divisor = 1.0 + 0.1 * log * f64::from(self.factor).ln();
                self.attention * self.logarithmic() / divisor
            }
        }
    }
}

impl Keys<'_> {
    fn stretch(&self) -> Result<Stretch, KeyError> {
        let kind = match self.get("rope.scaling.type") {
            // The default is llama.cpp's.
            None => "linear",
            Some(kind) => kind.as_str().unwrap_or_default(),
        };
        if !matches!(kind, "none" | "linear" | "yarn" | "longrope") {
            let what = "is none of none, linear, yarn and longrope; others are not supported yet";
            return Err(self.wrong("rope.scaling.type", what));
        }
        let factor = match self.get("rope.scaling.factor") {
            Some(_) => self.positive("rope.scaling.factor")?,
            // The first GGUF files have this name of the key.
            None => self.positive("rope.scale_linear")?,
        };
        let latent = self.architecture == "deepseek2";
        let reads = latent || self.architecture == "mistral3";
        let log = self.number("rope.scaling.yarn_log_multiplier")?.filter(|&log| reads && log != 0.0);
        Ok(Stretch {
            yarn: kind == "yarn",
            factor: factor.filter(|_| kind != "none").unwrap_or(1.0),
            attention: f64::from(self.number("rope.scaling.attn_factor")?.unwrap_or(1.0)),
            log: log.map(f64::from),
            latent,
        })
    }

    /// Returns the factor of attention scores; `width` is the width of a head of queries and keys.
    pub(crate) fn attention_scale(&self, width: usize, hidden: usize, heads: usize) -> Result<f32, KeyError> {
        if let Some(scale) = self.positive("attention.scale")? {
            return Ok(scale);
        }
        // Gemma 4 does not scale scores, since queries and keys are normed.
        if self.architecture == "gemma4" {
            return Ok(1.0);
        }
        // The keys of the two largest Gemmas do not give the factor.
        let by_hidden = matches!(
            (self.architecture, self.natural("block_count")?),
            ("gemma2", Some(46)) | ("gemma3", Some(62))
        );
        let scale = 1.0 / (if by_hidden { hidden / heads } else { width } as f32).sqrt();
        if self.architecture != "deepseek2" {
            return Ok(scale);
        }
        let stretch = self.stretch()?;
        // The first length is for rotated pairs; the second is the one without YaRN, times what YaRN would make of it.
        let length = if stretch.yarn { stretch.length() } else { stretch.length() * stretch.logarithmic() };
        let root = length * (1.0 + stretch.log.unwrap_or(0.0) * f64::from(stretch.factor).ln());
        Ok(scale * (root * root) as f32)
    }

    pub(crate) fn rope(&self, graph: &Graph, context: usize) -> Result<RopeKeys, KeyError> {
        let stretch = self.stretch()?;
        let original = self.natural("rope.scaling.original_context_length")?.filter(|&n| n > 0);
        let original = original.unwrap_or(context);
        let number = |key: &str, default: f32| self.number(key).map(|n| n.unwrap_or(default));
        let yarn = stretch.yarn.then(|| Yarn {
            factor: f64::from(stretch.factor),
            original: original as f64,
            beta_fast: BETA_FAST,
            beta_slow: BETA_SLOW,
            truncated: graph.yarn_truncated,
        });
        Ok(RopeKeys {
            base: number("rope.freq_base", 10000.0)?,
            window_base: match graph.window_base {
                Some(base) => Some(number("rope.freq_base_swa", base)?),
                None => None,
            },
            scale: stretch.factor,
            yarn,
            length: stretch.length(),
            window_length: stretch.attention,
            original,
        })
    }
}
