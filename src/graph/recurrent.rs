//! Hyper-parameters of layers that carry a state from token to token instead of keys and values.

use kquant_formats::gguf::{Array, Value};

use super::KeyError;
use super::keys::Keys;
use super::slot::Slot;

/// The recurrent layers of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Recurrent {
    /// Number of tokens that the causal convolution sees.
    pub kernel: usize,
    /// Width of what a layer computes before its output projection: all heads together.
    pub inner: usize,
    /// Number of heads; 0 where the convolution is all.
    pub heads: usize,
    /// Number of groups of heads that share queries and keys (B and C of a state space).
    pub groups: usize,
    /// Width of a query and a key.
    pub state: usize,
    /// For each layer, whether it is recurrent.
    pub layers: Vec<bool>,
}

impl Recurrent {
    /// Returns the number of channels of the convolution: queries, keys and values.
    pub fn channels(&self) -> usize {
        self.inner + 2 * self.groups * self.state
    }

    /// Returns the width of a head's value.
    pub fn value(&self) -> usize {
        self.inner.checked_div(self.heads).unwrap_or(0)
    }

    /// Returns the width of a slot of recurrent layers; `None` for others.
    pub(super) fn width(&self, slot: Slot) -> Option<usize> {
        match slot {
            Slot::Convolved => Some(self.channels()),
            Slot::InputGate | Slot::OutputGate | Slot::Scanned => Some(self.inner),
            Slot::Step | Slot::Strength => Some(self.heads),
            _ => None,
        }
    }
}

impl Keys<'_> {
    /// Returns the recurrent layers of a model with `layers` layers of width `hidden`, of which `kv_heads` gives the heads if the
    /// keys have a list of them; `None` if the keys have none.
    pub(crate) fn recurrent(
        &self,
        layers: usize,
        hidden: usize,
        kv_heads: Option<&[usize]>,
    ) -> Result<Option<Recurrent>, KeyError> {
        let shape =
            |kernel, inner| Recurrent { kernel, inner, heads: 0, groups: 0, state: 0, layers: Vec::new() };
        let recurrent = match (self.optional("shortconv.l_cache")?, self.optional("ssm.conv_kernel")?) {
            (Some(kernel), _) => shape(kernel, hidden),
            (None, Some(kernel)) => Recurrent {
                heads: self.count("ssm.time_step_rank")?,
                groups: self.count("ssm.group_count")?,
                state: self.count("ssm.state_size")?,
                ..shape(kernel, self.count("ssm.inner_size")?)
            },
            (None, None) => return Ok(None),
        };
        let Recurrent { heads, groups, inner, .. } = recurrent;
        if heads > 0 && !(inner.is_multiple_of(heads) && heads.is_multiple_of(groups)) {
            return Err(self.wrong(
                "ssm.time_step_rank",
                "must divide ssm.inner_size and be a multiple of ssm.group_count",
            ));
        }
        let layers = self.recurrent_layers(layers, kv_heads)?;
        Ok(Some(Recurrent { layers, ..recurrent }))
    }

    /// Returns for each layer whether it is recurrent: by the list of them, by layers without key-value heads, or by the number of
    /// layers from one with attention to the next; without any of these all are.
    fn recurrent_layers(&self, layers: usize, kv_heads: Option<&[usize]>) -> Result<Vec<bool>, KeyError> {
        const LIST: &str = "attention.recurrent_layers";
        let interval = self.optional("full_attention_interval")?;
        match (self.get(LIST), kv_heads, interval) {
            (Some(Value::Array(Array::Bool(list))), ..) if list.len() >= layers => {
                Ok(list[..layers].to_vec())
            }
            (Some(_), ..) => Err(self.wrong(LIST, "does not say of each layer whether it is recurrent")),
            (None, Some(heads), _) => {
                // A layer with neither attention nor a recurrence is a feed-forward network alone.
                let inner = self.list("feed_forward_length", layers)?.unwrap_or_default();
                let alone = |layer: usize| inner.get(layer).is_some_and(|&inner| inner > 0);
                Ok(heads.iter().enumerate().map(|(layer, &heads)| heads == 0 && !alone(layer)).collect())
            }
            (None, None, Some(interval)) => {
                Ok((0..layers).map(|layer| !(layer + 1).is_multiple_of(interval)).collect())
            }
            (None, None, None) => Ok(vec![true; layers]),
        }
    }
}
