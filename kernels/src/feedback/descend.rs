//! Coordinate descent on the codes: one column after the other moves to where the loss is least with all others fixed.

use super::coding::{Grid, position, value};
use super::level::{Levels, with_levels};
use super::serial::{Column, serial};
use super::{LANES, Lanes, Tiles};
use crate::codec::Codec;
use crate::isa::per_isa;

/// A block of columns of 32 rows whose codes may change.
#[derive(Debug)]
pub struct Descent<'a> {
    /// The block of the Hessian on its diagonal, `[columns][columns]`.
    pub h: &'a Tiles,
    /// The gradient `e H` at the columns, `[columns]`, before any change.
    pub gradient: &'a [Lanes],
    /// The lines on which the rows' groups decode.
    pub grid: &'a Grid,
    /// The index of each column's group, `[columns]`.
    pub groups: &'a [usize],
    /// The codes, `[columns]`, which are changed.
    pub codes: &'a mut [[u8; LANES]],
    /// The errors `ŵ - w`, `[columns]`, which are kept up to date.
    pub errors: &'a mut [Lanes],
}

per_isa! {
    /// Offers every column of a block, in order, the code nearest to where the loss is least with all other columns
    /// fixed; returns by how much the loss changed.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit.
    pub fn descend, descend_on(codec: &Codec, block: &mut Descent) -> Lanes {
        let Descent { h, gradient, grid, groups, codes, errors } = block;
        with_levels!(codec.levels, levels => {
            let mut best = BestCode { levels, h, grid, groups, codes, errors, gain: [0.0; LANES] };
            serial(h, gradient, &mut best);
            best.gain
        })
    }
}

struct BestCode<'a, L> {
    levels: L,
    h: &'a Tiles,
    grid: &'a Grid,
    groups: &'a [usize],
    codes: &'a mut [[u8; LANES]],
    errors: &'a mut [Lanes],
    gain: Lanes,
}

impl<L: Levels> Column for BestCode<'_, L> {
    #[inline(always)]
    fn settle(&mut self, k: usize, gradient: &Lanes) -> Lanes {
        let (group, codes, error) = (self.groups[k], &mut self.codes[k], &mut self.errors[k]);
        let curvature = self.h.at(k, k);
        let inverse = 1.0 / curvature;
        let present = value(&self.levels.of(codes), self.grid, group);
        let mut wanted = [0.0; LANES];
        for l in 0..LANES {
            wanted[l] = (-inverse).mul_add(gradient[l], present[l]);
        }
        let (moved, level) = self.levels.nearest(&position(&wanted, self.grid, group));
        let new = value(&level, self.grid, group);
        let mut change = [0.0; LANES];
        for l in 0..LANES {
            let step = new[l] - present[l];
            let gain = step * curvature.mul_add(step, 2.0 * gradient[l]);
            let better = gain < 0.0;
            codes[l] = if better { moved[l] } else { codes[l] };
            change[l] = if better { step } else { 0.0 };
            error[l] += change[l];
            self.gain[l] += if better { gain } else { 0.0 };
        }
        change
    }
}
