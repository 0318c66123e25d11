//! Hyper-parameters, which are read from GGUF keys for every format of checkpoint.

use kquant_formats::gguf::Metadata;
use kquant_kernels::math::{Heads, Yarn};

use super::KeyError;
use super::keys::{Keys, WINDOW_PATTERN, architecture};
use crate::graph::{Graph, Recurrent, Scores, Slot, Windows};

/// What the forward pass needs besides the weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Hyper {
    /// Name of the architecture (`general.architecture`).
    pub architecture: String,
    /// Number of layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Longest context that the model was trained for, in tokens.
    pub context: usize,
    /// Number of query heads; 0 if no layer has attention.
    pub heads: usize,
    /// Number of key and value heads, a divisor of `heads`.
    pub kv_heads: usize,
    /// Number of key and value heads of each layer, 0 in those without attention; `None` if all layers have `kv_heads`.
    pub kv_list: Option<Vec<usize>>,
    /// Width of a head of queries and keys.
    pub head: usize,
    /// Width of a head of values.
    pub value: usize,
    /// Number of dimensions of a head that RoPE rotates.
    pub rotary: usize,
    /// True if queries and keys turn by their positions, in architectures where this is up to the model (Granite 4 hybrid and Bamba).
    pub turns: bool,
    /// Widths of heads in layers with a window, if they are others.
    pub window_heads: Option<HeadWidths>,
    /// Width of the input that each layer has from the tokens themselves; 0 without one.
    pub layer_input: usize,
    /// Number of layers at the end that attend to keys and values of layers before.
    pub shared_keys: usize,
    /// Parameters of RoPE.
    pub rope: RopeKeys,
    /// Number that norms add to the variance.
    pub epsilon: f32,
    /// Factor of attention scores.
    pub attention_scale: f32,
    /// Bound of attention scores, if they are soft-capped.
    pub attention_cap: Option<f32>,
    /// Bound of logits, if they are soft-capped.
    pub logit_cap: Option<f32>,
    /// Factor of embeddings.
    pub embedding_scale: f32,
    /// Factor of what each block adds to the stream.
    pub residual_scale: f32,
    /// Divisor of logits.
    pub logit_scale: f32,
    /// True if a query sees no token after its own; false for encoders.
    pub causal: bool,
    /// Number of tokens that a query attends to in layers with a window.
    pub window: Option<usize>,
    /// Layers that have a window, where no list says it.
    pub windows: Windows,
    /// For each layer whether it has a window, if a list of the keys says it.
    pub window_layers: Option<Vec<bool>>,
    /// True if attention and the feed-forward network read the same stream; `None` if the keys do not say.
    pub parallel: Option<bool>,
    /// Number of layers at the start that have no experts.
    pub dense_layers: usize,
    /// The mixture of experts, if there is one.
    pub experts: Option<Experts>,
    /// The latent attention, if there is one.
    pub latent: Option<Latent>,
    /// The recurrent layers, if there are any.
    pub recurrent: Option<Recurrent>,
    /// The growth of queries with their position, if there is one.
    pub growth: Option<Growth>,
    /// For each layer the numbers of its activation xIELU: `alpha_p`, `alpha_n`, `beta` and `eps`; empty without it.
    pub xielu: Vec<[f32; 4]>,
}

/// The widths of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadWidths {
    /// Width of a head of queries and keys.
    pub head: usize,
    /// Width of a head of values.
    pub value: usize,
    /// Number of dimensions of a head that RoPE rotates.
    pub rotary: usize,
}

/// The growth of queries with their position: the one at position p is multiplied by `1 + rate * ln(1 + floor((p + offset) / step))`
/// (Llama 4).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Growth {
    /// Factor of the logarithm.
    pub rate: f32,
    /// Number of positions that are multiplied alike.
    pub step: usize,
    /// Number that is added to positions.
    pub offset: usize,
}

/// The parameters of RoPE.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeKeys {
    /// Base of the frequencies.
    pub base: f32,
    /// Base of the frequencies in layers with a window, if it is another one.
    pub window_base: Option<f32>,
    /// Divisor of positions, unless there is [`yarn`](Self::yarn).
    pub scale: f32,
    /// Parameters of YaRN, if positions are stretched by it.
    pub yarn: Option<Yarn>,
    /// Factor of the length of rotated pairs.
    pub length: f64,
    /// Factor of the length of rotated pairs in layers with a window that have a [`window_base`](Self::window_base).
    pub window_length: f64,
    /// Number of tokens beyond which the long factors are used, if the model has some (Phi 3).
    pub original: usize,
}

/// The parameters of a mixture of experts.
#[derive(Debug, Clone, PartialEq)]
pub struct Experts {
    /// Number of experts of a layer.
    pub count: usize,
    /// Number of experts that a token is routed to.
    pub used: usize,
    /// The function from logits to scores; `None` if it depends on whether the router has a correction bias.
    pub scores: Option<Scores>,
    /// True if the weights of the chosen experts are made to sum to one.
    pub normalized: bool,
    /// Factor of the weights of the chosen experts.
    pub scale: f32,
    /// Number of groups of experts, and number of groups that a token chooses its experts from.
    pub groups: Option<(usize, usize)>,
    /// True if there are shared experts, which all tokens pass through.
    pub shared: bool,
}

/// Latent attention: keys and values come from a common latent space (DeepSeek V2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latent {
    /// Width of the latent space.
    pub rank: usize,
    /// Width of the part of a head's key that RoPE leaves alone.
    pub fixed: usize,
    /// Width of a head's value.
    pub value: usize,
    /// True if queries come from a narrower space as well.
    pub low_query: bool,
    /// True if keys and values of all heads are written out (MiniCPM 3); otherwise, heads attend to the latent vector itself.
    pub by_heads: bool,
}

impl Hyper {
    /// Returns the shape of attention in layer `layer`.
    pub fn attention(&self, layer: usize) -> Heads {
        let widths = self.head_widths(layer);
        Heads {
            heads: self.heads,
            kv_heads: self.kv_heads_in(layer),
            dim: widths.head,
            value_dim: widths.value,
            scale: self.attention_scale,
            cap: self.attention_cap,
            causal: self.causal,
            window: if self.has_window(layer) { self.window } else { None },
        }
    }

    /// Returns the widths of heads in layer `layer`.
    pub fn head_widths(&self, layer: usize) -> HeadWidths {
        let usual = HeadWidths { head: self.head, value: self.value, rotary: self.rotary };
        self.window_heads.filter(|_| self.has_window(layer)).unwrap_or(usual)
    }

    /// Returns the number of key and value heads of layer `layer`.
    pub fn kv_heads_in(&self, layer: usize) -> usize {
        self.kv_list.as_ref().and_then(|list| list.get(layer).copied()).unwrap_or(self.kv_heads)
    }

    /// Returns the width of the heads that RoPE rotates in `slot` of layer `layer`.
    pub(crate) fn rotary_head(&self, slot: Slot, layer: usize) -> usize {
        match slot {
            Slot::RotaryQuery | Slot::RotaryKey => self.rotary,
            _ => self.head_widths(layer).head,
        }
    }

    /// Returns true if layer `layer` is recurrent.
    pub fn is_recurrent(&self, layer: usize) -> bool {
        self.recurrent.as_ref().is_some_and(|recurrent| recurrent.layers.get(layer).copied().unwrap_or(false))
    }

    /// Returns the width of the parts of `slot` in layer `layer` that a norm of their width is applied to; `each` is true if each part
    /// has weights of its own.
    pub(crate) fn part(&self, slot: Slot, layer: usize, each: bool) -> usize {
        match (slot, &self.recurrent) {
            (Slot::Scanned, Some(recurrent)) if each => recurrent.inner / recurrent.groups.max(1),
            (Slot::Scanned, Some(recurrent)) => recurrent.value(),
            (Slot::Value, _) => self.head_widths(layer).value,
            _ => self.head_widths(layer).head,
        }
    }

    /// Returns true if queries of layer `layer` attend only to a window of the text.
    pub fn has_window(&self, layer: usize) -> bool {
        self.window.is_some()
            && match self.windows {
                _ if self.window_layers.is_some() => {
                    self.window_layers.iter().flatten().nth(layer).copied().unwrap_or(false)
                }
                Windows::Never => false,
                Windows::Always => true,
                Windows::From(first) => layer >= first,
                Windows::Pattern(every) => layer % every != every - 1,
                Windows::PatternAfter(every) => !layer.is_multiple_of(every),
            }
    }

    /// Reads the keys of the file's architecture, whose graph is `graph`.
    ///
    /// # Errors
    /// Fails when a key is missing, has a wrong type or a value that no model can have.
    pub fn from_metadata(metadata: &Metadata, graph: &Graph) -> Result<Self, KeyError> {
        let architecture = architecture(metadata)?.to_owned();
        let keys = Keys { metadata, architecture: &architecture };
        // Blocks that predict further tokens are not run.
        let further = keys.natural("nextn_predict_layers")?.filter(|_| graph.further);
        let layers = keys.count("block_count")?.saturating_sub(further.unwrap_or(0)).max(1);
        let heads = keys.heads()?;
        let kv_list = keys.list("attention.head_count_kv", layers)?;
        let hidden = keys.count("embedding_length")?;
        let head = hidden.checked_div(heads).unwrap_or(0);
        let latent = keys.latent(head)?;
        let head = keys.optional("attention.key_length")?.unwrap_or(head);
        let context = keys.count("context_length")?;
        let rotary = keys.optional("rope.dimension_count")?.unwrap_or(head);
        let [embedding_scale, residual_scale, logit_scale] = keys.scales(graph, hidden, layers)?;
        let hyper = Self {
            layers,
            hidden,
            context,
            heads,
            kv_heads: keys.kv_heads(kv_list.as_deref(), heads)?,
            head: latent.map_or(head, |l| if l.by_heads { l.fixed } else { l.rank } + rotary),
            value: match latent {
                Some(latent) if latent.by_heads => latent.value,
                Some(latent) => latent.rank,
                None => keys.optional("attention.value_length")?.unwrap_or(head),
            },
            rotary,
            turns: keys.flag("rope.scaling.finetuned")?.unwrap_or(false),
            window_heads: keys.window_heads()?,
            layer_input: keys.natural("embedding_length_per_layer_input")?.unwrap_or(0),
            shared_keys: keys.natural("attention.shared_kv_layers")?.unwrap_or(0),
            rope: keys.rope(graph, context)?,
            epsilon: match keys.number("attention.layer_norm_rms_epsilon")? {
                Some(epsilon) => epsilon,
                None => keys.number("attention.layer_norm_epsilon")?.unwrap_or(1e-5),
            },
            attention_scale: keys.attention_scale(
                latent.map_or(head, |l| l.fixed + rotary),
                hidden,
                heads,
            )?,
            attention_cap: keys.bound("attn_logit_softcapping", 50.0)?,
            logit_cap: keys.bound("final_logit_softcapping", 30.0)?,
            embedding_scale,
            residual_scale,
            logit_scale,
            causal: keys.flag("attention.causal")?.unwrap_or(graph.causal),
            window: keys.natural("attention.sliding_window")?.filter(|&window| window > 0),
            window_layers: keys.window_layers(graph)?,
            windows: match graph.windows {
                Windows::Pattern(usual) if !keys.is_list(WINDOW_PATTERN) => {
                    Windows::Pattern(keys.optional(WINDOW_PATTERN)?.unwrap_or(usual))
                }
                Windows::PatternAfter(usual) if !keys.is_list(WINDOW_PATTERN) => {
                    Windows::PatternAfter(keys.optional(WINDOW_PATTERN)?.unwrap_or(usual))
                }
                windows => windows,
            },
            parallel: keys.flag("use_parallel_residual")?,
            dense_layers: keys.natural("leading_dense_block_count")?.unwrap_or(0),
            experts: keys.experts(graph)?,
            latent,
            recurrent: keys.recurrent(layers, hidden, kv_list.as_deref())?,
            kv_list,
            growth: keys.growth()?,
            xielu: keys.xielu()?,
            architecture: architecture.clone(),
        };
        hyper.check(&keys)?;
        Ok(hyper)
    }

    fn check(&self, keys: &Keys) -> Result<(), KeyError> {
        if self.heads == 0 && self.recurrent.is_some() {
            return Ok(());
        }
        let divides = |kv_heads: &usize| *kv_heads == 0 || self.heads.is_multiple_of(*kv_heads);
        if self.kv_heads > self.heads
            || ![self.kv_heads].iter().chain(self.kv_list.iter().flatten()).all(divides)
        {
            return Err(keys.wrong("attention.head_count_kv", "must divide attention.head_count"));
        }
        if self.rotary > self.head || !self.rotary.is_multiple_of(2) {
            return Err(keys.wrong("rope.dimension_count", "must be even and at most the head's width"));
        }
        if self.shared_keys > 0 && (0..self.layers).any(|layer| !self.has_keys(layer)) {
            return Err(keys.wrong("attention.shared_kv_layers", "leaves layers without keys to attend to"));
        }
        if let Some(HeadWidths { head, rotary, .. }) = self.window_heads
            && (rotary > head || !rotary.is_multiple_of(2))
        {
            let what = "must be even and at most the head's width";
            return Err(keys.wrong("rope.dimension_count_swa", what));
        }
        if self.head == 0 {
            return Err(keys.wrong("attention.head_count", "is more than embedding_length"));
        }
        match self.latent {
            Some(latent) if latent.by_heads && self.kv_heads != self.heads => {
                return Err(keys.wrong("attention.head_count_kv", "must be attention.head_count"));
            }
            Some(latent) if !latent.by_heads && self.kv_heads != 1 => {
                let what = "must be 1 where keys and values are latent";
                return Err(keys.wrong("attention.head_count_kv", what));
            }
            _ => {}
        }
        if let Some(experts) = &self.experts {
            if experts.used > experts.count {
                return Err(keys.wrong("expert_used_count", "is more than expert_count"));
            }
            let wrong = |&(groups, used): &(usize, usize)| {
                !experts.count.is_multiple_of(groups)
                    || used > groups
                    || experts.count / groups * used < experts.used
            };
            if experts.groups.as_ref().is_some_and(wrong) {
                return Err(
                    keys.wrong("expert_group_count", "and expert_group_used_count leave too few experts")
                );
            }
        }
        Ok(())
    }
}
