//! Sets of layers, for models whose layers differ by a list in the configuration.

use crate::arch::config::Config;
use crate::arch::error::ArchError;

/// Most layers that a set can tell apart.
const MOST: usize = 512;

/// A set of layers by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::arch) struct LayerSet([u64; MOST / 64]);

impl Default for LayerSet {
    fn default() -> Self {
        Self::NONE
    }
}

impl LayerSet {
    /// The set without a layer.
    pub(in crate::arch) const NONE: Self = Self([0; MOST / 64]);

    /// Returns the set of the layers that `has` is true for.
    pub(in crate::arch) fn of(has: impl Fn(usize) -> bool) -> Self {
        let word =
            |word: usize| (0..64).filter(|bit| has(word * 64 + bit)).fold(0, |set, bit| set | 1 << bit);
        Self(std::array::from_fn(word))
    }

    /// Returns true if `layer` is in the set.
    pub(in crate::arch) fn has(&self, layer: u32) -> bool {
        self.0.get(layer as usize / 64).is_some_and(|word| word >> (layer % 64) & 1 == 1)
    }

    /// Returns for each of `layers` layers whether it is in the set.
    pub(in crate::arch) fn list(&self, layers: u32) -> impl Iterator<Item = bool> {
        (0..layers).map(|layer| self.has(layer))
    }
}

/// Returns the layers whose kind in the list `layer_types` is one of `kinds`; `others` are the kinds that the rest may have.
pub(in crate::arch) fn of_kind(
    config: &Config,
    layers: u32,
    (kinds, others): (&[&str], &[&str]),
) -> Result<Option<LayerSet>, ArchError> {
    const KEY: &str = "layer_types";
    let Some(list) = config.optional_texts(KEY)? else { return Ok(None) };
    let is_known = |found: &&str| kinds.contains(found) || others.contains(found);
    if list.len() != layers as usize || list.len() > MOST || !list.iter().all(is_known) {
        return Err(config.unusable(KEY, "a list with a known kind of each layer").into());
    }
    Ok(Some(LayerSet::of(|layer| list.get(layer).is_some_and(|found| kinds.contains(found)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_in_the_set_or_not() {
        let set = LayerSet::of(|layer| layer % 3 == 1);
        assert_eq!(set.list(5).collect::<Vec<_>>(), [false, true, false, false, true]);
        assert_eq!([64, 67, 511, 512, 514].map(|layer| set.has(layer)), [true, true, true, false, false]);
        assert!(!LayerSet::NONE.has(0));
    }
}
