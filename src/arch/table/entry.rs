//! An entry of a family's table: a tensor of the checkpoint and the output tensor that it becomes.
//!
//! Names lack the checkpoint's prefix (`model.`, `transformer.`); the first `{}` stands for the layer and the second for
//! the expert or head.

use super::dims::{Dim, Sizes};
use super::place::{LAYER, Place};
use crate::tensor::{Keep, MappedTensor, RowFactors, RowOrder, Selection, Source};

/// The heads that a rotary permutation applies to.
#[derive(Debug, Clone, Copy)]
pub(in crate::arch) enum Heads {
    /// All attention heads.
    Query,
    /// The key-value heads.
    KeyValue,
}

/// The rule by which the output's rows follow from the checkpoint's.
#[derive(Debug, Clone, Copy)]
enum Arrangement {
    Same,
    Rotary(Heads),
    Transposed,
    /// One is added to each weight.
    PlusOne,
    /// There is no output tensor: the numbers of all layers are the value of a key.
    Key,
    /// The output has one matrix or row for each of this dimension.
    Stacked(Dim),
    /// The output has some rows or columns of the checkpoint's tensor, or all in another order.
    Selected(fn(&Sizes) -> Selection),
    /// The output is the rates of a recurrence, whose logarithms the checkpoint holds, with the shape `out` (outermost first).
    Rates {
        out: &'static [Dim],
        rows: fn(&Sizes) -> RowOrder,
    },
    /// The output is a part, or another order, with the shape `out` (outermost first).
    Part {
        out: &'static [Dim],
        rows: fn(&Sizes) -> RowOrder,
    },
}

/// The layers that have a tensor.
#[derive(Debug, Clone, Copy)]
enum Layers {
    All,
    /// The layers before those with a mixture have it.
    Dense,
    /// The layers with a mixture have it.
    Mixture,
    /// The layers with attention have it, in models whose layers differ in kind.
    Attention,
    /// The recurrent layers have it.
    Recurrent,
    /// The layers that the function is true for have it.
    Where(fn(&Sizes, u32) -> bool),
    /// The layers after the last, which predict further tokens, have it; their numbers start at 0 in the checkpoint.
    Further,
}

/// An entry of a family's table.
#[derive(Debug, Clone, Copy)]
pub(in crate::arch) struct Entry {
    pub(in crate::arch) from: &'static str,
    to: &'static str,
    /// Dimensions as the checkpoint stores them, outermost first.
    pub(in crate::arch) shape: &'static [Dim],
    arrangement: Arrangement,
    pub(in crate::arch) optional: bool,
    f32: bool,
    layers: Layers,
    models: fn(&Sizes) -> bool,
    /// Factors of the output's rows, if the converter multiplies them.
    factors: Option<fn(&Sizes) -> Vec<RowFactors>>,
}

impl Entry {
    /// Creates the entry of a required tensor whose rows are taken as they are.
    pub(in crate::arch) const fn new(from: &'static str, to: &'static str, shape: &'static [Dim]) -> Self {
        let (arrangement, layers) = (Arrangement::Same, Layers::All);
        Self {
            from,
            to,
            shape,
            arrangement,
            optional: false,
            f32: false,
            layers,
            models: |_| true,
            factors: None,
        }
    }

    /// Lets the tensor be absent; one that exists in some layer must exist in all.
    pub(in crate::arch) const fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    /// Rearranges Hugging Face's split-half rotary rows as GGUF's neighbouring pairs.
    pub(in crate::arch) const fn rotary(self, heads: Heads) -> Self {
        Self { arrangement: Arrangement::Rotary(heads), ..self }
    }

    /// Transposes the tensor, which the checkpoint stores as `[input][output]`.
    pub(in crate::arch) const fn transposed(self) -> Self {
        Self { arrangement: Arrangement::Transposed, ..self }
    }

    /// Makes no tensor but a key of GGUF, which is the name in it: a list with the number that each layer's tensor holds.
    pub(in crate::arch) const fn key(self) -> Self {
        Self { arrangement: Arrangement::Key, ..self }
    }

    /// Adds one to each weight, because the checkpoint stores differences from one (Gemma).
    pub(in crate::arch) const fn plus_one(self) -> Self {
        Self { arrangement: Arrangement::PlusOne, ..self }
    }

    /// Stacks the tensors of all experts or heads, `over`, into one output.
    pub(in crate::arch) const fn stacked(self, over: Dim) -> Self {
        Self { arrangement: Arrangement::Stacked(over), ..self }
    }

    /// Gives the output the shape `out` (outermost first), with the rows that `rows` selects.
    pub(in crate::arch) const fn part(self, out: &'static [Dim], rows: fn(&Sizes) -> RowOrder) -> Self {
        Self { arrangement: Arrangement::Part { out, rows }, ..self }
    }

    /// Takes the rows and columns of `selection`, in its order.
    pub(in crate::arch) const fn selected(self, selection: fn(&Sizes) -> Selection) -> Self {
        Self { arrangement: Arrangement::Selected(selection), ..self }
    }

    /// Makes rates of their logarithms, which the checkpoint stores, with the shape `out` (outermost first) and the rows that
    /// `rows` selects.
    pub(in crate::arch) const fn rates(self, out: &'static [Dim], rows: fn(&Sizes) -> RowOrder) -> Self {
        Self { arrangement: Arrangement::Rates { out, rows }, ..self }
    }

    /// Restricts the entry to the layers after the last, which predict further tokens.
    pub(in crate::arch) const fn further(self) -> Self {
        Self { layers: Layers::Further, ..self }
    }

    /// Restricts the entry to layers before those with a mixture.
    pub(in crate::arch) const fn dense(self) -> Self {
        Self { layers: Layers::Dense, ..self }
    }

    /// Restricts the entry to layers with a mixture.
    pub(in crate::arch) const fn mixture(self) -> Self {
        Self { layers: Layers::Mixture, ..self }
    }

    /// Restricts the entry to layers with attention.
    pub(in crate::arch) const fn attention(self) -> Self {
        Self { layers: Layers::Attention, ..self }
    }

    /// Restricts the entry to recurrent layers.
    pub(in crate::arch) const fn recurrent(self) -> Self {
        Self { layers: Layers::Recurrent, ..self }
    }

    /// Restricts the entry to layers that are a feed-forward network alone.
    pub(in crate::arch) const fn alone(self) -> Self {
        self.of_layers(|sizes, layer| sizes.alone.has(layer))
    }

    /// Restricts the entry to layers for which `has` returns true.
    pub(in crate::arch) const fn of_layers(self, has: fn(&Sizes, u32) -> bool) -> Self {
        Self { layers: Layers::Where(has), ..self }
    }

    /// Restricts the entry to models for which `models` returns true.
    pub(in crate::arch) const fn only(self, models: fn(&Sizes) -> bool) -> Self {
        Self { models, ..self }
    }

    /// Multiplies the output's rows by `factors`.
    pub(in crate::arch) const fn times(self, factors: fn(&Sizes) -> Vec<RowFactors>) -> Self {
        Self { factors: Some(factors), ..self }
    }

    /// Stores the tensor in F32 whatever its shape.
    pub(in crate::arch) const fn always_f32(self) -> Self {
        Self { f32: true, ..self }
    }

    /// Returns the key whose list holds the numbers of the layers' tensors, if they become one.
    pub(in crate::arch) fn key_name(&self) -> Option<&'static str> {
        matches!(self.arrangement, Arrangement::Key).then_some(self.to)
    }

    /// Returns true if it becomes the same output as `other`.
    pub(in crate::arch) fn makes_what(&self, other: &Self) -> bool {
        self.to == other.to
    }

    pub(in crate::arch) fn per_layer(&self) -> bool {
        self.from.contains(LAYER)
    }

    /// Returns the dimension that the tensors are stacked over, if they are.
    pub(in crate::arch) fn stacked_over(&self) -> Option<Dim> {
        match self.arrangement {
            Arrangement::Stacked(over) => Some(over),
            _ => None,
        }
    }

    /// Returns true if the model has the tensor, in layer `layer` if the tensor belongs to a layer.
    pub(in crate::arch) fn is_in(&self, layer: Option<u32>, sizes: &Sizes) -> bool {
        let in_layer = |layer| match self.layers {
            Layers::All => true,
            Layers::Dense => layer < sizes.dense_layers,
            Layers::Mixture => layer >= sizes.dense_layers,
            Layers::Attention => !sizes.recurrent.has(layer) && !sizes.alone.has(layer),
            Layers::Recurrent => sizes.recurrent.has(layer),
            Layers::Where(has) => has(sizes, layer),
            Layers::Further => layer < sizes.further_layers,
        };
        // A tensor outside the layers may be one of the layer after the last.
        let layer = if matches!(self.layers, Layers::Further) { Some(layer.unwrap_or(0)) } else { layer };
        (self.models)(sizes) && layer.is_none_or(in_layer)
    }

    /// Returns the number of layers that the checkpoint counts with those of the entry.
    fn layers(&self, sizes: &Sizes) -> u32 {
        if matches!(self.layers, Layers::Further) { sizes.further_layers } else { sizes.layers }
    }

    /// Returns the layer of the output that the checkpoint's tensor of layer `layer` becomes.
    fn output_layer(&self, layer: Option<u32>, sizes: &Sizes) -> Option<u32> {
        if matches!(self.layers, Layers::Further) { Some(sizes.layers + layer.unwrap_or(0)) } else { layer }
    }
}

impl Entry {
    /// Returns true if the model has the tensor at `place`.
    pub(in crate::arch) fn fits(&self, place: Place, sizes: &Sizes) -> bool {
        let parts = self.stacked_over().map(|over| sizes.get(over));
        self.per_layer() == place.layer.is_some()
            && parts.is_some() == place.part.is_some()
            && place.layer.is_none_or(|layer| layer < self.layers(sizes))
            && place.part.is_none_or(|part| u64::from(part) < parts.unwrap_or(0))
            && self.is_in(place.layer, sizes)
    }
}

/// Returns the output of `entry` in layer `layer`, made of `source` as the entry says.
pub(in crate::arch) fn output(
    entry: &Entry,
    layer: Option<u32>,
    sizes: &Sizes,
    source: Source,
) -> MappedTensor {
    let shape = match entry.arrangement {
        Arrangement::Part { out, .. } | Arrangement::Rates { out, .. } => out,
        _ => entry.shape,
    };
    // GGUF lists dimensions from the innermost; in a transposed tensor this is the outermost of the checkpoint's.
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
    let layer = entry.output_layer(layer, sizes);
    let tensor = MappedTensor { name: Place { layer, part: None }.name(entry.to), shape: ne, source, keep };
    if let Some(factors) = entry.factors {
        let source = Source::Scaled { of: Box::new(tensor.clone()), factors: factors(sizes) };
        return MappedTensor { source, ..tensor };
    }
    match entry.arrangement {
        Arrangement::Selected(selection) => tensor.select(selection(sizes)),
        Arrangement::Rates { .. } => {
            MappedTensor { source: Source::Rates { of: Box::new(tensor.clone()) }, ..tensor }
        }
        _ => tensor,
    }
}

fn rows(arrangement: Arrangement, sizes: &Sizes) -> RowOrder {
    match arrangement {
        Arrangement::Rotary(heads) => {
            let heads = match heads {
                Heads::Query => sizes.heads.into(),
                Heads::KeyValue => sizes.kv_heads.into(),
            };
            match sizes.rotary < sizes.head_dim {
                true => RowOrder::RotaryPart { heads, rotary: sizes.rotary.into() },
                false => RowOrder::RotaryPairs { heads },
            }
        }
        Arrangement::Transposed => RowOrder::TRANSPOSED,
        Arrangement::Part { rows, .. } | Arrangement::Rates { rows, .. } => rows(sizes),
        Arrangement::Same
        | Arrangement::PlusOne
        | Arrangement::Key
        | Arrangement::Stacked(_)
        | Arrangement::Selected(_) => RowOrder::Same,
    }
}

/// Returns the first `N` of `entries`, restricted to layers with attention.
pub(in crate::arch) const fn in_attention<const N: usize>(entries: &[Entry]) -> [Entry; N] {
    let mut out = [Entry::new("", "", &[]); N];
    let mut at = 0;
    while at < N {
        out[at] = entries[at].attention();
        at += 1;
    }
    out
}
