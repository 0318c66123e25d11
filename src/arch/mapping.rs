//! A family's tensors as a table, and the one walk that maps a checkpoint by it.
//!
//! Names in a table stand without the checkpoint's prefix (`model.`, `transformer.`) and with `{}` for the layer.

use std::collections::{BTreeMap, BTreeSet};

use crate::checkpoint::{Checkpoint, TensorInfo};
use crate::plan::{Keep, MappedTensor, Rows, Source};

use super::error::{ArchError, Mismatch, WrongShape};

/// A dimension as the configuration gives it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Dim {
    /// Tokens.
    Vocab,
    /// Positions in a learned position table.
    Positions,
    /// Width of the hidden state.
    Hidden,
    /// Width inside the feed-forward network.
    FeedForward,
    /// Heads times head width.
    Query,
    /// Key-value heads times head width.
    KeyValue,
    /// Query, key and value rows in one tensor.
    Fused,
}

/// Which heads a rotary permutation runs over.
#[derive(Debug, Clone, Copy)]
pub(super) enum Heads {
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
}

/// One row of a family's table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    from: &'static str,
    to: &'static str,
    /// As the checkpoint stores it, outermost first.
    shape: &'static [Dim],
    arrangement: Arrangement,
    optional: bool,
    f32: bool,
}

impl Entry {
    /// A required tensor whose rows are taken as they are.
    pub(super) const fn new(from: &'static str, to: &'static str, shape: &'static [Dim]) -> Self {
        Self { from, to, shape, arrangement: Arrangement::Same, optional: false, f32: false }
    }

    /// The tensor may be absent; one that exists in some layer must exist in all.
    pub(super) const fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    /// Hugging Face's split-half rotary rows become GGUF's pairs.
    pub(super) const fn rotary(self, heads: Heads) -> Self {
        Self { arrangement: Arrangement::Rotary(heads), ..self }
    }

    /// The checkpoint stores `[input][output]`.
    pub(super) const fn transposed(self) -> Self {
        Self { arrangement: Arrangement::Transposed, ..self }
    }

    /// Stored in F32 whatever its shape.
    pub(super) const fn always_f32(self) -> Self {
        Self { f32: true, ..self }
    }

    fn per_layer(&self) -> bool {
        self.from.contains(LAYER)
    }
}

/// A family's side of the mapping.
pub(super) struct Table {
    /// GGUF name of the family.
    pub family: &'static str,
    /// What may stand before a name in the checkpoint; the empty prefix is always tried.
    pub prefix: &'static str,
    /// The tensors.
    pub entries: &'static [Entry],
    /// Ends of names that are no weights: masks and cached tables.
    pub ignored: &'static [&'static str],
}

/// A model's dimensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub layers: u32,
    pub vocab: u32,
    pub positions: u32,
    pub hidden: u32,
    pub feed_forward: u32,
    pub heads: u32,
    pub kv_heads: u32,
    pub head_dim: u32,
}

impl Sizes {
    fn get(&self, dim: Dim) -> u64 {
        let [heads, kv_heads, head_dim] = [self.heads, self.kv_heads, self.head_dim].map(u64::from);
        match dim {
            Dim::Vocab => self.vocab.into(),
            Dim::Positions => self.positions.into(),
            Dim::Hidden => self.hidden.into(),
            Dim::FeedForward => self.feed_forward.into(),
            Dim::Query => heads.saturating_mul(head_dim),
            Dim::KeyValue => kv_heads.saturating_mul(head_dim),
            Dim::Fused => heads.saturating_add(kv_heads.saturating_mul(2)).saturating_mul(head_dim),
        }
    }
}

const LAYER: &str = "{}";

impl Table {
    /// Maps every tensor of `checkpoint`, in the converter's order: by file, then by name.
    ///
    /// # Errors
    /// When tensors are unknown, missing, there twice or of a wrong shape; the error lists them all.
    pub(super) fn map(
        &self,
        sizes: &Sizes,
        checkpoint: &dyn Checkpoint,
    ) -> Result<Vec<MappedTensor>, ArchError> {
        let mut tensors: Vec<(usize, &TensorInfo)> = checkpoint.tensors().iter().enumerate().collect();
        tensors.sort_by(|(_, a), (_, b)| (a.shard, &a.name).cmp(&(b.shard, &b.name)));

        let by_name: ByName = self.entries.iter().enumerate().map(|(at, e)| (e.from, (at, e))).collect();
        let mut wrong = Mismatch { family: self.family, ..Mismatch::default() };
        let mut found = Found::new();
        let mut mapped = Vec::with_capacity(tensors.len());
        for (index, info) in tensors {
            if self.ignored.iter().any(|end| info.name.ends_with(end)) {
                continue;
            }
            let Some((at, entry, layer)) = self.entry(&by_name, &info.name, sizes.layers) else {
                wrong.unknown.push(info.name.clone());
                continue;
            };
            if !found.insert((at, layer)) {
                wrong.repeated.push(info.name.clone());
                continue;
            }
            let expected: Vec<u64> = entry.shape.iter().map(|&dim| sizes.get(dim)).collect();
            if info.shape != expected {
                let (name, actual) = (info.name.clone(), info.shape.clone());
                wrong.shapes.push(WrongShape { name, expected, actual });
                continue;
            }
            mapped.push(output(entry, layer, sizes, index, expected));
        }
        wrong.missing = self.missing(sizes, &found, checkpoint);
        if wrong.is_empty() { Ok(mapped) } else { Err(ArchError::Mismatch(Box::new(wrong))) }
    }

    /// The row that `name` falls under, its position and the layer.
    fn entry<'t>(
        &self,
        by_name: &ByName<'t>,
        name: &str,
        layers: u32,
    ) -> Option<(usize, &'t Entry, Option<u32>)> {
        let (pattern, layer) = pattern(name.strip_prefix(self.prefix).unwrap_or(name));
        let &(at, entry) = by_name.get(pattern.as_str())?;
        let fits = entry.per_layer() == layer.is_some() && layer.is_none_or(|layer| layer < layers);
        fits.then_some((at, entry, layer))
    }

    fn missing(&self, sizes: &Sizes, found: &Found, checkpoint: &dyn Checkpoint) -> Vec<String> {
        let prefixed = checkpoint.tensors().iter().any(|t| t.name.starts_with(self.prefix));
        let prefix = if prefixed { self.prefix } else { "" };
        // Each layer has tensors of its own, so a greater number of layers is wrong without being counted through.
        let layers = sizes.layers.min(u32::try_from(checkpoint.tensors().len()).unwrap_or(u32::MAX));
        let mut missing = Vec::new();
        for (at, entry) in self.entries.iter().enumerate() {
            if entry.optional && found.range((at, None)..=(at, Some(u32::MAX))).next().is_none() {
                continue;
            }
            if !entry.per_layer() {
                if !found.contains(&(at, None)) {
                    missing.push(format!("{prefix}{}", entry.from));
                }
                continue;
            }
            let absent = (0..layers.max(1)).filter(|&layer| !found.contains(&(at, Some(layer))));
            missing.extend(absent.map(|layer| format!("{prefix}{}", in_layer(entry.from, Some(layer)))));
        }
        missing
    }
}

/// A table by the checkpoint's names, with the rows' positions.
type ByName<'t> = BTreeMap<&'t str, (usize, &'t Entry)>;

/// The table rows met in the checkpoint, with their layer.
type Found = BTreeSet<(usize, Option<u32>)>;

fn output(entry: &Entry, layer: Option<u32>, sizes: &Sizes, index: usize, shape: Vec<u64>) -> MappedTensor {
    let rows = match entry.arrangement {
        Arrangement::Same => Rows::Same,
        Arrangement::Rotary(Heads::Query) => Rows::RotaryPairs { heads: sizes.heads.into() },
        Arrangement::Rotary(Heads::KeyValue) => Rows::RotaryPairs { heads: sizes.kv_heads.into() },
        Arrangement::Transposed => Rows::Transposed,
    };
    // GGUF counts dimensions from the innermost; of a transpose, the outermost has become that.
    let mut ne = shape;
    if rows != Rows::Transposed {
        ne.reverse();
    }
    let plain =
        entry.f32 || ne.len() < 2 || entry.to.ends_with("_norm.weight") || !entry.to.ends_with(".weight");
    MappedTensor {
        name: in_layer(entry.to, layer),
        shape: ne,
        source: Source::Tensor { index, rows },
        keep: if plain { Keep::F32 } else { Keep::Source },
    }
}

fn in_layer(pattern: &str, layer: Option<u32>) -> String {
    layer.map_or_else(|| pattern.to_owned(), |layer| pattern.replace(LAYER, &layer.to_string()))
}

/// Splits the layer off a name: the first part that is a number, written without leading zeros.
fn pattern(name: &str) -> (String, Option<u32>) {
    let mut layer = None;
    let parts: Vec<&str> = name
        .split('.')
        .map(|part| match part.parse::<u32>() {
            Ok(number) if layer.is_none() && number.to_string() == part => {
                layer = Some(number);
                LAYER
            }
            _ => part,
        })
        .collect();
    (parts.join("."), layer)
}
