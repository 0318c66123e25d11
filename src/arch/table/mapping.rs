//! A family's table of tensors, and the one function that maps a checkpoint by it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::dims::{Dim, Sizes};
use super::entry::{Entry, output};
use super::place::{Place, pattern};
use crate::arch::error::{ArchError, Mismatch, WrongShape};
use crate::checkpoint::{Checkpoint, TensorInfo, is_dense};
use crate::tensor::{MappedTensor, RowOrder, Source};

/// The table of a family.
pub(in crate::arch) struct Table {
    /// GGUF name of the family.
    pub family: &'static str,
    /// Prefix that names in the checkpoint may have; names without it are always accepted.
    pub prefix: &'static str,
    /// The entries, in lists that families share.
    pub entries: &'static [&'static [Entry]],
    /// Ends of the names of tensors that are no weights: masks and cached tables.
    pub ignored: &'static [&'static str],
}

impl Table {
    /// Maps every tensor of `checkpoint`, in the converter's order: by file, then by name.
    ///
    /// # Errors
    /// Fails when tensors are unknown, missing, repeated or of a wrong shape; the error lists them all.
    pub(in crate::arch) fn map(
        &self,
        sizes: &Sizes,
        checkpoint: &dyn Checkpoint,
    ) -> Result<Vec<MappedTensor>, ArchError> {
        let mut tensors: Vec<(usize, &TensorInfo)> = checkpoint.tensors().iter().enumerate().collect();
        tensors.sort_by(|(_, a), (_, b)| (a.shard, &a.name).cmp(&(b.shard, &b.name)));

        let all: Vec<&Entry> = self.entries.iter().copied().flatten().collect();
        let mut by_name = ByName::new();
        for (at, &entry) in all.iter().enumerate() {
            by_name.entry(entry.from).or_default().push((at, entry));
        }
        let mut wrong = Mismatch { family: self.family, ..Mismatch::default() };
        let mut found = Found::new();
        let mut mapped = Vec::with_capacity(tensors.len());
        let mut stacks = Stacks::default();
        for (index, info) in tensors {
            if self.ignored.iter().any(|end| info.name.ends_with(end)) {
                continue;
            }
            let Some((pattern, place)) = self.located(&info.name) else { continue };
            let further = sizes.layers..sizes.layers.saturating_add(sizes.further_layers);
            if place.layer.is_some_and(|layer| further.contains(&layer)) {
                continue;
            }
            let fits = |entry: &Entry| entry.fits(place, sizes);
            let entries = by_name.get(pattern.as_str()).map_or(&[][..], Vec::as_slice);
            if !entries.iter().any(|(_, entry)| fits(entry)) {
                wrong.unknown.push(info.name.clone());
                continue;
            }
            let sizes = &sizes.in_layer(place.layer);
            for &(at, entry) in entries.iter().filter(|(_, entry)| fits(entry)) {
                let expected: Vec<u64> = entry.shape.iter().map(|&dim| sizes.get(dim)).collect();
                if !found.insert((at, place)) {
                    wrong.repeated.push(info.name.clone());
                } else if info.shape != expected {
                    let (name, actual) = (info.name.clone(), info.shape.clone());
                    wrong.shapes.push(WrongShape { name, expected, actual });
                } else if let Some(over) = entry.stacked_over() {
                    let rows = all.iter().filter(|entry| entry.stacked_over() == Some(over)).count();
                    let stack = stacks.add((place.layer, over), (at, place.part), index);
                    if stack.is_complete(rows, sizes.get(over)) {
                        let complete = std::mem::take(stack).0.into_iter();
                        mapped.extend(complete.map(|(at, parts)| {
                            let indices = parts.into_values().collect();
                            output(all[at], place.layer, sizes, Source::Stacked { indices })
                        }));
                    }
                } else if entry.key_name().is_none() {
                    mapped.push(output(
                        entry,
                        place.layer,
                        sizes,
                        Source::Tensor { index, rows: RowOrder::Same },
                    ));
                }
            }
        }
        wrong.missing = self.missing(sizes, &found, checkpoint);
        if wrong.is_empty() { Ok(mapped) } else { Err(ArchError::Mismatch(Box::new(wrong))) }
    }

    /// Returns the shape that checkpoint tensor `name` has in a model of these sizes, outermost dimension first; `None` if
    /// the model has no such tensor.
    pub(in crate::arch) fn stored_shape(&self, sizes: &Sizes, name: &str) -> Option<Vec<u64>> {
        if self.ignored.iter().any(|end| name.ends_with(end)) {
            return None;
        }
        let (pattern, place) = self.located(name)?;
        let mut entries = self.entries.iter().copied().flatten();
        let entry = entries.find(|entry| entry.from == pattern && entry.fits(place, sizes))?;
        let sizes = sizes.in_layer(place.layer);
        Some(entry.shape.iter().map(|&dim| sizes.get(dim)).collect())
    }

    /// Splits layer and part off the name of a checkpoint tensor, without its prefix; `None` if it is not of the text model.
    pub(in crate::arch) fn located(&self, name: &str) -> Option<(String, Place)> {
        let name = name_in_text(name)?;
        Some(pattern(name.strip_prefix(self.prefix).unwrap_or(&name)))
    }

    /// Returns true if the entry at `at` is the first of several that make the same output, of which one must be there,
    /// and none was found.
    fn is_without_alternative(&self, at: usize, found: &Found) -> bool {
        let all = || self.entries.iter().copied().flatten().enumerate();
        let same: Vec<usize> = match all().nth(at) {
            Some((_, entry)) => {
                all().filter(|(_, other)| other.makes_what(entry)).map(|(at, _)| at).collect()
            }
            None => Vec::new(),
        };
        let any = |&at: &usize| found.range((at, Place::FIRST)..=(at, Place::LAST)).next().is_some();
        same.len() > 1 && same[0] == at && !same.iter().any(any)
    }

    fn missing(&self, sizes: &Sizes, found: &Found, checkpoint: &dyn Checkpoint) -> Vec<String> {
        let prefixed = checkpoint.tensors().iter().any(|t| t.name.starts_with(self.prefix));
        let prefix = if prefixed { self.prefix } else { "" };
        // Each layer and each part has tensors of its own, so numbers above that of the tensors are wrong and are not
        // enumerated.
        let tensors = u32::try_from(checkpoint.tensors().len()).unwrap_or(u32::MAX);
        let layers = 0..sizes.layers.min(tensors).max(1);
        let mut missing = Vec::new();
        for (at, entry) in self.entries.iter().copied().flatten().enumerate() {
            let any = found.range((at, Place::FIRST)..=(at, Place::LAST)).next().is_some();
            if entry.optional && !any && !self.is_without_alternative(at, found) {
                continue;
            }
            let own = |layer: &Option<u32>| entry.is_in(*layer, sizes);
            let layers = layers.clone().map(Some).filter(|_| entry.per_layer());
            let outside = (!entry.per_layer()).then_some(None);
            for layer in layers.chain(outside).filter(own) {
                let over = entry.stacked_over();
                let parts = over.map_or(0, |over| sizes.get(over).min(tensors.into()).max(1) as u32);
                let single = over.is_none().then_some(None);
                let places = (0..parts).map(Some).chain(single).map(|part| Place { layer, part });
                let absent = places.filter(|&place| !found.contains(&(at, place)));
                missing.extend(absent.map(|place| format!("{prefix}{}", place.name(entry.from))));
            }
        }
        missing
    }
}

/// Returns the name in a text model of a tensor of a model with further modalities; `None` if it does not belong to the
/// text model.
pub(in crate::arch) fn name_in_text(name: &str) -> Option<Cow<'_, str>> {
    const OTHERS: [&str; 9] = [
        "vision_tower.",
        "vision_model.",
        "visual.",
        "multi_modal_projector.",
        "connector.",
        "embed_vision.",
        "embed_audio.",
        "audio_tower.",
        "vision_embedder.",
    ];
    let inner = name.strip_prefix("model.").unwrap_or(name);
    // What follows the pooling belongs to no family's table.
    if is_dense(name) || OTHERS.iter().any(|other| inner.starts_with(other)) {
        return None;
    }
    // SmolVLM's name comes second.
    let split = ["language_model.", "text_model."].iter().find_map(|part| name.split_once(part));
    match split {
        Some((before, after)) => Some(Cow::Owned(format!("{before}{after}"))),
        None => Some(Cow::Borrowed(name)),
    }
}

/// Entries by the checkpoint's names, with their positions in the table: one tensor may become several.
type ByName<'t> = BTreeMap<&'t str, Vec<(usize, &'t Entry)>>;

/// Positions of the entries found in the checkpoint, with the layer and part of each.
type Found = BTreeSet<(usize, Place)>;

/// Tensors that are stacked over the same experts or heads, by entry and by number.
#[derive(Debug, Default)]
struct Stack(BTreeMap<usize, BTreeMap<Option<u32>, usize>>);

impl Stack {
    /// Returns true if each of `rows` entries has `parts` tensors.
    fn is_complete(&self, rows: usize, parts: u64) -> bool {
        self.0.len() == rows && self.0.values().all(|row| row.len() as u64 == parts)
    }
}

/// Incomplete stacks, by layer and by the dimension that they are stacked over: those that share both are written
/// together.
#[derive(Debug, Default)]
struct Stacks(BTreeMap<(Option<u32>, Dim), Stack>);

impl Stacks {
    /// Adds checkpoint tensor `index` as part `part` of the entry at `at`.
    fn add(&mut self, of: (Option<u32>, Dim), (at, part): (usize, Option<u32>), index: usize) -> &mut Stack {
        let stack = self.0.entry(of).or_default();
        stack.0.entry(at).or_default().insert(part, index);
        stack
    }
}
