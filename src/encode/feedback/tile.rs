//! Rows side by side: tiles hold a few strips, strips hold 32 rows.
//!
//! Operands of matrix products are stored `[columns][strips]`; what only the loops of a strip touch is stored strip by
//! strip. No row depends on another, so its bytes depend neither on its neighbours nor on the width of tiles.

use kquant_kernels::codec::{Codec, VectorCodec};
use kquant_kernels::feedback::{Coding, LANES, Lanes};

use super::Feedback;

/// Number of columns that are rounded before their errors are applied to the later columns.
pub(super) const BATCH: usize = 256;

/// Number of strips of the widest tiles: products are faster with wide tiles, memory and threads are better used with
/// narrow ones.
const STRIPS: usize = 8;

/// What all tiles of a tensor share.
pub(super) struct Shared<'a> {
    pub(super) feedback: &'a Feedback,
    pub(super) codec: &'static Codec,
    /// The codec of types whose codes stand for several weights.
    pub(super) vectors: Option<&'static VectorCodec>,
    /// Group of each column, `[n]`.
    pub(super) groups: Vec<usize>,
    /// Group of the column that is rounded k-th, `[n]`.
    pub(super) groups_in_order: Vec<usize>,
}

/// A strip of 32 rows.
pub(super) struct Strip {
    /// Values to encode, `[n]`.
    pub(super) targets: Vec<Lanes>,
    /// The present coding of the rows.
    pub(super) coding: Coding,
    /// Loss of the present coding under the damped Hessian.
    pub(super) loss: [f64; LANES],
}

/// The rows of a tile under way.
pub(super) struct Tile<'a> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) strips: Vec<Strip>,
    /// Errors `ŵ - w`, `[n][strips]`.
    pub(super) errors: Vec<Lanes>,
}

impl<'a> Shared<'a> {
    pub(super) fn new(feedback: &'a Feedback, codec: &'static Codec) -> Self {
        let groups: Vec<usize> = (0..feedback.columns).map(|j| j / codec.group).collect();
        let groups_in_order = feedback.order.iter().map(|&j| groups[j]).collect();
        Self { feedback, codec, vectors: VectorCodec::of(codec.block), groups, groups_in_order }
    }
}

impl Strip {
    /// Returns the errors of the strip's coding, `[n]`.
    pub(super) fn errors(&self, codec: &Codec) -> Vec<Lanes> {
        let mut errors = vec![[0.0; LANES]; self.targets.len()];
        self.coding.decode(codec, &mut errors);
        for (error, target) in errors.iter_mut().zip(&self.targets) {
            for l in 0..LANES {
                error[l] -= target[l];
            }
        }
        errors
    }
}

/// Returns the number of strips per tile for `rows` rows: one tile for each thread if each has less than 8 strips, else
/// two or more.
pub(super) fn strips_for(rows: usize) -> usize {
    let each = rows.div_ceil(LANES).div_ceil(rayon::current_num_threads()).max(1);
    let tiles = (each / 4).clamp(1, 2).max(each.div_ceil(STRIPS));
    each.div_ceil(tiles)
}

/// Transposes rows `[rows][n]` to `[n][strips]`, with columns in `order`; lanes without a row are zero.
pub(super) fn to_tile(rows: &[f32], order: &[usize], strips: usize) -> Vec<Lanes> {
    let n = order.len();
    let mut tile = vec![[0.0; LANES]; n * strips];
    for (r, row) in rows.chunks_exact(n).enumerate() {
        for (x, &j) in tile[r / LANES..].iter_mut().step_by(strips).zip(order) {
            x[r % LANES] = row[j];
        }
    }
    tile
}

/// Transposes up to 32 rows `[rows][n]` to a strip `[n]`.
pub(super) fn to_strip(rows: &[f32], n: usize) -> Vec<Lanes> {
    let mut strip = vec![[0.0; LANES]; n];
    for (r, row) in rows.chunks_exact(n).enumerate() {
        for (x, &weight) in strip.iter_mut().zip(row) {
            x[r] = weight;
        }
    }
    strip
}

/// Returns strip `s` of `block` `[..][strips]`.
pub(super) fn strip(block: &[Lanes], strips: usize, s: usize) -> Vec<Lanes> {
    block[s..].iter().step_by(strips).copied().collect()
}

/// Writes strip `s` of `block` `[..][strips]`.
pub(super) fn set_strip(block: &mut [Lanes], strips: usize, s: usize, strip: &[Lanes]) {
    for (x, y) in block[s..].iter_mut().step_by(strips).zip(strip) {
        *x = *y;
    }
}
