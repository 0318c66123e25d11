//! The buffers of one tile of chunks on its way through one layer.

use std::mem;

use rayon::prelude::*;

use crate::graph::{SLOTS, Slot};
use crate::model::ModelError;

/// Number of activations that one task checks.
const CHECKED: usize = 1 << 12;

/// The buffers of a tile of whole chunks, `[tokens][width]` each, which keep their memory from layer to layer.
pub(super) struct Tile {
    buffers: [Vec<f32>; SLOTS],
    tokens: usize,
    /// Tokens per chunk.
    context: usize,
    /// Number of the tile's first token in the text, for messages.
    first: usize,
}

impl Tile {
    pub(super) fn new(context: usize) -> Self {
        Self { buffers: [const { Vec::new() }; SLOTS], tokens: 0, context, first: 0 }
    }

    /// Puts in the residual stream `[tokens][hidden]` of the tile that starts at token `first`.
    pub(super) fn set_stream(&mut self, stream: Vec<f32>, hidden: usize, first: usize) {
        self.set(&[Slot::Stream], vec![stream], hidden, first);
    }

    /// Takes the residual stream out.
    pub(super) fn take_stream(&mut self) -> Vec<f32> {
        self.take_slot(Slot::Stream)
    }

    /// Puts in the contents of `slots`, of which the stream must be one, of the tile that starts at token `first`.
    pub(super) fn set(&mut self, slots: &[Slot], state: Vec<Vec<f32>>, hidden: usize, first: usize) {
        for (&slot, values) in slots.iter().zip(state) {
            self.set_slot(slot, values);
        }
        self.tokens = self.buffer(Slot::Stream).len() / hidden;
        self.first = first;
    }

    /// Takes out the contents of `slots`.
    pub(super) fn take(&mut self, slots: &[Slot]) -> Vec<Vec<f32>> {
        slots.iter().map(|&slot| self.take_slot(slot)).collect()
    }

    /// Puts `values` into `slot`.
    pub(super) fn set_slot(&mut self, slot: Slot, values: Vec<f32>) {
        self.buffers[slot as usize] = values;
    }

    /// Takes out the content of `slot` and leaves it empty.
    pub(super) fn take_slot(&mut self, slot: Slot) -> Vec<f32> {
        mem::take(&mut self.buffers[slot as usize])
    }

    /// Returns the width of the content of `slot`.
    pub(super) fn width(&self, slot: Slot) -> usize {
        self.buffer(slot).len() / self.tokens.max(1)
    }

    /// Returns the content of `slot`, `[tokens][width]`.
    pub(super) fn buffer(&self, slot: Slot) -> &[f32] {
        &self.buffers[slot as usize]
    }

    /// Returns the content of `slot`, `[tokens][width]`, for changes in place.
    pub(super) fn buffer_mut(&mut self, slot: Slot) -> &mut [f32] {
        &mut self.buffers[slot as usize]
    }

    /// Returns the number of tokens of the tile.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Returns the tokens per chunk.
    pub(super) fn context(&self) -> usize {
        self.context
    }

    /// Lends the buffer of `slot` to `f` for writing, while the others can be read.
    pub(super) fn with_output(&mut self, slot: Slot, f: impl FnOnce(&Tile, &mut Vec<f32>)) {
        let mut out = self.take_slot(slot);
        f(self, &mut out);
        self.set_slot(slot, out);
    }

    /// Checks that the output of the linear map with the weight `tensor` in `slot` is finite, so that an overflow is found
    /// where it happens.
    pub(super) fn check(&self, slot: Slot, tensor: &str) -> Result<(), ModelError> {
        let values = self.buffer(slot);
        match first_non_finite(values) {
            None => Ok(()),
            Some(at) => Err(ModelError::Activation {
                tensor: tensor.to_owned(),
                token: self.first + at / self.width(slot),
                value: values[at],
            }),
        }
    }
}

/// Returns the index of the first value that is NaN or infinite.
pub(super) fn first_non_finite(values: &[f32]) -> Option<usize> {
    // Whole blocks are tested before single values, since a loop without an early exit can use vectors.
    let bad = |block: &[f32]| block.iter().fold(false, |bad, v| bad | !v.is_finite());
    let block = values.par_chunks(CHECKED).position_first(bad)?;
    (block * CHECKED..values.len()).find(|&at| !values[at].is_finite())
}
