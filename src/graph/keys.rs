//! Typed GGUF keys of an architecture, and the hyper-parameters that follow from several keys; `rope_keys` has those of
//! positions.

use kquant_formats::gguf::{Array, Metadata, Value};

use super::KeyError;
use crate::graph::{Experts, Graph, Growth, HeadWidths, Latent, Scales, Scores, Windows};

/// Returns the value of `general.architecture`.
pub(crate) fn architecture(metadata: &Metadata) -> Result<&str, KeyError> {
    metadata
        .get("general.architecture")
        .and_then(Value::as_str)
        .ok_or_else(|| KeyError { key: "general.architecture".into(), what: "is missing".into() })
}

/// The key that says which layers have a window: a list of flags, or the number of layers from one without to the next.
pub(crate) const WINDOW_PATTERN: &str = "attention.sliding_window_pattern";

/// The prefix of the keys of the activation xIELU, which is not the architecture's.
pub(crate) const XIELU: &str = "xielu.";

/// The key of the width inside the shared experts.
const SHARED_WIDTH: &str = "expert_shared_feed_forward_length";

/// A reader of the architecture's keys.
pub(crate) struct Keys<'a> {
    pub metadata: &'a Metadata,
    pub architecture: &'a str,
}

impl Keys<'_> {
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(&format!("{}.{key}", self.architecture))
    }

    pub(crate) fn wrong(&self, key: &str, what: &str) -> KeyError {
        KeyError { key: format!("{}.{key}", self.architecture), what: what.to_owned() }
    }

    /// Returns the whole number under `key`, which must fit memory sizes; `None` if the key is absent.
    pub(crate) fn natural(&self, key: &str) -> Result<Option<usize>, KeyError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let count = value.as_u64().and_then(|v| u32::try_from(v).ok());
        count.map(|v| Some(v as usize)).ok_or_else(|| self.wrong(key, "is no whole number of 32 bits"))
    }

    /// Returns the positive whole number under `key`; `None` if the key is absent.
    pub(crate) fn optional(&self, key: &str) -> Result<Option<usize>, KeyError> {
        let count = self.natural(key).ok().flatten().filter(|&count| count > 0);
        if self.get(key).is_some() && count.is_none() {
            return Err(self.wrong(key, "is no positive whole number of 32 bits"));
        }
        Ok(count)
    }

    pub(crate) fn count(&self, key: &str) -> Result<usize, KeyError> {
        self.optional(key)?.ok_or_else(|| self.wrong(key, "is missing"))
    }

    /// Returns the list of whole numbers under `key`, one for each layer; `None` if the key is absent or no list.
    pub(crate) fn list(&self, key: &str, layers: usize) -> Result<Option<Vec<usize>>, KeyError> {
        let wide: Option<Vec<usize>> = match self.get(key) {
            Some(Value::Array(Array::I32(list))) => list.iter().map(|&n| usize::try_from(n).ok()).collect(),
            Some(Value::Array(Array::U32(list))) => Some(list.iter().map(|&n| n as usize).collect()),
            Some(Value::Array(_)) => None,
            _ => return Ok(None),
        };
        let list = wide.filter(|list| list.len() >= layers);
        let mut list = list.ok_or_else(|| self.wrong(key, "is no list of a whole number for each layer"))?;
        list.truncate(layers);
        Ok(Some(list))
    }

    /// Returns the number of query heads, which is 0 in architectures without attention.
    pub(crate) fn heads(&self) -> Result<usize, KeyError> {
        match self.get("attention.head_count").and_then(Value::as_u64) {
            Some(0) if self.get("ssm.conv_kernel").is_some() => Ok(0),
            _ => self.count("attention.head_count"),
        }
    }

    /// Returns the widths of heads in layers with a window, if the keys have others for them.
    pub(crate) fn window_heads(&self) -> Result<Option<HeadWidths>, KeyError> {
        let Some(head) = self.optional("attention.key_length_swa")? else { return Ok(None) };
        let value = self.optional("attention.value_length_swa")?.unwrap_or(head);
        let rotary = self.optional("rope.dimension_count_swa")?.unwrap_or(head);
        Ok(Some(HeadWidths { head, value, rotary }))
    }

    /// Returns the largest number of key-value heads of a layer; `list` has those of each layer, if the keys do.
    pub(crate) fn kv_heads(&self, list: Option<&[usize]>, heads: usize) -> Result<usize, KeyError> {
        const KEY: &str = "attention.head_count_kv";
        let Some(list) = list else { return Ok(self.optional(KEY)?.unwrap_or(heads)) };
        let most = list.iter().copied().max().unwrap_or(0);
        if most > 0 { Ok(most) } else { Err(self.wrong(KEY, "has no layer with attention")) }
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<f32>, KeyError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::F32(v)) if v.is_finite() => Ok(Some(*v)),
            Some(_) => Err(self.wrong(key, "is no finite 32-bit float")),
        }
    }

    /// Returns the number under `key`; `None` if it is not positive or the key is absent.
    pub(crate) fn positive(&self, key: &str) -> Result<Option<f32>, KeyError> {
        Ok(self.number(key)?.filter(|&number| number > 0.0))
    }

    /// Returns the bound of scores or logits under `key`; without the key it is `default`, which llama.cpp's Gemma 2 has.
    pub(crate) fn bound(&self, key: &str, default: f32) -> Result<Option<f32>, KeyError> {
        match self.get(key) {
            None if self.architecture == "gemma2" => Ok(Some(default)),
            _ => self.positive(key),
        }
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, KeyError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(key, "is neither true nor false")),
        }
    }

    /// Returns true if the value under `key` is a list.
    pub(crate) fn is_list(&self, key: &str) -> bool {
        matches!(self.get(key), Some(Value::Array(_)))
    }

    /// Returns for each layer whether it has a window, if the keys list it and the graph has windows in some layers.
    pub(crate) fn window_layers(&self, graph: &Graph) -> Result<Option<Vec<bool>>, KeyError> {
        if !matches!(graph.windows, Windows::Pattern(_) | Windows::PatternAfter(_))
            || !self.is_list(WINDOW_PATTERN)
        {
            return Ok(None);
        }
        match self.get(WINDOW_PATTERN) {
            Some(Value::Array(Array::Bool(list))) => Ok(Some(list.clone())),
            _ => Err(self.wrong(WINDOW_PATTERN, "is neither a number nor a list of true and false")),
        }
    }

    /// Returns the factors of embeddings and of what blocks add to the stream, and the divisor of logits.
    pub(crate) fn scales(&self, graph: &Graph, hidden: usize, layers: usize) -> Result<[f32; 3], KeyError> {
        if let Some(Scales { embedding, depth, width }) = graph.scales {
            return Ok([embedding, depth / (layers as f32).sqrt(), hidden as f32 / width]);
        }
        let positive = |key: &str| self.positive(key).map(|factor| factor.unwrap_or(1.0));
        let root = (hidden as f32).sqrt();
        let embedding = if graph.scaled_embedding { root } else { positive("embedding_scale")? };
        let logits = positive("logit_scale")?;
        let divisor = if graph.multiplied_logits { 1.0 / logits } else { logits };
        Ok([embedding, positive("residual_scale")?, divisor])
    }

    /// Returns for each layer the numbers of its activation xIELU, whose keys have a prefix of their own; none without the keys.
    pub(crate) fn xielu(&self) -> Result<Vec<[f32; 4]>, KeyError> {
        let list = |name: &str| {
            let key = format!("{XIELU}{name}");
            match self.metadata.get(&key) {
                None => Ok(Vec::new()),
                Some(Value::Array(Array::F32(list))) => Ok(list.clone()),
                Some(_) => Err(KeyError { key, what: "is no list of 32-bit floats".into() }),
            }
        };
        let (alpha_p, alpha_n) = (list("alpha_p")?, list("alpha_n")?);
        let (beta, eps) = (list("beta")?, list("eps")?);
        let numbers = alpha_p.iter().zip(&alpha_n).zip(beta.iter().zip(&eps));
        Ok(numbers.map(|((p, n), (beta, eps))| [*p, *n, *beta, *eps]).collect())
    }

    /// Returns the growth of queries with their position, as llama.cpp has it: in Mistral 3, the step is the context before YaRN, and
    /// Llama 4 has fixed numbers.
    pub(crate) fn growth(&self) -> Result<Option<Growth>, KeyError> {
        if self.architecture == "llama4" {
            return Ok(Some(Growth { rate: 0.1, step: 8192, offset: 1 }));
        }
        let rate = self.number("attention.temperature_scale")?.filter(|&rate| rate != 0.0);
        let Some(rate) = rate.filter(|_| self.architecture == "mistral3") else { return Ok(None) };
        let step = self.count("rope.scaling.original_context_length")?;
        Ok(Some(Growth { rate, step, offset: 0 }))
    }

    pub(crate) fn experts(&self, graph: &Graph) -> Result<Option<Experts>, KeyError> {
        let Some(count) = self.natural("expert_count")?.filter(|&count| count > 0) else { return Ok(None) };
        let scores = match self.natural("expert_gating_func")? {
            None | Some(0) => graph.routing.scores,
            Some(1) => Some(Scores::Softmax),
            Some(2) => Some(Scores::Sigmoid),
            Some(3) => Some(Scores::SoftmaxOfChosen),
            Some(_) => {
                return Err(self.wrong("expert_gating_func", "is a function that is not supported yet"));
            }
        };
        let groups = self.optional("expert_group_count")?.zip(self.optional("expert_group_used_count")?);
        Ok(Some(Experts {
            count,
            used: self.count("expert_used_count")?,
            scores,
            normalized: self.flag("expert_weights_norm")?.unwrap_or(graph.routing.normalized),
            scale: self.positive("expert_weights_scale")?.unwrap_or(1.0),
            groups: groups.filter(|&(groups, _)| groups > 1),
            shared: self
                .natural("expert_shared_count")?
                .or(self.natural(SHARED_WIDTH)?)
                .is_some_and(|n| n > 0),
        }))
    }

    /// Returns the latent attention; `share` is the stream's share of a head, which is the width of a value where no key says it.
    pub(crate) fn latent(&self, share: usize) -> Result<Option<Latent>, KeyError> {
        let Some(rank) = self.optional("attention.kv_lora_rank")? else { return Ok(None) };
        let by_heads = self.architecture == "minicpm3";
        let key = self.count(if by_heads { "attention.key_length" } else { "attention.key_length_mla" })?;
        let rotary = self.count("rope.dimension_count")?;
        let fixed = key.checked_sub(rotary).filter(|&fixed| fixed > 0);
        let fixed =
            fixed.ok_or_else(|| self.wrong("rope.dimension_count", "must be less than key_length_mla"))?;
        let low_query = self.optional("attention.q_lora_rank")?.is_some();
        let value = if by_heads { share } else { self.count("attention.value_length_mla")? };
        Ok(Some(Latent { rank, fixed, value, low_query, by_heads }))
    }
}
