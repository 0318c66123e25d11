//! A matrix as the inner loop of products reads it.

use std::ops::Range;

use super::{Lanes, STEP};
use crate::isa::Isa;
use crate::linalg::tile_on;

/// A copy of a block of a matrix in tiles of 4 rows, `[rows / 4][columns][4]`: made once, used for many strips of rows.
#[derive(Debug, Clone, Default)]
pub struct Tiles {
    columns: usize,
    tiles: Vec<[f32; STEP]>,
}

impl Tiles {
    /// `rows` x `columns` of the matrix that begins at `matrix[0]`, with rows of `stride`; rows in multiples of [`STEP`].
    ///
    /// # Panics
    ///
    /// When `matrix` is too short.
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

    /// Element `(i, j)`.
    pub(super) fn at(&self, i: usize, j: usize) -> f32 {
        self.tiles[i / STEP * self.columns + j][i % STEP]
    }

    /// `out_i += Σ_j m[i][j] x_j` over the given columns, one chain in order, for the rows of tile `step`.
    pub(super) fn add_step(&self, step: usize, columns: Range<usize>, x: &[Lanes], out: &mut [Lanes; STEP]) {
        tile_on(Isa::best(), &self.tiles[step * self.columns..][columns], x, out);
    }

    /// `out_i += Σ_j m[i][first + j] x_j`, one chain over j in order: `x` any number of columns, `out` all rows.
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
