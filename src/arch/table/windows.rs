//! Sliding windows of `config.json`, and the lengths from which on a GGUF, for want of a key, computes something else.

use crate::arch::config::Config;
use crate::arch::error::ArchError;
use crate::arch::table::dims::Sizes;
use crate::graph::Windows;

/// The layers that have a window in transformers, and whether GGUF can express it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::arch) enum Window {
    /// No layer has a window, whatever the keys.
    Never,
    /// The family's keys and graph have the window.
    Written {
        /// True if layers with a window have other rotary frequencies, which are not scaled.
        base: bool,
    },
    /// All layers have a window, of this many tokens if the key is absent, and no reader of the file applies it.
    All(Option<u32>),
    /// All layers have a window if `use_sliding_window` is true, and no reader of the file applies it.
    AllIfUsed,
    /// Layers from `max_window_layers` on, or those that `layer_types` lists, have a window if `use_sliding_window` is
    /// true.
    LaterIfUsed,
    /// Layers from `max_window_layers` on, or those that `layer_types` lists, have a window, and no reader of the file applies
    /// it.
    Later,
    /// Layers without positions, or those that `layer_types` lists, have a window if `use_sliding_window` is true.
    UnturnedIfUsed,
    /// Layers with positions see chunks of `attention_chunk_size` tokens, which readers of the file know and kquant does not.
    Chunks,
    /// All layers have a window; the keys express it and kquant's graph applies it, but no other reader does.
    Ignored,
}

/// A length from which on a GGUF of the model computes something else than the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Number of tokens; longer contexts differ.
    pub tokens: u32,
    /// What differs and from which length on, as a sentence without its full stop.
    pub what: String,
    /// Layers that have a window of this many tokens, if the forward pass can apply what the keys cannot express.
    pub windows: Option<Windows>,
}

impl Limit {
    /// Returns the limit of a window of `tokens` in `layers`.
    pub(crate) fn window(tokens: u32, layers: &str, windows: Option<Windows>) -> Self {
        let what = format!(
            "{layers} of the model see the last {tokens} tokens only (`sliding_window`), which llama.cpp does not apply to \
             this architecture: in contexts longer than {tokens} tokens, a GGUF computes something else than the model"
        );
        Self { tokens, what, windows }
    }
}

impl Window {
    /// Returns the limit that GGUF puts on the model's context, if the window is shorter than the context and GGUF cannot
    /// express it.
    pub(in crate::arch) fn limit(self, config: &Config, sizes: &Sizes) -> Result<Option<Limit>, ArchError> {
        let tokens = match self {
            Self::Never | Self::Written { .. } => return Ok(None),
            Self::Chunks => config.optional_count(&["attention_chunk_size"])?,
            Self::All(default) if config.value("sliding_window").is_none() => default,
            Self::All(_) | Self::Ignored | Self::Later => config.optional_count(&["sliding_window"])?,
            Self::AllIfUsed | Self::LaterIfUsed | Self::UnturnedIfUsed => {
                let used = config.optional_flag("use_sliding_window")?.unwrap_or(false);
                // The key is read in any case, so that it counts as known; unused, it may be 0.
                let tokens =
                    config.optional_integer(&["sliding_window"])?.and_then(|n| u32::try_from(n).ok());
                tokens.filter(|&tokens| used && tokens > 0)
            }
        };
        let listed = self.listed(config, sizes)?;
        let Some(tokens) = tokens.filter(|&tokens| tokens < sizes.positions) else { return Ok(None) };
        Ok(match (self, listed) {
            (Self::Chunks, _) => Some(Limit {
                tokens,
                what: format!(
                    "layers with positions see chunks of {tokens} tokens (`attention_chunk_size`), which kquant does not \
                     apply: in contexts longer than {tokens} tokens, it computes something else than the model"
                ),
                windows: None,
            }),
            (Self::Ignored, _) => Some(Limit::window(tokens, "all layers", None)),
            (Self::LaterIfUsed | Self::Later | Self::UnturnedIfUsed, listed) => {
                match listed.iter().filter(|&&has| has).count() {
                    0 => None,
                    some => {
                        let first = listed.iter().position(|&has| has).unwrap_or(0);
                        let to_the_end = first + some == listed.len();
                        let layers = format!("{some} of {} layers", listed.len());
                        Some(Limit::window(tokens, &layers, to_the_end.then_some(Windows::From(first))))
                    }
                }
            }
            _ => Some(Limit::window(tokens, "all layers", Some(Windows::Always))),
        })
    }

    /// Returns for each layer whether it has a window, for variants in which some layers have one.
    fn listed(self, config: &Config, sizes: &Sizes) -> Result<Vec<bool>, ArchError> {
        if let Some(kinds) = config.optional_texts("layer_types")? {
            return Ok(kinds.iter().map(|&kind| kind == "sliding_attention").collect());
        }
        // Each layer has tensors of its own, so a list for more layers than a checkpoint can have is not needed.
        let layers = sizes.layers.min(1 << 16);
        Ok(match self {
            Self::LaterIfUsed => {
                let first = config.optional_integer(&["max_window_layers"])?.unwrap_or(28);
                (0..layers).map(|layer| i64::from(layer) >= i64::from(first)).collect()
            }
            Self::Later => {
                let first = config.optional_count(&["max_window_layers"])?.unwrap_or(layers);
                (0..layers).map(|layer| layer >= first).collect()
            }
            Self::UnturnedIfUsed => (0..layers).map(|layer| (layer + 1).is_multiple_of(4)).collect(),
            _ => Vec::new(),
        })
    }
}

/// Returns for each layer whether it has a window: as `layer_types` lists, or all layers but the last of each `every`.
pub(in crate::arch) fn layers_with_windows(
    config: &Config,
    sizes: &Sizes,
    every: u64,
) -> Result<Vec<bool>, ArchError> {
    let listed = config.optional_texts("layer_types")?;
    let listed =
        listed.map(|kinds| kinds.iter().map(|&kind| kind == "sliding_attention").collect::<Vec<_>>());
    match listed {
        Some(layers) if layers.len() == sizes.layers as usize => Ok(layers),
        Some(_) => Err(config.unusable("layer_types", "a list with a kind for each layer").into()),
        // Each layer has tensors of its own, so a list for more layers than a checkpoint can have is not needed.
        None => {
            Ok((1..=u64::from(sizes.layers.min(1 << 16))).map(|layer| !layer.is_multiple_of(every)).collect())
        }
    }
}
