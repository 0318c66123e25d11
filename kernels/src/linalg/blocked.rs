//! The cutting of products into blocks, tiles and panels, which all of them share.
//!
//! None of the cuts shows in the result: an element is one chain over the inputs, whose sum waits in memory between
//! blocks. An input is one row of packed elements, each one f32 or a pair of bf16.

use std::ops::Range;

use super::PANEL;
use super::tile::{TILE, tile_on};
use super::view::{View, ViewMut};
use crate::isa::Isa;

/// The arithmetic of a product: its elements, and the inner loop over them.
pub(super) trait Arithmetic {
    /// The element type of both factors.
    type Element: Copy + Default;

    /// Prepares copied elements of the left factor.
    fn prepare(&self, a: &mut [Self::Element]);

    /// Adds a tile's products to `sums`: `a` `[inputs][M]`, `b` `[inputs][32]`.
    fn tile<const M: usize>(
        &self,
        a: &[[Self::Element; M]],
        b: &[[Self::Element; PANEL]],
        sums: &mut [[f32; PANEL]; M],
    );
}

/// Arithmetic in f32, with the left factor multiplied by `alpha`.
pub(super) struct F32 {
    pub(super) isa: Isa,
    pub(super) alpha: f32,
}

impl Arithmetic for F32 {
    type Element = f32;

    fn prepare(&self, a: &mut [f32]) {
        if self.alpha != 1.0 {
            a.iter_mut().for_each(|a| *a *= self.alpha);
        }
    }

    fn tile<const M: usize>(&self, a: &[[f32; M]], b: &[[f32; PANEL]], sums: &mut [[f32; PANEL]; M]) {
        tile_on(self.isa, a, b, sums);
    }
}

/// The inputs of one block, such that a block of a panel (160 KiB) and of a tile stay in the L2 cache. Blocks of 256
/// or 384 inputs were slower, and so were 512 to 768 pairs of bf16.
pub(super) const INPUTS: usize = 1280;

/// The rows of one block, which are whole tiles and bound the memory of their copy. Blocks of 264 rows were slower in
/// bf16.
pub(super) const ROWS: usize = 43 * TILE;

/// The right factor of a product, `[inputs][columns]`.
pub(super) trait Panels<T> {
    /// Returns rows `inputs` of the 32 columns of panel `panel`, `[inputs][32]`; the last panel is padded. `copy` is
    /// memory for factors that are laid out in another way.
    fn panel<'a>(
        &'a self,
        panel: usize,
        inputs: Range<usize>,
        copy: &'a mut Vec<[T; PANEL]>,
    ) -> &'a [[T; PANEL]];
}

/// A plain matrix is copied panel by panel.
impl Panels<f32> for View<'_> {
    fn panel<'a>(
        &'a self,
        panel: usize,
        inputs: Range<usize>,
        copy: &'a mut Vec<[f32; PANEL]>,
    ) -> &'a [[f32; PANEL]] {
        copy.resize(inputs.len(), [0.0; PANEL]);
        self.transposed().interleave(panel * PANEL, inputs.start, copy);
        copy
    }
}

/// The product `out = a · b + beta * out`, or the part of it that is on and right of the diagonal.
pub(super) struct BlockedProduct<'a, A: Arithmetic, B> {
    pub(super) arithmetic: A,
    /// The left factor, `[rows][inputs]`.
    pub(super) a: View<'a, A::Element>,
    pub(super) b: &'a B,
    pub(super) beta: f32,
    /// True if elements left of the diagonal are left alone.
    pub(super) upper: bool,
}

/// A block of rows and inputs.
struct ProductBlock {
    rows: Range<usize>,
    inputs: Range<usize>,
    beta: f32,
}

impl<A: Arithmetic, B: Panels<A::Element>> BlockedProduct<'_, A, B> {
    /// Computes `out` `[rows][columns]`.
    pub(super) fn write(&self, mut out: ViewMut) {
        let (rows, inputs) = (self.a.shape.rows, self.a.shape.columns);
        let (mut tiles, mut panel) = (Vec::new(), Vec::new());
        for row in (0..rows).step_by(ROWS) {
            // An empty sum is one block too, so that `beta` is applied.
            for first in (0..inputs.max(1)).step_by(INPUTS) {
                let block = ProductBlock {
                    rows: row..rows.min(row + ROWS),
                    inputs: first..inputs.min(first + INPUTS),
                    beta: if first == 0 { self.beta } else { 1.0 },
                };
                self.block(&block, &mut out, &mut tiles, &mut panel);
            }
        }
    }

    fn block(
        &self,
        block: &ProductBlock,
        out: &mut ViewMut,
        copy: &mut Vec<A::Element>,
        panel: &mut Vec<[A::Element; PANEL]>,
    ) {
        let inputs = block.inputs.len();
        self.copy_tiles(block, copy);
        for p in 0..out.shape.columns.div_ceil(PANEL) {
            let b = self.b.panel(p, block.inputs.clone(), panel);
            let end = if self.upper { block.rows.end.min((p + 1) * PANEL) } else { block.rows.end };
            for (row, height) in tiles(block.rows.clone()) {
                if row >= end {
                    break;
                }
                let a = &copy[(row - block.rows.start) * inputs..][..height * inputs];
                match height {
                    TILE => self.tile::<TILE>(block, out, a, b, (row, p * PANEL)),
                    SMALL_TILE => self.tile::<SMALL_TILE>(block, out, a, b, (row, p * PANEL)),
                    _ => self.tile::<1>(block, out, a, b, (row, p * PANEL)),
                }
            }
        }
    }

    /// Copies the block of `a` one tile after the other, `[inputs][height]` each.
    fn copy_tiles(&self, block: &ProductBlock, copy: &mut Vec<A::Element>) {
        let inputs = block.inputs.len();
        copy.resize(block.rows.len() * inputs, A::Element::default());
        for (row, height) in tiles(block.rows.clone()) {
            let tile = &mut copy[(row - block.rows.start) * inputs..][..height * inputs];
            let first = block.inputs.start;
            match height {
                TILE => self.a.interleave::<TILE>(row, first, tile.as_chunks_mut().0),
                SMALL_TILE => self.a.interleave::<SMALL_TILE>(row, first, tile.as_chunks_mut().0),
                _ => self.a.interleave::<1>(row, first, tile.as_chunks_mut().0),
            }
        }
        self.arithmetic.prepare(copy);
    }

    /// Adds the products of a tile and a panel to the `M` rows and up to 32 columns of `out` that start at `at`.
    fn tile<const M: usize>(
        &self,
        block: &ProductBlock,
        out: &mut ViewMut,
        a: &[A::Element],
        b: &[[A::Element; PANEL]],
        (row, column): (usize, usize),
    ) {
        let width = PANEL.min(out.shape.columns - column);
        let mut sums = [[0.0; PANEL]; M];
        if block.beta != 0.0 {
            for (r, sums) in sums.iter_mut().enumerate() {
                out.read(row + r, column, &mut sums[..width]);
                if block.beta != 1.0 {
                    sums.iter_mut().for_each(|sum| *sum *= block.beta);
                }
            }
        }
        self.arithmetic.tile::<M>(a.as_chunks().0, b, &mut sums);
        for (r, sums) in sums.iter().enumerate() {
            let left = if self.upper { (row + r).saturating_sub(column).min(width) } else { 0 };
            out.write(row + r, column + left, &sums[left..width]);
        }
    }
}

/// The rows of the tiles that cover what is left under a whole tile.
const SMALL_TILE: usize = 4;

/// Returns first row and height of the tiles that cover `rows`: as many of [`TILE`] as fit, then smaller ones.
fn tiles(rows: Range<usize>) -> impl Iterator<Item = (usize, usize)> {
    let mut next = rows.start;
    std::iter::from_fn(move || {
        let height = match rows.end - next {
            0 => return None,
            left if left >= TILE => TILE,
            left if left >= SMALL_TILE => SMALL_TILE,
            _ => 1,
        };
        next += height;
        Some((next - height, height))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_the_rows() {
        assert_eq!(
            tiles(5..5 + 31).collect::<Vec<_>>(),
            [(5, 12), (17, 12), (29, 4), (33, 1), (34, 1), (35, 1)]
        );
        assert_eq!(tiles(3..3).count(), 0);
    }
}
