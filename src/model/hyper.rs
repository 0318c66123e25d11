//! Hyper-parameters, from GGUF keys whatever the checkpoint's format.

use kquant_formats::gguf::{Metadata, Value};
use kquant_kernels::math::Heads;

use super::ModelError;

/// What the forward pass needs to know besides the weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Hyper {
    /// `general.architecture`.
    pub architecture: String,
    /// Number of layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Longest context that the model was trained for, in tokens.
    pub context: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; a divisor of `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head: usize,
    /// Dimensions of a head that are rotated.
    pub rotary: usize,
    /// Base of the rotary frequencies.
    pub rope_base: f32,
    /// Positions are divided by this (linear scaling).
    pub rope_scale: f32,
    /// Added to the variance in norms.
    pub epsilon: f32,
}

impl Hyper {
    /// The shape of its attention; scores are divided by the root of the head's width.
    pub fn attention(&self) -> Heads {
        Heads {
            heads: self.heads,
            kv_heads: self.kv_heads,
            dim: self.head,
            scale: 1.0 / (self.head as f32).sqrt(),
        }
    }

    /// Reads the keys of the file's architecture.
    ///
    /// # Errors
    /// When a key is missing, of a wrong type, or a value makes no model.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, ModelError> {
        let architecture = metadata
            .get("general.architecture")
            .and_then(Value::as_str)
            .ok_or_else(|| ModelError::Key { key: "general.architecture".into(), what: "is missing".into() })?
            .to_owned();
        let keys = Keys { metadata, architecture: &architecture };
        let heads = keys.count("attention.head_count")?;
        let hidden = keys.count("embedding_length")?;
        let head = keys.optional("attention.key_length")?.unwrap_or(hidden / heads);
        let value = keys.optional("attention.value_length")?.unwrap_or(head);
        let hyper = Self {
            layers: keys.count("block_count")?,
            hidden,
            context: keys.count("context_length")?,
            heads,
            kv_heads: keys.optional("attention.head_count_kv")?.unwrap_or(heads),
            head,
            rotary: keys.optional("rope.dimension_count")?.unwrap_or(head),
            rope_base: keys.number("rope.freq_base")?.unwrap_or(10000.0),
            rope_scale: keys.rope_scale()?,
            epsilon: match keys.number("attention.layer_norm_rms_epsilon")? {
                Some(epsilon) => epsilon,
                None => keys.number("attention.layer_norm_epsilon")?.unwrap_or(1e-5),
            },
            architecture: architecture.clone(),
        };
        if hyper.kv_heads > heads || !heads.is_multiple_of(hyper.kv_heads) {
            return Err(keys.wrong("attention.head_count_kv", "must divide attention.head_count"));
        }
        if value != head {
            return Err(
                keys.wrong("attention.value_length", "differs from key_length, which is not supported")
            );
        }
        if hyper.rotary > head || !hyper.rotary.is_multiple_of(2) {
            return Err(keys.wrong("rope.dimension_count", "must be even and at most the head's width"));
        }
        Ok(hyper)
    }
}

/// The architecture's keys.
struct Keys<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
}

impl Keys<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(&format!("{}.{key}", self.architecture))
    }

    fn wrong(&self, key: &str, what: &str) -> ModelError {
        ModelError::Key { key: format!("{}.{key}", self.architecture), what: what.to_owned() }
    }

    /// A positive number that fits memory sizes, if the key is there.
    fn optional(&self, key: &str) -> Result<Option<usize>, ModelError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let count = value.as_u64().and_then(|v| u32::try_from(v).ok()).filter(|&v| v > 0);
        count
            .map(|v| Some(v as usize))
            .ok_or_else(|| self.wrong(key, "is no positive whole number of 32 bits"))
    }

    fn count(&self, key: &str) -> Result<usize, ModelError> {
        self.optional(key)?.ok_or_else(|| self.wrong(key, "is missing"))
    }

    fn number(&self, key: &str) -> Result<Option<f32>, ModelError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::F32(v)) if v.is_finite() => Ok(Some(*v)),
            Some(_) => Err(self.wrong(key, "is no finite 32-bit float")),
        }
    }

    fn rope_scale(&self) -> Result<f32, ModelError> {
        match self.get("rope.scaling.type").and_then(Value::as_str) {
            None | Some("none") => Ok(1.0),
            Some("linear") => Ok(self.number("rope.scaling.factor")?.filter(|f| *f > 0.0).unwrap_or(1.0)),
            Some(_) => {
                Err(self
                    .wrong("rope.scaling.type", "is neither none nor linear; others are not supported yet"))
            }
        }
    }
}
