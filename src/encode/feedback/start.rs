//! The codes that rows start from, found by the search for scales.

use kquant_kernels::codec;
use kquant_kernels::codec::{Codec, Coded, Magnitude, SearchOptions, VectorCodec};
use kquant_kernels::feedback::{Coding, LANES};
use kquant_kernels::isa::Isa;

use super::{Feedback, Start};

/// The weights of columns' errors in a start.
pub(super) struct Weights<'a> {
    importance: &'a [f32],
    pivots: Vec<f32>,
}

impl<'a> Weights<'a> {
    pub(super) fn new(feedback: &'a Feedback) -> Self {
        Self { importance: &feedback.importance, pivots: feedback.pivots() }
    }

    /// Returns the codings of `targets` `[rows][n]`, for any number of rows, as strips of 32.
    pub(super) fn search(&self, codec: &Codec, start: Start, targets: &[f32]) -> Vec<Coding> {
        let n = self.importance.len();
        let (weights, magnitude) = match start {
            Start::Importance => (self.importance, Magnitude::Ignored),
            Start::Magnitude => (self.importance, Magnitude::Everywhere),
            Start::Pivot => (&self.pivots[..], Magnitude::Ignored),
            Start::PivotMagnitude => (&self.pivots[..], Magnitude::Everywhere),
        };
        // Rounding improves the codes far more than the choice of search does; ggml's search would take most of the time.
        let options = SearchOptions { magnitude, beside_ggml: false };
        let is_scalar = VectorCodec::of(codec.block).is_none();
        let search = |row: &[f32]| {
            if is_scalar {
                codec::search(codec, row, Some(weights), options)
            } else {
                encoded(codec, row, weights)
            }
        };
        let strips = targets.chunks(LANES * n);
        strips
            .map(|rows| Coding::of_rows(codec, n, &rows.chunks_exact(n).map(search).collect::<Vec<_>>()))
            .collect()
    }
}

/// Encodes a row with the type's own encoder, as there is no other search for codes that stand for several weights.
fn encoded(codec: &Codec, row: &[f32], weights: &[f32]) -> Coded {
    let Some(encode) = codec.block.encode else { return Coded::zeros(codec, row.len()) };
    let mut bytes = vec![0; row.len() / codec.block.elements * codec.block.bytes];
    encode(Isa::current(), row, Some(weights), &mut bytes);
    codec.read(&bytes, row.len())
}
