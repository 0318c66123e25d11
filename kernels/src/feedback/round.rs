//! Sequential rounding, in which every column makes up for the errors of the columns before it.

use super::coding::{Grid, position, value};
use super::level::{Levels, with_levels};
use super::serial::{Column, serial};
use super::{LANES, Lanes, Tiles};
use crate::codec::Codec;
use crate::isa::per_isa;

/// A batch of columns of 32 rows: the lines that they are rounded on, and the results.
#[derive(Debug)]
pub struct Rounded<'a> {
    /// The lines on which the rows' groups decode.
    pub grid: &'a Grid,
    /// The index of each column's group, `[columns]`.
    pub groups: &'a [usize],
    /// The weights w that the columns should have, `[columns]`.
    pub targets: &'a [Lanes],
    /// The codes, `[columns]`, which are written.
    pub codes: &'a mut [[u8; LANES]],
    /// The errors `ŵ - w`, `[columns]`, which are written.
    pub errors: &'a mut [Lanes],
    /// The errors of the rounding itself, `ŵ - t`, `[columns]`, which are written.
    pub residuals: &'a mut [Lanes],
}

per_isa! {
    /// Rounds columns in order, each to the code nearest to `t_k = x_k - Σ_{j<k} e_j feedback[k][j]`.
    ///
    /// `feedback` is square, and the part below its diagonal is read. `x` `[columns]` is the targets minus the
    /// feedback of the batches before.
    ///
    /// Source: LDLQ of QuIP (arXiv 2307.13304), which rounds as GPTQ does.
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
