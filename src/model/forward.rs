//! The forward pass over all layers for a group of chunks.

use std::sync::atomic::{AtomicBool, Ordering};

use super::steps::Positions;
use super::tile::Tile;
use super::{Model, ModelError};
use crate::context::Progress;
use crate::graph::Slot;
use crate::model::Observer;
use crate::text::{BLOCK_ROWS, chunks_per_block};

/// Hidden states after the last layer, before the final norm, in tiles of whole chunks.
pub struct Hidden {
    /// Hidden states of each tile, `[tokens][hidden]`.
    tiles: Vec<Vec<f32>>,
    hidden: usize,
}

impl Hidden {
    /// Returns the states of rows `first..first + rows`, counted over all chunks; the range must lie in one chunk.
    pub fn rows(&self, first: usize, rows: usize) -> &[f32] {
        let mut at = first * self.hidden;
        for tile in &self.tiles {
            if at < tile.len() {
                return &tile[at..at + rows * self.hidden];
            }
            at -= tile.len();
        }
        &[]
    }
}

/// The parameters of a forward pass; none of them changes a bit of the result, except `context`.
pub struct Pass<'a> {
    /// Tokens per chunk; chunks do not see each other.
    pub context: usize,
    /// Bytes for a layer, the hidden states and the buffers.
    pub memory: u64,
    /// Flag that is set from outside to stop early.
    pub cancel: &'a AtomicBool,
    /// Receiver of the progress, as layers times tokens done since the start of the run.
    pub progress: &'a dyn Progress,
}

impl Model {
    /// Returns the number of chunks that fit `pass.memory` at a time, next to one layer, while hidden states of `models`
    /// models are held.
    ///
    /// # Errors
    /// Fails when the context is too long, or not even one block of chunks fits.
    pub fn chunks_at_once(&self, pass: &Pass, models: u64) -> Result<usize, ModelError> {
        if pass.context > self.hyper.context {
            return Err(ModelError::Context { asked: pass.context, longest: self.hyper.context });
        }
        let unit = chunks_per_block(pass.context);
        let unit_bytes = models * (unit * pass.context * self.hyper.row_width() * 4) as u64;
        let fixed = self.layer_bytes() + (self.tile_chunks(pass) * pass.context) as u64 * self.token_bytes();
        match pass.memory.checked_sub(fixed).map(|left| left / unit_bytes) {
            Some(units) if units > 0 => Ok(units as usize * unit),
            _ => Err(ModelError::Memory { needed: fixed + unit_bytes }),
        }
    }

    /// Returns the bytes of a tile's buffers per token: all slots at their widths, and those of attention and of recurrences twice
    /// for their copies.
    pub(super) fn token_bytes(&self) -> u64 {
        let twice = [Slot::Query, Slot::Key, Slot::Value, Slot::Attended, Slot::Convolved, Slot::Scanned]
            .map(|slot| self.widths[slot as usize]);
        4 * (self.widths.iter().sum::<usize>() + twice.iter().sum::<usize>()) as u64
    }

    /// Returns the widths of the stream and of what is carried beside it into layer `layer`.
    pub(super) fn row_widths(&self, layer: usize) -> (usize, usize) {
        (self.hyper.hidden, self.hyper.carried_width(layer))
    }

    /// Returns the chunks of a tile: a few blocks for every thread, within half of the memory that a layer leaves. At least
    /// one block counts in any case, so that more memory never requires more than it adds.
    fn tile_chunks(&self, pass: &Pass) -> usize {
        let unit = chunks_per_block(pass.context);
        let wanted = (4 * rayon::current_num_threads() * BLOCK_ROWS / (unit * pass.context)).max(1);
        let left = pass.memory.saturating_sub(self.layer_bytes());
        let affordable = left / 2 / (self.token_bytes() * (unit * pass.context) as u64).max(1);
        unit * wanted.min(affordable.max(1) as usize)
    }

    /// Runs `tokens` (`[chunks][context]`) through all layers; `observer` sees the input of each linear map. `done_before`
    /// is the work done before, for the progress.
    ///
    /// # Errors
    /// Fails when weights cannot be read, an activation overflows, the observer fails, or the run is cancelled.
    pub fn hidden(
        &self,
        tokens: &[u32],
        pass: &Pass,
        mut observer: Option<&mut dyn Observer>,
        done_before: u64,
    ) -> Result<Hidden, ModelError> {
        let tile_tokens = self.tile_chunks(pass) * pass.context;
        let mut tiles = tokens
            .chunks(tile_tokens)
            .map(|tokens| self.embed(tokens, 0, pass.context))
            .collect::<Result<Vec<_>, _>>()?;
        let ropes = self.ropes(pass.context)?;
        let mut tile = Tile::new(pass.context);
        let mut done = done_before;
        for number in 0..self.hyper.layers {
            let steps = self.layer_steps(number)?;
            for (i, stream) in tiles.iter_mut().enumerate() {
                if pass.cancel.load(Ordering::Relaxed) {
                    return Err(ModelError::Interrupted);
                }
                tile.set_rows(std::mem::take(stream), self.row_widths(number), i * tile_tokens);
                let tokens = tile.tokens();
                let ran = steps.run(&mut tile, &mut Positions::of_chunks(&ropes), &mut observer);
                *stream = tile.take_rows();
                ran?;
                done += tokens as u64;
                pass.progress.advance(done, &format!("layer {number}"));
            }
            if let Some(observer) = &mut observer {
                observer.end_of_layer()?;
            }
        }
        Ok(Hidden { tiles, hidden: self.hyper.hidden })
    }
}
