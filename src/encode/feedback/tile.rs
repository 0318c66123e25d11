//! Rows side by side: tiles of a few strips, strips of 32 rows.
//!
//! What meets in matrix products is stored `[columns][strips]`, what only the strips' own loops touch strip by strip.
//! No row sees another one, so that its bytes do not depend on its neighbours, nor on how wide tiles are.

use kquant_kernels::codec::{Codec, VectorCodec};
use kquant_kernels::feedback::{Coding, LANES, Lanes};

use super::Feedback;

/// Columns that are rounded before the others hear of their errors.
pub(super) const BATCH: usize = 256;

/// Strips of the widest tiles: products want them wide, memory and threads want them narrow.
const STRIPS: usize = 8;

/// What all tiles of a tensor share.
pub(super) struct Shared<'a> {
    pub(super) feedback: &'a Feedback,
    pub(super) codec: &'static Codec,
    /// Where codes stand for several weights.
    pub(super) vectors: Option<&'static VectorCodec>,
    /// `[n]`: the group of each column.
    pub(super) groups: Vec<usize>,
    /// `[n]`: the group of the column that is rounded k-th.
    pub(super) groups_in_order: Vec<usize>,
}

/// 32 rows.
pub(super) struct Strip {
    /// `[n]`
    pub(super) targets: Vec<Lanes>,
    /// The rows as they are coded now.
    pub(super) coding: Coding,
    /// Their loss under the damped Hessian.
    pub(super) loss: [f64; LANES],
}

/// Rows under way.
pub(super) struct Tile<'a> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) strips: Vec<Strip>,
    /// `ŵ - w`, `[n][strips]`
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
    /// The errors of its coding, `[n]`.
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

/// Strips per tile for so many rows: one tile for each thread if there are less than 8 strips for it, else two or more.
pub(super) fn strips_for(rows: usize) -> usize {
    let each = rows.div_ceil(LANES).div_ceil(rayon::current_num_threads()).max(1);
    let tiles = (each / 4).clamp(1, 2).max(each.div_ceil(STRIPS));
    each.div_ceil(tiles)
}

/// Rows `[rows][n]` as `[n][strips]`, columns in `order`; lanes without a row are zero.
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

/// Up to 32 rows `[rows][n]` as `[n]`.
pub(super) fn to_strip(rows: &[f32], n: usize) -> Vec<Lanes> {
    let mut strip = vec![[0.0; LANES]; n];
    for (r, row) in rows.chunks_exact(n).enumerate() {
        for (x, &weight) in strip.iter_mut().zip(row) {
            x[r] = weight;
        }
    }
    strip
}

/// Strip `s` of `block` `[..][strips]`.
pub(super) fn strip(block: &[Lanes], strips: usize, s: usize) -> Vec<Lanes> {
    block[s..].iter().step_by(strips).copied().collect()
}

/// Writes strip `s` of `block` `[..][strips]`.
pub(super) fn set_strip(block: &mut [Lanes], strips: usize, s: usize, strip: &[Lanes]) {
    for (x, y) in block[s..].iter_mut().step_by(strips).zip(strip) {
        *x = *y;
    }
}
