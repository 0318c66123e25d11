//! A matrix in the layout that the inner loop of products reads.
//!
//! On a layer of 4096 x 11008 (2 threads with AVX-512) half of the encoder's time is the f32 tile, and an eighth
//! copies panels of errors. Tiles of 8 strips instead of 4 and batches of 256 columns instead of 128 copy less.

use std::ops::Range;

use super::{Lanes, STEP};
use crate::isa::Isa;
use crate::linalg::tile_on;

/// A copy of a block of a matrix in tiles of 4 rows, `[rows / 4][columns][4]`. It is made once and used for many
/// strips of 32 weight rows.
#[derive(Debug, Clone, Default)]
pub struct Tiles {
    columns: usize,
    tiles: Vec<[f32; STEP]>,
}

impl Tiles {
    /// Copies the block of `rows` rows and `columns` columns that begins at `matrix[0]`; rows of `matrix` are
    /// `stride` apart.
    ///
    /// # Panics
    ///
    /// When `rows` is no multiple of [`STEP`], or `matrix` is too short.
    pub fn new(matrix: &[f32], stride: usize, rows: usize, columns: usize) -> Self {
        assert!(rows.is_multiple_of(STEP), "rows come in multiples of {STEP}, not {rows}");
        let mut tiles = vec![[0.0; STEP]; rows / STEP * columns];
        for (step, tile) in tiles.chunks_exact_mut(columns.max(1)).enumerate() {
            for i in 0..STEP {
                let row = &matrix[(step * STEP + i) * stride..][..columns];
                for (tile, &x) in tile.iter_mut().zip(row) {
                    tile[i] = x;
                }
            }
        }
        Self { columns, tiles }
    }

    /// Returns element `(i, j)`.
    pub(super) fn at(&self, i: usize, j: usize) -> f32 {
        self.tiles[i / STEP * self.columns + j][i % STEP]
    }

    /// Computes `out_i += Σ_j m[i][j] x_j` over the given columns for the rows of tile `step`, as one chain in the
    /// order of j.
    pub(super) fn add_step(&self, step: usize, columns: Range<usize>, x: &[Lanes], out: &mut [Lanes; STEP]) {
        tile_on(Isa::best(), &self.tiles[step * self.columns..][columns], x, out);
    }

    /// Computes `out_i += Σ_j m[i][first + j] x_j` for all rows, as one chain in the order of j. `x` is any number of
    /// columns.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit.
    pub fn add_product(&self, first: usize, x: &[Lanes], out: &mut [Lanes]) {
        let (out, _) = out.as_chunks_mut::<STEP>();
        assert!(out.len() * self.columns == self.tiles.len(), "{} steps of rows", out.len());
        for (step, out) in out.iter_mut().enumerate() {
            self.add_step(step, first..first + x.len(), x, out);
        }
    }
}
