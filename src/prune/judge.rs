//! The KL divergence of final streams from those of the original.

use rayon::prelude::*;

use super::PruneError;
use crate::evaluate::compare_rows;
use crate::model::{Head, Logits, Model};
use crate::text::Chunks;

/// The logits of the original on the scored positions of a tile of whole chunks.
pub(super) struct Judged {
    base: Logits,
    /// Number of scored positions.
    rows: usize,
}

/// The output projection that divergences are measured behind, and the text.
pub(super) struct Judge<'a> {
    head: Head<'a>,
    chunks: &'a Chunks,
}

impl<'a> Judge<'a> {
    /// Creates a judge of streams of `model` over `chunks` that holds the output projection if it fits `memory` bytes.
    pub(super) fn new(model: &'a Model, chunks: &'a Chunks, memory: u64) -> Result<Self, PruneError> {
        Ok(Self { head: model.head(memory)?, chunks })
    }

    /// Computes the original's logits of a tile, out of its final stream `[tokens][hidden]`.
    pub(super) fn base(&self, stream: &[f32], hidden: usize) -> Result<Judged, PruneError> {
        let rows = self.scored(stream, hidden);
        let base = self.head.logits(&self.head.normed(&rows))?;
        Ok(Judged { base, rows: rows.len() / hidden })
    }

    /// Adds the divergences of the scored positions of a tile to `sum`, in their order.
    ///
    /// # Errors
    /// Fails when logits are not finite.
    pub(super) fn add(
        &self,
        judged: &Judged,
        stream: &[f32],
        hidden: usize,
        sum: &mut f64,
    ) -> Result<(), PruneError> {
        let logits = self.head.logits(&self.head.normed(&self.scored(stream, hidden)))?;
        let of = |i| {
            let (mut a, mut b) = (Vec::new(), Vec::new());
            judged.base.row(i, &mut a);
            logits.row(i, &mut b);
            compare_rows(&a, &b, 0).map(|stats| stats.kl)
        };
        let all: Vec<f64> = (0..judged.rows).into_par_iter().map(of).collect::<Result<_, _>>()?;
        all.iter().for_each(|kl| *sum += kl);
        Ok(())
    }

    /// Returns the mean of divergences that add up to `sum`, in nats per token.
    pub(super) fn mean(&self, sum: f64) -> f64 {
        sum / self.chunks.tokens_scored().max(1) as f64
    }

    /// Returns the rows of the scored positions of a tile of whole chunks.
    fn scored(&self, stream: &[f32], hidden: usize) -> Vec<f32> {
        let scored = self.chunks.scored();
        let of = |chunk: &[f32]| chunk[scored.start * hidden..scored.end * hidden].to_vec();
        stream.chunks_exact(self.chunks.context() * hidden).flat_map(of).collect()
    }
}
