//! What goes from layer to layer beside the residual stream: the inputs of later layers that come from the tokens, and keys and values
//! that later layers attend to as well.
//!
//! ```text
//! row before layer l: [ stream | inputs of layers l, l + 1, ... | keys and values of layers before l that layers from l on attend to ]
//! ```

use std::ops::Range;

use super::{Hyper, Slot};

/// A part of what goes from layer to layer beside the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// The input of a layer that comes from the tokens.
    Input(usize),
    /// The keys of a layer.
    Keys(usize),
    /// The values of a layer.
    Values(usize),
}

/// A part of [`Slot::Carried`] that a layer reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recalled {
    /// The layer's own input.
    Input,
    /// The keys that the layer attends to.
    Keys,
    /// The values that the layer attends to.
    Values,
}

impl Hyper {
    /// Returns the number of the layer whose keys and values layer `layer` attends to; `None` if it has its own.
    pub fn keys_of(&self, layer: usize) -> Option<usize> {
        let own = self.layers.saturating_sub(self.shared_keys);
        let same_reach = |other: &usize| self.has_window(*other) == self.has_window(layer);
        (layer >= own).then(|| (0..own).rev().find(same_reach)).flatten()
    }

    /// Returns true if layer `layer` has keys and values of its own, or those of another layer.
    pub(crate) fn has_keys(&self, layer: usize) -> bool {
        layer < self.layers.saturating_sub(self.shared_keys) || self.keys_of(layer).is_some()
    }

    /// Returns true if later layers attend to the keys and values of layer `layer`.
    pub fn keeps_keys(&self, layer: usize) -> bool {
        (layer + 1..self.layers).any(|later| self.keys_of(later) == Some(layer))
    }

    /// Returns true if something goes from layer to layer beside the stream.
    pub fn carries(&self) -> bool {
        self.layer_input > 0 || self.shared_keys > 0
    }

    /// Returns what goes into layer `layer` beside the stream, and the width of each part, in order.
    pub(crate) fn carried(&self, layer: usize) -> Vec<(Carried, usize)> {
        if !self.carries() {
            return Vec::new();
        }
        let inputs = (layer..self.layers).filter(|_| self.layer_input > 0);
        let inputs = inputs.map(|layer| (Carried::Input(layer), self.layer_input));
        let is_read = |kept: &usize| (layer..self.layers).any(|later| self.keys_of(later) == Some(*kept));
        let keys = (0..layer).filter(is_read).flat_map(|kept| {
            let heads = self.attention(kept);
            let (keys, values) = (heads.kv_heads * heads.dim, heads.kv_heads * heads.value_dim);
            [(Carried::Keys(kept), keys), (Carried::Values(kept), values)]
        });
        inputs.chain(keys).collect()
    }

    /// Returns the width of what goes into layer `layer` beside the stream.
    pub(crate) fn carried_width(&self, layer: usize) -> usize {
        self.carried(layer).iter().map(|(_, width)| width).sum()
    }

    /// Returns the columns of `part` in what goes into layer `layer` beside the stream.
    pub(crate) fn carried_columns(&self, layer: usize, part: Carried) -> Option<Range<usize>> {
        let mut first = 0;
        for (found, width) in self.carried(layer) {
            if found == part {
                return Some(first..first + width);
            }
            first += width;
        }
        None
    }

    /// Returns the part that layer `layer` means by `recalled`.
    pub(crate) fn recalled(&self, layer: usize, recalled: Recalled) -> Option<Carried> {
        match recalled {
            Recalled::Input => Some(Carried::Input(layer)),
            Recalled::Keys => self.keys_of(layer).map(Carried::Keys),
            Recalled::Values => self.keys_of(layer).map(Carried::Values),
        }
    }

    /// Returns the number of values per token between layers, at most.
    pub(crate) fn row_width(&self) -> usize {
        self.hidden + (0..self.layers).map(|layer| self.carried_width(layer)).max().unwrap_or(0)
    }

    /// Returns the slot that holds `part` when layer `layer` ends, if the layer made it.
    pub(crate) fn made(&self, layer: usize, part: Carried) -> Option<Slot> {
        match part {
            Carried::Keys(kept) if kept == layer => Some(Slot::Key),
            Carried::Values(kept) if kept == layer => Some(Slot::Value),
            _ => None,
        }
    }
}
