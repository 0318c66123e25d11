//! The hidden states of the original and of the quantized model, tile by tile, between two stages of a layer.

use kquant_formats::FormatError;

use crate::graph::SLOTS;
use crate::model::kept::{Form, Kept};
use crate::model::stages::State;

/// One of the two models whose states are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The model with the weights of the checkpoint.
    Original,
    /// The model with everything before the present stage quantized.
    Quantized,
}

/// The states of all tiles.
pub(crate) struct Streams {
    /// Storage with room for [`SLOTS`] buffers for each side of each tile.
    kept: Kept,
    /// Number of buffers that the states of each tile have, by side.
    buffers: Vec<[usize; 2]>,
}

impl Streams {
    /// Creates room for `tiles` tiles of up to `values` values each, within `memory` bytes or in a file.
    pub(crate) fn new(tiles: usize, values: usize, memory: u64) -> Result<Self, FormatError> {
        let all = (2 * tiles as u64).saturating_mul(values as u64);
        let kept = Kept::new(2 * tiles * SLOTS, all, Form::F32, memory)?;
        Ok(Self { kept, buffers: vec![[0; 2]; tiles] })
    }

    /// Returns the number of tiles.
    pub(crate) fn len(&self) -> usize {
        self.buffers.len()
    }

    /// Stores `state` as that of tile `tile`.
    pub(crate) fn put(&mut self, tile: usize, side: Side, state: State) -> Result<(), FormatError> {
        self.buffers[tile][side as usize] = state.len();
        for (i, values) in state.into_iter().enumerate() {
            self.kept.put(at(tile, side) + i, values)?;
        }
        Ok(())
    }

    /// Returns the number of values of each buffer of tile `tile`.
    pub(crate) fn lengths(&mut self, tile: usize, side: Side) -> Result<Vec<usize>, FormatError> {
        let state = self.take(tile, side)?;
        let lengths = state.iter().map(Vec::len).collect();
        self.put(tile, side, state)?;
        Ok(lengths)
    }

    /// Takes the state of tile `tile` out.
    pub(crate) fn take(&mut self, tile: usize, side: Side) -> Result<State, FormatError> {
        let buffers = std::mem::take(&mut self.buffers[tile][side as usize]);
        (0..buffers).map(|i| self.kept.take(at(tile, side) + i)).collect()
    }
}

/// Returns the number of the first buffer of tile `tile` on `side`.
fn at(tile: usize, side: Side) -> usize {
    (2 * tile + side as usize) * SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_file_give_the_same_states() {
        let state = |seed: usize| -> State {
            vec![(0..10).map(|i| (i * seed) as f32).collect(), vec![f32::MIN_POSITIVE; 5]]
        };
        for memory in [0, 1 << 20] {
            let mut streams = Streams::new(3, 15, memory).unwrap();
            for tile in 0..3 {
                streams.put(tile, Side::Original, state(tile)).unwrap();
                streams.put(tile, Side::Quantized, state(tile + 10)).unwrap();
            }
            for tile in [2, 0, 1] {
                assert_eq!(streams.take(tile, Side::Quantized).unwrap(), state(tile + 10));
                assert_eq!(streams.take(tile, Side::Original).unwrap(), state(tile));
            }
        }
    }
}
