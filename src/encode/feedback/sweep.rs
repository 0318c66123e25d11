//! Sweeps over the columns: scales, or codes, are improved block by block, each at the gradient that the changes before
//! it left.

use kquant_kernels::feedback::{
    Descent, Grid, LANES, Lanes, Superblock, Tiles, descend, descend_vectors, group_sums, refit, rescale,
    values,
};
use kquant_kernels::linalg::{View, ViewMut, gemm};

use super::tile::{BATCH, Shared, Strip, Tile, set_strip, strip};

impl Tile<'_> {
    /// Fits `d`, `dmin`, integer scales and offsets of every superblock to the present codes.
    pub(super) fn fit_scales(&mut self) {
        let (n, size) = (self.shared.feedback.columns, self.shared.codec.superblock);
        let span = size.max(BATCH / size * size);
        for first in (0..n).step_by(span) {
            let span = Span::new(self.shared, first, span.min(n - first));
            let blocks = span.blocks();
            self.improve(&span, |span, strip, gradient, errors| span.fit(&blocks, strip, gradient, errors));
        }
    }

    /// Replaces every code by the best one with all others fixed.
    pub(super) fn improve_codes(&mut self) {
        let (n, shared) = (self.shared.feedback.columns, self.shared);
        let grids: Vec<_> = self.strips.iter().map(|strip| strip.coding.grid(shared.codec)).collect();
        for first in (0..n).step_by(BATCH) {
            let span = Span::new(shared, first, BATCH.min(n - first));
            let hessian = &shared.feedback.hessian[first * n + first..];
            let h = Tiles::new(hessian, n, span.columns, span.columns);
            let mut grids = grids.iter();
            self.improve(&span, |span, strip, gradient, errors| {
                // There is one call per strip, in order.
                if let Some(grid) = grids.next() {
                    span.descend(&h, strip, grid, gradient, errors);
                }
            });
        }
    }

    /// Computes `e H'` at the columns of `span` and hands each strip to `change`, with its gradient and errors there.
    fn improve(&mut self, span: &Span, mut change: impl FnMut(&Span, &mut Strip, Vec<Lanes>, &mut [Lanes])) {
        let (strips, n, first) = (self.strips.len(), self.shared.feedback.columns, span.first);
        let mut gradient = vec![[0.0; LANES]; span.columns * strips];
        gemm(
            ViewMut::row_major(gradient.as_flattened_mut(), strips * LANES),
            View::row_major(&self.shared.feedback.hessian[first * n..][..span.columns * n], n),
            View::row_major(self.errors.as_flattened(), strips * LANES),
            1.0,
            0.0,
        );
        let block = &mut self.errors[first * strips..][..span.columns * strips];
        for (s, own) in self.strips.iter_mut().enumerate() {
            let mut errors = strip(block, strips, s);
            change(span, own, strip(&gradient, strips, s), &mut errors);
            set_strip(block, strips, s, &errors);
        }
    }
}

/// Columns whose gradient is computed together: one superblock or several.
struct Span<'a> {
    shared: &'a Shared<'a>,
    first: usize,
    columns: usize,
}

/// The parts of the Hessian that a superblock is fitted with.
struct Block {
    /// The superblock's block on the diagonal of H.
    h: Tiles,
    /// The [`group_sums`] of `h`.
    sums: Tiles,
    /// The block of H with the rows of the span's later superblocks and the columns of this one.
    later: Tiles,
}

impl<'a> Span<'a> {
    fn new(shared: &'a Shared<'a>, first: usize, columns: usize) -> Self {
        Self { shared, first, columns }
    }

    /// Returns the parts of the Hessian that the span's superblocks are fitted with.
    fn blocks(&self) -> Vec<Block> {
        let (size, group) = (self.shared.codec.superblock, self.shared.codec.group);
        let n = self.shared.feedback.columns;
        let end = self.first + self.columns;
        let block = |first: usize| {
            let hessian = &self.shared.feedback.hessian[first * n + first..];
            let later = end - first - size;
            Block {
                h: Tiles::new(hessian, n, size, size),
                sums: group_sums(hessian, n, size, group),
                later: Tiles::new(&hessian[(size * n).min(hessian.len())..], n, later, size),
            }
        };
        (self.first..end).step_by(size).map(block).collect()
    }

    /// Fits the superblocks one after the other; `gradient` and `errors` are for the span's columns.
    fn fit(&self, blocks: &[Block], strip: &mut Strip, mut gradient: Vec<Lanes>, errors: &mut [Lanes]) {
        let codec = self.shared.codec;
        let (size, groups) = (codec.superblock, codec.superblock / codec.group);
        let mut changes = vec![[0.0; LANES]; size];
        for (b, Block { h, sums, later: later_rows }) in blocks.iter().enumerate() {
            let (start, first) = (b * size, self.first + b * size);
            let (own, later) = gradient[start..].split_at_mut(size);
            let superblock = first / size;
            let mut block = Superblock {
                h,
                sums,
                gradient: own,
                codes: &strip.coding.codes[first..first + size],
                d: &mut strip.coding.d[superblock],
                dmin: &mut strip.coding.dmin[superblock],
                scales: &mut strip.coding.scales[superblock * groups..][..groups],
                offsets: &mut strip.coding.offsets[superblock * groups..][..groups],
            };
            let mut gain = [0.0; LANES];
            for gains in [refit(codec, &mut block), rescale(codec, &mut block), refit(codec, &mut block)] {
                gain.iter_mut().zip(gains).for_each(|(gain, g)| *gain += f64::from(g));
            }
            values(codec, &block, &mut changes);
            let targets = &strip.targets[first..first + size];
            for ((change, error), target) in changes.iter_mut().zip(&mut errors[start..]).zip(targets) {
                for l in 0..LANES {
                    let new = change[l] - target[l];
                    change[l] = new - error[l];
                    error[l] = new;
                }
            }
            strip.loss.iter_mut().zip(gain).for_each(|(loss, gain)| *loss += gain);
            later_rows.add_product(0, &changes, later);
        }
    }

    /// Improves the codes; `gradient` and `errors` are for the span's columns.
    fn descend(&self, h: &Tiles, strip: &mut Strip, grid: &Grid, gradient: Vec<Lanes>, errors: &mut [Lanes]) {
        let columns = self.first..self.first + self.columns;
        let mut block = Descent {
            h,
            gradient: &gradient,
            grid,
            groups: &self.shared.groups[columns.clone()],
            codes: &mut strip.coding.codes[columns],
            errors,
        };
        let gain = match self.shared.vectors {
            Some(vectors) => descend_vectors(vectors, &mut block),
            None => descend(self.shared.codec, &mut block),
        };
        strip.loss.iter_mut().zip(gain).for_each(|(loss, gain)| *loss += f64::from(gain));
    }
}
