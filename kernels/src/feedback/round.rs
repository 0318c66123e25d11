//! Sequential rounding: every column's error is made up for by the columns after it.

use super::coding::{Grid, position, value};
use super::level::{Levels, with_levels};
use super::serial::{Column, serial};
use super::{LANES, Lanes, Tiles};
use crate::codec::Codec;
use crate::isa::per_isa;

/// What a batch of columns is rounded on, and what comes of it.
#[derive(Debug)]
pub struct Rounded<'a> {
    /// The grids of the rows.
    pub grid: &'a Grid,
    /// `[columns]`: which group a column is in.
    pub groups: &'a [usize],
    /// `[columns]`: what the columns should be.
    pub targets: &'a [Lanes],
    /// `[columns]`: receives the codes.
    pub codes: &'a mut [[u8; LANES]],
    /// `[columns]`: receives `ŵ - w`.
    pub errors: &'a mut [Lanes],
    /// `[columns]`: receives what the rounding itself lost, `ŵ - t`.
    pub residuals: &'a mut [Lanes],
}

per_isa! {
    /// Rounds columns in order, each to the code nearest to `t_k = x_k - Σ_{j<k} e_j feedback[k][j]`.
    ///
    /// Of `feedback`, square, the part below the diagonal is read; `x` `[columns]` is the targets less the feedback of
    /// the batches before. LDLQ of QuIP (arXiv 2307.13304), which rounds as GPTQ does.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit.
    pub fn round, round_on(
        codec: &Codec,
        feedback: &Tiles,
        x: &[Lanes],
        batch: &mut Rounded,
    ) {
        let Rounded { grid, groups, targets, codes, errors, residuals } = batch;
        with_levels!(codec.levels, levels => {
            let mut nearest = Nearest { levels, grid, groups, targets, codes, errors, residuals };
            serial(feedback, x, &mut nearest);
        });
    }
}

struct Nearest<'a, L> {
    levels: L,
    grid: &'a Grid,
    groups: &'a [usize],
    targets: &'a [Lanes],
    codes: &'a mut [[u8; LANES]],
    errors: &'a mut [Lanes],
    residuals: &'a mut [Lanes],
}

impl<L: Levels> Column for Nearest<'_, L> {
    #[inline(always)]
    fn settle(&mut self, k: usize, x: &Lanes) -> Lanes {
        let group = self.groups[k];
        let (codes, level) = self.levels.nearest(&position(x, self.grid, group));
        let value = value(&level, self.grid, group);
        let (target, residual) = (&self.targets[k], &mut self.residuals[k]);
        let (error, mut charge) = (&mut self.errors[k], [0.0; LANES]);
        for l in 0..LANES {
            error[l] = value[l] - target[l];
            charge[l] = -error[l];
            residual[l] = value[l] - x[l];
        }
        self.codes[k] = codes;
        charge
    }
}
