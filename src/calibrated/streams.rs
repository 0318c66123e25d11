//! The hidden states of the original and of the quantized model, tile by tile, between two stages of a layer.

use kquant_formats::FormatError;
use kquant_formats::scratch::Scratch;

use crate::model::stages::State;

/// Which of the two models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// With the weights of the checkpoint.
    Original,
    /// With everything before the present stage quantized.
    Quantized,
}

/// The states of all tiles, in memory if they fit and in a temporary file if not: the same numbers either way.
pub(super) struct Streams {
    tiles: Vec<[Held; 2]>,
    spill: Option<Spill>,
}

enum Held {
    Memory(State),
    /// Lengths of the buffers that lie in the tile's place.
    File(Vec<usize>),
}

struct Spill {
    scratch: Scratch,
    /// Bytes of one side of one tile.
    place: u64,
}

impl Streams {
    /// Room for `tiles` tiles of up to `values` values each, within `memory` bytes or in a file.
    pub(super) fn new(tiles: usize, values: usize, memory: u64) -> Result<Self, FormatError> {
        let place = values as u64 * 4;
        let spill = match (2 * tiles as u64).checked_mul(place) {
            Some(all) if all <= memory => None,
            _ => Some(Spill { scratch: Scratch::new()?, place }),
        };
        let empty = || [Held::Memory(State::new()), Held::Memory(State::new())];
        Ok(Self { tiles: (0..tiles).map(|_| empty()).collect(), spill })
    }

    /// Number of tiles.
    pub(super) fn len(&self) -> usize {
        self.tiles.len()
    }

    /// Keeps `state` of tile `tile`.
    pub(super) fn put(&mut self, tile: usize, side: Side, state: State) -> Result<(), FormatError> {
        self.tiles[tile][side as usize] = match &self.spill {
            None => Held::Memory(state),
            Some(spill) => {
                spill.write(tile, side, &state)?;
                Held::File(state.iter().map(Vec::len).collect())
            }
        };
        Ok(())
    }

    /// Gives the state of tile `tile` back.
    pub(super) fn take(&mut self, tile: usize, side: Side) -> Result<State, FormatError> {
        let held = std::mem::replace(&mut self.tiles[tile][side as usize], Held::Memory(State::new()));
        match (held, &self.spill) {
            (Held::File(lengths), Some(spill)) => spill.read(tile, side, &lengths),
            (Held::Memory(state), _) => Ok(state),
            (Held::File(_), None) => Ok(State::new()),
        }
    }
}

impl Spill {
    fn at(&self, tile: usize, side: Side) -> u64 {
        (2 * tile as u64 + side as u64) * self.place
    }

    fn write(&self, tile: usize, side: Side, state: &State) -> Result<(), FormatError> {
        let mut at = self.at(tile, side);
        for values in state {
            let mut bytes = vec![0; values.len() * 4];
            let fields = bytes.as_chunks_mut().0.iter_mut();
            fields.zip(values).for_each(|(field, value)| *field = value.to_le_bytes());
            self.scratch.write_at(at, &bytes)?;
            at += bytes.len() as u64;
        }
        Ok(())
    }

    fn read(&self, tile: usize, side: Side, lengths: &[usize]) -> Result<State, FormatError> {
        let mut at = self.at(tile, side);
        let read = |&length: &usize| {
            let mut bytes = vec![0; length * 4];
            self.scratch.read_at(at, &mut bytes)?;
            at += bytes.len() as u64;
            Ok(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect())
        };
        lengths.iter().map(read).collect()
    }
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
            assert_eq!(streams.spill.is_some(), memory == 0);
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
