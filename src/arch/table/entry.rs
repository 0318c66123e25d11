//! A row of a family's table: a tensor of the checkpoint and what it becomes.
//!
//! Names stand without the checkpoint's prefix (`model.`, `transformer.`), with `{}` for the layer and a second `{}` for the
//! expert or head.

use super::dims::{Dim, Sizes};
use super::place::{LAYER, Place};
use crate::tensor::{Keep, MappedTensor, Rows, Source};

/// Which heads a rotary permutation runs over.
#[derive(Debug, Clone, Copy)]
pub(in crate::arch) enum Heads {
    /// All attention heads.
    Query,
    /// The key-value heads.
    KeyValue,
}

/// How the output's rows follow from the checkpoint's.
#[derive(Debug, Clone, Copy)]
enum Arrangement {
    Same,
    Rotary(Heads),
    Transposed,
    /// Each weight is one larger.
    PlusOne,
    /// A matrix or row of the output for each of so many.
    Stacked(Dim),
    /// A part, or another order, of shape `out` (outermost first).
    Part {
        out: &'static [Dim],
        rows: fn(&Sizes) -> Rows,
    },
}

/// Which layers have a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layers {
    All,
    /// Those before the mixtures.
    Dense,
    /// The others.
    Mixture,
}

/// One row of a family's table.
#[derive(Debug, Clone, Copy)]
pub(in crate::arch) struct Entry {
    pub(in crate::arch) from: &'static str,
    to: &'static str,
    /// As the checkpoint stores it, outermost first.
    pub(in crate::arch) shape: &'static [Dim],
    arrangement: Arrangement,
    pub(in crate::arch) optional: bool,
    f32: bool,
    layers: Layers,
    models: fn(&Sizes) -> bool,
}

impl Entry {
    /// A required tensor whose rows are taken as they are.
    pub(in crate::arch) const fn new(from: &'static str, to: &'static str, shape: &'static [Dim]) -> Self {
        let (arrangement, layers) = (Arrangement::Same, Layers::All);
        Self { from, to, shape, arrangement, optional: false, f32: false, layers, models: |_| true }
    }

    /// The tensor may be absent; one that exists in some layer must exist in all.
    pub(in crate::arch) const fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    /// Hugging Face's split-half rotary rows become GGUF's pairs.
    pub(in crate::arch) const fn rotary(self, heads: Heads) -> Self {
        Self { arrangement: Arrangement::Rotary(heads), ..self }
    }

    /// The checkpoint stores `[input][output]`.
    pub(in crate::arch) const fn transposed(self) -> Self {
        Self { arrangement: Arrangement::Transposed, ..self }
    }

    /// One is added to each weight: the checkpoint stores what differs from one (Gemma).
    pub(in crate::arch) const fn plus_one(self) -> Self {
        Self { arrangement: Arrangement::PlusOne, ..self }
    }

    /// One of `over` tensors, of an expert or a head: the output holds them all.
    pub(in crate::arch) const fn stacked(self, over: Dim) -> Self {
        Self { arrangement: Arrangement::Stacked(over), ..self }
    }

    /// The output has the shape `out` (outermost first) and its rows from where `rows` says.
    pub(in crate::arch) const fn part(self, out: &'static [Dim], rows: fn(&Sizes) -> Rows) -> Self {
        Self { arrangement: Arrangement::Part { out, rows }, ..self }
    }

    /// Only layers before the mixtures have it.
    pub(in crate::arch) const fn dense(self) -> Self {
        Self { layers: Layers::Dense, ..self }
    }

    /// Only layers with a mixture have it.
    pub(in crate::arch) const fn mixture(self) -> Self {
        Self { layers: Layers::Mixture, ..self }
    }

    /// Only models of which `models` is true have it.
    pub(in crate::arch) const fn only(self, models: fn(&Sizes) -> bool) -> Self {
        Self { models, ..self }
    }

    /// Stored in F32 whatever its shape.
    pub(in crate::arch) const fn always_f32(self) -> Self {
        Self { f32: true, ..self }
    }

    /// Whether it becomes the same output as `other`.
    pub(in crate::arch) fn makes_what(&self, other: &Self) -> bool {
        self.to == other.to
    }

    pub(in crate::arch) fn per_layer(&self) -> bool {
        self.from.contains(LAYER)
    }

    /// What numbers the tensors that are stacked, if they are.
    pub(in crate::arch) fn stacked_over(&self) -> Option<Dim> {
        match self.arrangement {
            Arrangement::Stacked(over) => Some(over),
            _ => None,
        }
    }

    /// Whether the model has it, in layer `layer` if it is one of a layer's.
    pub(in crate::arch) fn is_in(&self, layer: Option<u32>, sizes: &Sizes) -> bool {
        let in_layer = |layer| match self.layers {
            Layers::All => true,
            Layers::Dense => layer < sizes.dense_layers,
            Layers::Mixture => layer >= sizes.dense_layers,
        };
        (self.models)(sizes) && layer.is_none_or(in_layer)
    }
}

impl Entry {
    /// Whether the model has the tensor at `place`.
    pub(in crate::arch) fn fits(&self, place: Place, sizes: &Sizes) -> bool {
        let parts = self.stacked_over().map(|over| sizes.get(over));
        self.per_layer() == place.layer.is_some()
            && parts.is_some() == place.part.is_some()
            && place.layer.is_none_or(|layer| layer < sizes.layers)
            && place.part.is_none_or(|part| u64::from(part) < parts.unwrap_or(0))
            && self.is_in(place.layer, sizes)
    }
}

/// The output of `entry` in layer `layer`, made of `source` as the entry says.
pub(in crate::arch) fn output(
    entry: &Entry,
    layer: Option<u32>,
    sizes: &Sizes,
    source: Source,
) -> MappedTensor {
    let shape = match entry.arrangement {
        Arrangement::Part { out, .. } => out,
        _ => entry.shape,
    };
    // GGUF counts dimensions from the innermost; of a transpose, the outermost has become that.
    let mut ne: Vec<u64> = shape.iter().map(|&dim| sizes.get(dim)).collect();
    if !matches!(entry.arrangement, Arrangement::Transposed) {
        ne.reverse();
    }
    let source = match (source, entry.arrangement) {
        (Source::Tensor { index, .. }, Arrangement::PlusOne) => Source::Shifted { index, by: 1.0 },
        (Source::Tensor { index, .. }, arrangement) => {
            Source::Tensor { index, rows: rows(arrangement, sizes) }
        }
        (Source::Stacked { indices }, _) => {
            ne.push(indices.len() as u64);
            Source::Stacked { indices }
        }
        (source, _) => source,
    };
    let plain =
        entry.f32 || ne.len() < 2 || entry.to.ends_with("_norm.weight") || !entry.to.ends_with(".weight");
    let keep = if plain { Keep::F32 } else { Keep::Source };
    MappedTensor { name: Place { layer, part: None }.name(entry.to), shape: ne, source, keep }
}

fn rows(arrangement: Arrangement, sizes: &Sizes) -> Rows {
    match arrangement {
        Arrangement::Rotary(Heads::Query) => Rows::RotaryPairs { heads: sizes.heads.into() },
        Arrangement::Rotary(Heads::KeyValue) => Rows::RotaryPairs { heads: sizes.kv_heads.into() },
        Arrangement::Transposed => Rows::TRANSPOSED,
        Arrangement::Part { rows, .. } => rows(sizes),
        Arrangement::Same | Arrangement::PlusOne | Arrangement::Stacked(_) => Rows::Same,
    }
}
