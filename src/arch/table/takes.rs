//! The values that a family's forward pass, in llama.cpp and here, supports for keys that change the computation.
//!
//! A value that is not listed is refused, because the file would load and compute something else. Null and an absent key
//! stand for transformers' default, which every graph computes.

use super::windows::{Limit, Window};
use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Sizes;
use crate::arch::table::family::unsupported;
use crate::arch::table::rope::{Rope, Scaling, section};
use crate::checkpoint::{Checkpoint, TensorInfo};

/// The values that a family supports.
pub(in crate::arch) struct Takes {
    /// Names of the activation function.
    pub activations: &'static [&'static str],
    /// Types of rotary scaling; empty for families without rotary positions.
    pub scalings: &'static [&'static str],
    /// Base of the rotary frequencies if the configuration gives none and the base is not 10000.
    pub theta: Option<f32>,
    /// Layers that have a window in transformers.
    pub window: Window,
    /// Biases whose presence a flag announces.
    pub biases: &'static [Biases],
    /// Keys of which only one value is supported.
    pub only: &'static [Only],
    /// The place of the output projection.
    pub head: HeadPlace,
    /// The value that transformers assumes if `tie_word_embeddings` is absent.
    pub tied: bool,
    /// True if dense layers may follow the pooling.
    pub dense: bool,
    /// True if a factor `alpha` raises the base of the rotary frequencies where the type of scaling is dynamic.
    pub raised_base: bool,
    /// The function that says whether a configuration is of the family, where families share a class.
    pub models: fn(&Config) -> bool,
    /// The function that says, as a clause, what llama.cpp computes otherwise than transformers whatever the length of the text.
    pub differs: fn(&Config, &Sizes) -> Result<Option<&'static str>, ArchError>,
}

/// Biases whose presence a flag announces.
pub(in crate::arch) struct Biases {
    /// Key of the flag.
    pub flag: &'static str,
    /// Ends of the biases' names in the checkpoint.
    pub names: &'static [&'static str],
}

/// A key of which only one value is supported.
#[derive(Clone, Copy)]
pub(in crate::arch) struct Only {
    /// Name of the key.
    pub key: &'static str,
    /// The supported value.
    pub value: Literal,
}

/// A literal of JSON.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::arch) enum Literal {
    /// Null.
    Null,
    /// True or false.
    Flag(bool),
    /// A number.
    Number(f64),
}

/// The place where readers of the file look for the output projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::arch) enum HeadPlace {
    /// Readers take `output.weight` or, without it, the embedding.
    Either,
    /// Readers take `output.weight` only.
    Own,
    /// Readers take the embedding only.
    Embedding,
}

/// Names of SiLU.
pub(in crate::arch) const SILU: &[&str] = &["silu", "swish"];

/// Names of the square of ReLU.
pub(in crate::arch) const RELU_SQUARED: &[&str] = &["relu2"];

/// Names of GELU: its two usual forms differ by less than 5e-4, and readers of the file compute one of them whichever is
/// asked for.
pub(in crate::arch) const GELU: &[&str] = &[
    "gelu",
    "gelu_new",
    "gelu_fast",
    "gelu_pytorch_tanh",
    "gelu_accurate",
    "gelu_python",
    "gelu_python_tanh",
];

/// Types of rotary scaling that keys can express in every family with rotary positions.
pub(in crate::arch) const BY_KEYS: &[&str] = &["default", "dynamic", "linear", "yarn"];

/// Types of rotary scaling that keys can express, and Llama 3's, whose frequency factors are a tensor.
pub(in crate::arch) const BY_FACTORS: &[&str] = &["default", "dynamic", "linear", "yarn", "llama3"];

/// Biases of queries, keys, values and the output of attention.
pub(in crate::arch) const ATTENTION_BIAS: Biases = Biases {
    flag: "attention_bias",
    names: &[
        ".self_attn.q_proj.bias",
        ".self_attn.k_proj.bias",
        ".self_attn.v_proj.bias",
        ".self_attn.o_proj.bias",
    ],
};

/// Biases of a gated feed-forward network.
pub(in crate::arch) const MLP_BIAS: Biases =
    Biases { flag: "mlp_bias", names: &[".mlp.gate_proj.bias", ".mlp.up_proj.bias", ".mlp.down_proj.bias"] };

/// Biases of a feed-forward network of two matrices.
pub(in crate::arch) const TWO_MATRICES_BIAS: Biases =
    Biases { flag: "mlp_bias", names: &[".mlp.up_proj.bias", ".mlp.down_proj.bias"] };

impl Takes {
    /// The values of a gated network with SiLU, rotary positions over whole heads, no windows and no biases.
    pub(in crate::arch) const PLAIN: Self = Self {
        activations: SILU,
        scalings: BY_KEYS,
        theta: None,
        window: Window::Never,
        biases: &[],
        only: &[],
        head: HeadPlace::Either,
        tied: false,
        dense: false,
        raised_base: false,
        models: |_| true,
        differs: |_, _| Ok(None),
    };

    /// Refuses values that the family called `name` does not support.
    pub(in crate::arch) fn check(
        &self,
        config: &Config,
        name: &'static str,
        sizes: &Sizes,
        truncated: bool,
    ) -> Result<(), ArchError> {
        let refuse = |what: String| Err(unsupported(config, name, what));
        for key in ["hidden_act", "hidden_activation", "mlp_hidden_act", "activation_function", "activation"]
        {
            match config.optional_text(&[key])? {
                Some(found) if !self.activations.contains(&found) => {
                    let taken = self.activations.join(", ");
                    return refuse(format!("an activation other than {taken} (`{key}` is {found}) is"));
                }
                _ => {}
            }
        }
        for only in self.only {
            if let Some(found) = config.value(only.key).filter(|found| !only.value.is(found)) {
                return refuse(format!("`{}` of {found} is", only.key));
            }
        }
        match self.scalings {
            [] => Ok(()),
            _ => self.check_rope(&Rope::read(config, sizes.positions)?, truncated).or_else(refuse),
        }
    }

    /// Fails with the setting of `rope` that cannot be expressed, as a noun phrase with a verb.
    fn check_rope(&self, rope: &Rope, truncated: bool) -> Result<(), String> {
        let kind = rope.scaling.name();
        if !self.scalings.contains(&kind) {
            return Err(format!("rotary positions scaled by {kind} (`rope_type`) are"));
        }
        let has_window_base = matches!(self.window, Window::Written { base: true });
        if let Some(kind) =
            rope.window_scaling.as_deref().filter(|&kind| has_window_base && kind != "default")
        {
            return Err(format!(
                "rotary positions scaled by {kind} in layers with a window (`rope_type`) are"
            ));
        }
        let Scaling::Yarn(yarn) = &rope.scaling else { return Ok(()) };
        if has_window_base && !yarn.has_usual_multiplier() {
            let multiplier = yarn.multiplier();
            return Err(format!(
                "a YaRN multiplier of {multiplier} (`attention_factor`, `mscale`), which layers with a window would get, too, is"
            ));
        }
        yarn.unsaid(truncated).map_or(Ok(()), Err)
    }
}

impl Takes {
    /// Returns warnings on biases that are present although the configuration denies them.
    ///
    /// # Errors
    /// Fails when the configuration announces biases and there are none.
    pub(in crate::arch) fn biases_that_differ(
        &self,
        config: &Config,
        checkpoint: &dyn Checkpoint,
    ) -> Result<Vec<String>, ArchError> {
        let mut warnings = Vec::new();
        for biases in self.biases {
            let Some(asked) = config.optional_flag(biases.flag)? else { continue };
            let is_one = |t: &&TensorInfo| biases.names.iter().any(|end| t.name.ends_with(end));
            match (asked, checkpoint.tensors().iter().find(is_one)) {
                (true, None) => {
                    return Err(config.unusable(biases.flag, "biases in the checkpoint, which has none, or false").into());
                }
                (false, Some(bias)) => warnings.push(format!(
                    "`{}` is false, and the checkpoint has {}: biases are written and count, transformers leaves them out",
                    biases.flag, bias.name
                )),
                _ => {}
            }
        }
        Ok(warnings)
    }

    /// Returns the lengths from which on a GGUF of the model computes something else.
    pub(in crate::arch) fn limits(&self, config: &Config, sizes: &Sizes) -> Result<Vec<Limit>, ArchError> {
        let mut limits: Vec<Limit> = self.window.limit(config, sizes)?.into_iter().collect();
        let rope = if self.scalings.is_empty() { None } else { Some(Rope::read(config, sizes.positions)?) };
        let raised = match section(config)?.filter(|_| self.raised_base) {
            Some(params) => params.optional_double(&["alpha"])?.is_some(),
            None => false,
        };
        if rope.is_some_and(|rope| !raised && matches!(rope.scaling, Scaling::Dynamic)) {
            limits.push(Limit {
                tokens: sizes.positions,
                what: format!(
                    "rotary positions are stretched in contexts longer than {} tokens (`rope_type` is dynamic), which no key \
                     of GGUF says: in longer contexts, a GGUF computes something else than the model",
                    sizes.positions
                ),
                windows: None,
            });
        }
        limits.extend((self.differs)(config, sizes)?.map(|clause| Limit {
            tokens: 0,
            what: format!("{clause}: there, a GGUF computes something else than the model"),
            windows: None,
        }));
        Ok(limits)
    }
}

impl Literal {
    /// Returns true if `json` is the value; null stands for an absent key.
    fn is(self, json: &serde_json::Value) -> bool {
        json.is_null()
            || match self {
                Self::Null => false,
                Self::Flag(flag) => json.as_bool() == Some(flag),
                Self::Number(number) => json.as_f64() == Some(number),
            }
    }
}
