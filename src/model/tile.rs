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

    /// Puts in the `rows` of the tile that starts at token `first`: the residual stream, `hidden` wide, and what is carried beside it,
    /// `carried` wide.
    pub(super) fn set_rows(&mut self, rows: Vec<f32>, (hidden, carried): (usize, usize), first: usize) {
        let [stream, beside] = split_rows(rows, hidden, carried);
        self.set(&[Slot::Stream, Slot::Carried], vec![stream, beside], hidden, first);
    }

    /// Takes the residual stream out, and beside it what is carried to the next layer.
    pub(super) fn take_rows(&mut self) -> Vec<f32> {
        let [stream, beside] = [Slot::Stream, Slot::Carried].map(|slot| self.take_slot(slot));
        join_rows(stream, &beside, self.tokens)
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

/// Cuts `rows` `[tokens][first + second]` into columns.
pub(super) fn split_rows(rows: Vec<f32>, first: usize, second: usize) -> [Vec<f32>; 2] {
    if second == 0 {
        return [rows, Vec::new()];
    }
    let tokens = rows.len() / (first + second);
    let (mut a, mut b) = (vec![0.0; tokens * first], vec![0.0; tokens * second]);
    let out = a.par_chunks_mut(first).zip(b.par_chunks_mut(second));
    out.zip(rows.par_chunks(first + second)).for_each(|((a, b), row)| {
        a.copy_from_slice(&row[..first]);
        b.copy_from_slice(&row[first..]);
    });
    [a, b]
}

/// Puts the rows of `b` beside those of `a`, `tokens` each.
pub(super) fn join_rows(a: Vec<f32>, b: &[f32], tokens: usize) -> Vec<f32> {
    if b.is_empty() {
        return a;
    }
    let (first, second) = (a.len() / tokens.max(1), b.len() / tokens.max(1));
    let mut out = vec![0.0; a.len() + b.len()];
    let rows = out.par_chunks_mut(first + second).zip(a.par_chunks(first)).zip(b.par_chunks(second));
    rows.for_each(|((out, a), b)| {
        out[..first].copy_from_slice(a);
        out[first..].copy_from_slice(b);
    });
    out
}

/// Returns the index of the first value that is NaN or infinite.
pub(super) fn first_non_finite(values: &[f32]) -> Option<usize> {
    // Whole blocks are tested before single values, since a loop without an early exit can use vectors.
    let bad = |block: &[f32]| block.iter().fold(false, |bad, v| bad | !v.is_finite());
    let block = values.par_chunks(CHECKED).position_first(bad)?;
    (block * CHECKED..values.len()).find(|&at| !values[at].is_finite())
}
