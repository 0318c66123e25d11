//! A model with some of its layers.

use kquant_formats::gguf::{Array, Metadata, Value};

use super::further::{FURTHER, has_further};
use crate::arch;
use crate::convert::{Converted, hyper};
use crate::graph::{Graph, Hyper, KeyError, Windows, XIELU, architecture};
use crate::tensor::{MappedTensor, TensorName};

/// Keys of an architecture whose lists have nothing to do with layers, even where they have as many elements.
const OTHER_LISTS: [&str; 2] = [".rope.dimension_sections", ".classifier.output_labels"];
/// The number of layers at the start that have no experts.
const DENSE: &str = ".leading_dense_block_count";

/// The reason why layers cannot be taken out of a converted model.
#[derive(Debug, thiserror::Error)]
pub enum LayersError {
    /// A key of the model is missing or wrong.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Nothing is known of what the layers of the family are.
    #[error("architecture `{0}` is not known, so that its layers cannot be renumbered; known are {known}", known = arch::graph_names().join(", "))]
    Architecture(String),
    /// Blocks after the last layer would not fit.
    #[error("{FURTHER}")]
    Further,
    /// Layers read what other layers made, which those that are left might not have.
    #[error(
        "layers of this `{0}` have inputs of their own or attend to keys of layers before them, by number: layers cannot be cut"
    )]
    Linked(String),
    /// A layer is to be cut that the model does not have.
    #[error("layer {layer} is to be cut, but the model has layers 0 to {}", layers - 1)]
    NoLayer {
        /// Number of the layer.
        layer: u32,
        /// Number of layers.
        layers: usize,
    },
    /// All layers or none are to be cut.
    #[error("{cut} of {layers} layers are to be cut; cut at least one and keep at least one")]
    Count {
        /// Number of layers to be cut.
        cut: usize,
        /// Number of layers of the model.
        layers: usize,
    },
    /// A layer would get a number that makes another layer of it.
    #[error(
        "the layers of `{family}` differ by their number: layer {layer} cannot become layer {becomes}, which is one {what}; \
         cut {period} neighbouring layers at a time"
    )]
    Kind {
        /// The architecture.
        family: String,
        /// Number of the layer before.
        layer: u32,
        /// Number of the layer after.
        becomes: usize,
        /// What the layer of the new number is.
        what: &'static str,
        /// Number of neighbouring layers that can be cut together.
        period: usize,
    },
    /// Readers of the file take the number of layers for a sign of something else.
    #[error(
        "a model of `{family}` with {layers} layers is read as another one than it is ({what}); cut more or fewer layers"
    )]
    Number {
        /// The architecture.
        family: String,
        /// Number of layers that would be left.
        layers: usize,
        /// What readers make of it.
        what: &'static str,
    },
}

/// The layers of a model and what depends on their numbers.
struct Layers<'a> {
    input: &'a Converted,
    family: &'a str,
    graph: &'static Graph,
    hyper: Hyper,
}

/// Returns `input` with the layers `kept` alone, which are sorted and get new numbers in their order.
///
/// # Errors
/// [`LayersError`], when a layer does not exist, or would be another kind of layer under its new number.
pub fn keep_layers(input: &Converted, kept: &[u32]) -> Result<Converted, LayersError> {
    let layers = Layers::of(input)?;
    layers.check(kept)?;
    let tensors = input.tensors.iter().filter_map(|tensor| match TensorName(&tensor.name).layer() {
        None => Some(tensor.clone()),
        Some(layer) => kept.binary_search(&layer).ok().map(|new| renumbered(tensor, layer, new)),
    });
    let (metadata, limits) = layers.keys(input.metadata.iter(), kept);
    Ok(Converted {
        metadata,
        tensors: tensors.collect(),
        warnings: input.warnings.clone(),
        notes: input.notes.clone(),
        limits,
    })
}

/// Returns an error if `input` cannot be with the layers `kept` alone; reads and copies no tensor.
///
/// # Errors
/// Fails as [`keep_layers`] does.
pub fn check_layers(input: &Converted, kept: &[u32]) -> Result<(), LayersError> {
    Layers::of(input)?.check(kept)
}

/// Returns the numbers of the layers of `input` without those of `cut`.
///
/// # Errors
/// Fails when `cut` has a number that no layer has.
pub fn without(input: &Converted, cut: &[u32]) -> Result<Vec<u32>, LayersError> {
    let layers = Layers::of(input)?.hyper.layers;
    match cut.iter().find(|&&layer| layer as usize >= layers) {
        Some(&layer) => Err(LayersError::NoLayer { layer, layers }),
        None => Ok((0..layers as u32).filter(|layer| !cut.contains(layer)).collect()),
    }
}

/// Returns the number of neighbouring layers that can be cut together wherever they are: 1, or the period after which kinds of layers
/// repeat.
///
/// # Errors
/// Fails when the keys of the model are wrong, or its family is not known.
pub fn period(input: &Converted) -> Result<usize, LayersError> {
    Ok(Layers::of(input)?.period())
}

impl<'a> Layers<'a> {
    fn of(input: &'a Converted) -> Result<Self, LayersError> {
        if has_further(&input.metadata) {
            return Err(LayersError::Further);
        }
        let family = architecture(&input.metadata)?;
        let graph = arch::graph(family).ok_or_else(|| LayersError::Architecture(family.to_owned()))?;
        Ok(Self { input, family, graph, hyper: input.hyper(graph)? })
    }

    fn check(&self, kept: &[u32]) -> Result<(), LayersError> {
        let layers = self.hyper.layers;
        if kept.is_empty() || kept.len() >= layers {
            return Err(LayersError::Count { cut: layers.saturating_sub(kept.len()), layers });
        }
        if self.hyper.carries() {
            return Err(LayersError::Linked(self.family.to_owned()));
        }
        match self.changed(kept)? {
            Ok(()) => Ok(()),
            Err((at, what)) => {
                let family = self.family.to_owned();
                Err(LayersError::Kind { family, layer: kept[at], becomes: at, what, period: self.period() })
            }
        }
    }

    /// Looks for the first place where the layer of `kept` would become another kind of layer, and says which.
    fn changed(&self, kept: &[u32]) -> Result<Result<(), (usize, &'static str)>, LayersError> {
        let model = self.input.metadata.iter().filter(|(key, _)| !key.starts_with("tokenizer."));
        let (metadata, limits) = self.keys(model, kept);
        let new = hyper(&metadata, &limits, self.graph)?;
        let old = &self.hyper;
        let number = |what| LayersError::Number { family: self.family.to_owned(), layers: kept.len(), what };
        let but_for_layers = Hyper {
            layers: old.layers,
            dense_layers: old.dense_layers,
            kv_list: old.kv_list.clone(),
            windows: old.windows,
            recurrent: old.recurrent.clone().filter(|_| new.recurrent.is_some()),
            window_layers: old.window_layers.clone(),
            xielu: old.xielu.clone(),
            ..new.clone()
        };
        if but_for_layers != *old {
            return Err(number("the factor of its attention scores follows from the number of layers"));
        }
        // llama.cpp knows the models without low-rank queries by these numbers of layers.
        let is_lite = |layers: usize| self.family == "deepseek2" && matches!(layers, 26 | 27);
        if is_lite(kept.len()) != is_lite(old.layers) {
            return Err(number("llama.cpp knows models without low-rank queries by 26 or 27 layers"));
        }
        for (at, &layer) in kept.iter().enumerate() {
            let layer = layer as usize;
            let windows = [old.has_window(layer), new.has_window(at)];
            let what = match () {
                () if windows == [true, false] => "without a window",
                () if windows == [false, true] => "with a window",
                () if (self.graph.layer)(old, layer) != (self.graph.layer)(&new, at) => "of other operations",
                () => continue,
            };
            return Ok(Err((at, what)));
        }
        Ok(Ok(()))
    }

    fn period(&self) -> usize {
        let layers = self.hyper.layers as u32;
        if self.hyper.carries() {
            return layers as usize;
        }
        let repeats = |period: &u32| {
            let rest: Vec<u32> = (*period..layers).collect();
            matches!(self.changed(&rest), Ok(Ok(())))
        };
        (1..layers).find(repeats).unwrap_or(layers) as usize
    }

    /// Returns the keys `all` and the limits of the context as they are with the layers `kept` alone.
    fn keys<'k>(
        &self,
        all: impl Iterator<Item = (&'k str, &'k Value)>,
        kept: &[u32],
    ) -> (Metadata, Vec<arch::Limit>) {
        let below = |first: usize| kept.iter().filter(|&&layer| (layer as usize) < first).count();
        let prefix = format!("{}.", self.family);
        let mut metadata = Metadata::new();
        for (key, value) in all {
            let value = match value {
                _ if !key.starts_with(&prefix) && !key.starts_with(XIELU) => value.clone(),
                Value::Array(list) => Value::Array(self.of_layers(key, list, kept)),
                _ if key.ends_with(".block_count") => Value::U32(kept.len() as u32),
                _ if key.ends_with(DENSE) => Value::U32(below(self.hyper.dense_layers) as u32),
                _ => value.clone(),
            };
            metadata.set(key, value);
        }
        let limits = self.input.limits.iter().cloned().map(|limit| match limit.windows {
            Some(Windows::From(first)) => arch::Limit { windows: Some(Windows::From(below(first))), ..limit },
            _ => limit,
        });
        (metadata, limits.collect())
    }

    /// Returns the elements of `kept` of a list with one element for each layer; another list as it is.
    fn of_layers(&self, key: &str, list: &Array, kept: &[u32]) -> Array {
        let is_other = OTHER_LISTS.iter().any(|other| key.ends_with(other));
        if is_other || list.len() != self.hyper.layers { list.clone() } else { list.picked(kept) }
    }
}

/// Returns `tensor`, one of layer `layer`, as one of layer `new`.
fn renumbered(tensor: &MappedTensor, layer: u32, new: usize) -> MappedTensor {
    let rest = tensor.name.strip_prefix(&format!("blk.{layer}")).unwrap_or_default();
    MappedTensor { name: format!("blk.{new}{rest}"), ..tensor.clone() }
}
