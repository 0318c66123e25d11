//! Hyper-parameters, from GGUF keys whatever the checkpoint's format.

use kquant_formats::gguf::Metadata;
use kquant_kernels::math::{Heads, Yarn};

use super::KeyError;
use super::keys::{Keys, architecture};
use crate::graph::{Graph, Scores, Slot, Windows};

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
    /// Width of a head of queries and keys.
    pub head: usize,
    /// Width of a head of values.
    pub value: usize,
    /// Dimensions of a head that turn.
    pub rotary: usize,
    /// Positions.
    pub rope: RopeKeys,
    /// Added to the variance in norms.
    pub epsilon: f32,
    /// What attention scores are multiplied by.
    pub attention_scale: f32,
    /// Bound of attention scores.
    pub attention_cap: Option<f32>,
    /// Bound of logits.
    pub logit_cap: Option<f32>,
    /// What embeddings are multiplied by.
    pub embedding_scale: f32,
    /// What is added to the stream is multiplied by this.
    pub residual_scale: f32,
    /// What logits are divided by.
    pub logit_scale: f32,
    /// Tokens that a query sees in layers with a window.
    pub window: Option<usize>,
    /// Which layers those are.
    pub windows: Windows,
    /// Whether attention and the feed-forward network read the same stream, where the architecture leaves it open.
    pub parallel: Option<bool>,
    /// Layers at the start that have no experts.
    pub dense_layers: usize,
    /// The mixture.
    pub experts: Option<Experts>,
    /// Latent attention.
    pub latent: Option<Latent>,
}

/// How positions turn heads.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeKeys {
    /// Base of the frequencies.
    pub base: f32,
    /// Base in layers with a window.
    pub window_base: Option<f32>,
    /// Positions are divided by this, unless there is [`yarn`](Self::yarn).
    pub scale: f32,
    /// YaRN.
    pub yarn: Option<Yarn>,
    /// The length of turned pairs.
    pub length: f64,
    /// The same in layers with a window that have a [`window_base`](Self::window_base).
    pub window_length: f64,
    /// Tokens beyond which the long factors hold, where the model has some (Phi 3).
    pub original: usize,
}

/// A mixture of experts.
#[derive(Debug, Clone, PartialEq)]
pub struct Experts {
    /// Experts of a layer.
    pub count: usize,
    /// Experts that a token is routed to.
    pub used: usize,
    /// From logits to scores; `None` where the presence of a correction decides.
    pub scores: Option<Scores>,
    /// Whether the weights of the chosen are made to sum to one.
    pub normalized: bool,
    /// What these are multiplied by.
    pub scale: f32,
    /// Groups of experts, and how many of them a token chooses from.
    pub groups: Option<(usize, usize)>,
}

/// Attention whose keys and values come from a common latent space (DeepSeek V2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latent {
    /// Width of that space.
    pub rank: usize,
    /// Width of a head's key that does not turn.
    pub fixed: usize,
    /// Width of a head's value.
    pub value: usize,
    /// Whether queries come from a narrower space, too.
    pub low_query: bool,
}

impl Hyper {
    /// The shape of attention in layer `layer`.
    pub fn attention(&self, layer: usize) -> Heads {
        Heads {
            heads: self.heads,
            kv_heads: self.kv_heads,
            dim: self.head,
            value_dim: self.value,
            scale: self.attention_scale,
            cap: self.attention_cap,
            window: if self.has_window(layer) { self.window } else { None },
        }
    }

    /// Width of the heads that RoPE rotates in `slot`.
    pub(crate) fn rotary_head(&self, slot: Slot) -> usize {
        match slot {
            Slot::RotaryQuery | Slot::RotaryKey => self.rotary,
            _ => self.head,
        }
    }

    /// Whether queries of layer `layer` see a window of the text only.
    pub fn has_window(&self, layer: usize) -> bool {
        self.window.is_some()
            && match self.windows {
                Windows::Never => false,
                Windows::Always => true,
                Windows::From(first) => layer >= first,
                Windows::Pattern(every) => layer % every != every - 1,
            }
    }

    /// Reads the keys of the file's architecture, whose graph is `graph`.
    ///
    /// # Errors
    /// When a key is missing, of a wrong type, or a value makes no model.
    pub fn from_metadata(metadata: &Metadata, graph: &Graph) -> Result<Self, KeyError> {
        let architecture = architecture(metadata)?.to_owned();
        let keys = Keys { metadata, architecture: &architecture };
        let heads = keys.count("attention.head_count")?;
        let hidden = keys.count("embedding_length")?;
        let latent = keys.latent()?;
        let head = keys.optional("attention.key_length")?.unwrap_or(hidden / heads);
        let context = keys.count("context_length")?;
        let rotary = keys.optional("rope.dimension_count")?.unwrap_or(head);
        let hyper = Self {
            layers: keys.count("block_count")?,
            hidden,
            context,
            heads,
            kv_heads: keys.optional("attention.head_count_kv")?.unwrap_or(heads),
            head: latent.map_or(head, |l| l.rank + rotary),
            value: latent
                .map_or(keys.optional("attention.value_length")?.unwrap_or(head), |latent| latent.rank),
            rotary,
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
            embedding_scale: match graph.scaled_embedding {
                true => (hidden as f32).sqrt(),
                false => keys.positive("embedding_scale")?.unwrap_or(1.0),
            },
            residual_scale: keys.positive("residual_scale")?.unwrap_or(1.0),
            logit_scale: keys.positive("logit_scale")?.unwrap_or(1.0),
            window: keys.natural("attention.sliding_window")?.filter(|&window| window > 0),
            windows: match graph.windows {
                Windows::Pattern(usual) => {
                    Windows::Pattern(keys.optional("attention.sliding_window_pattern")?.unwrap_or(usual))
                }
                windows => windows,
            },
            parallel: keys.flag("use_parallel_residual")?,
            dense_layers: keys.natural("leading_dense_block_count")?.unwrap_or(0),
            experts: keys.experts(graph)?,
            latent,
            architecture: architecture.clone(),
        };
        hyper.check(&keys)?;
        Ok(hyper)
    }

    fn check(&self, keys: &Keys) -> Result<(), KeyError> {
        if self.kv_heads > self.heads || !self.heads.is_multiple_of(self.kv_heads) {
            return Err(keys.wrong("attention.head_count_kv", "must divide attention.head_count"));
        }
        if self.rotary > self.head || !self.rotary.is_multiple_of(2) {
            return Err(keys.wrong("rope.dimension_count", "must be even and at most the head's width"));
        }
        if self.head == 0 {
            return Err(keys.wrong("attention.head_count", "is more than embedding_length"));
        }
        if self.latent.is_some() && self.kv_heads != 1 {
            return Err(keys.wrong("attention.head_count_kv", "must be 1 where keys and values are latent"));
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

impl Hyper {
    /// Width of a slot, where the hyper-parameters decide it.
    pub(crate) fn width(&self, slot: Slot) -> Option<usize> {
        let Self { heads, kv_heads, head, value, hidden, rotary, .. } = *self;
        let experts = self.experts.as_ref();
        match slot {
            Slot::Stream | Slot::Normed | Slot::NormedParallel | Slot::Delta => Some(hidden),
            Slot::Fused => Some(match self.latent {
                Some(latent) => latent.rank + rotary,
                None => heads * head + kv_heads * (head + value),
            }),
            Slot::Query => Some(heads * head),
            Slot::Attended => Some(heads * value),
            Slot::Key => Some(kv_heads * head),
            Slot::Value => Some(kv_heads * value),
            Slot::WholeQuery => self.latent.map(|latent| heads * (latent.fixed + rotary)),
            Slot::FixedQuery => self.latent.map(|latent| heads * latent.fixed),
            Slot::LatentQuery => self.latent.map(|latent| heads * latent.rank),
            Slot::Gathered => self.latent.map(|latent| heads * latent.value),
            Slot::RotaryQuery => Some(heads * rotary),
            Slot::RotaryKey => Some(rotary),
            Slot::Router => experts.map(|e| e.count),
            Slot::Routes => experts.map(|e| 2 * e.used),
            Slot::ExpertOut => experts.map(|e| e.used * hidden),
            Slot::LowQuery | Slot::Gate | Slot::Up => None,
        }
    }
}
