//! Sequential rounding and descent in types whose codes stand for several weights: one unit of 8 columns after the
//! other instead of one column after the other.
//!
//! A unit is one point of 8 columns, or two points of 4 in IQ3. The scales of the start are those of ggml's encoder,
//! with its factors; others were not tried. At IQ2_XS rounding takes 11 % of the whole command's CPU time, descent 9
//! %, and ggml's encoder for the start 8 %. Mean KL divergences on llama-5m are 0.41 to 0.46 times those of ggml's
//! encoder with importance of the same text (`docs/measurements.md`).

use super::coding::value;
use super::factor::factor_block;
use super::level::{Levels, TableLevels};
use super::nearest::{Unit, centers, row};
use super::{Descent, Grid, LANES, Lanes, Rounded, STEP, Tiles};
use crate::codec::{UNIT, VectorCodec};
use crate::isa::per_isa;

per_isa! {
    /// Rounds as [`round`](super::round()) does, one unit after the other: each gets the points found for which its
    /// columns' part of the loss is least. `factors` are the feedback and the pivots D, `[columns]`. `batch.codes`
    /// come as the present codes, of which shifts that groups share are kept.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit.
    pub fn round_vectors, round_vectors_on(
        vectors: &VectorCodec,
        factors: (&Tiles, &[f32]),
        x: &[Lanes],
        batch: &mut Rounded,
    ) {
        if vectors.width == UNIT {
            round_with::<UNIT>(vectors, factors, x, batch);
        } else {
            round_with::<4>(vectors, factors, x, batch);
        }
    }
}

per_isa! {
    /// Descends as [`descend`](super::descend()) does, one unit after the other. Returns the change of the loss.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit.
    pub fn descend_vectors, descend_vectors_on(vectors: &VectorCodec, block: &mut Descent) -> Lanes {
        if vectors.width == UNIT {
            descend_with::<UNIT>(vectors, block)
        } else {
            descend_with::<4>(vectors, block)
        }
    }
}

/// Returns the columns of a unit with multiples of the earlier columns added: `x + Σ_j m[..][j] y_j`.
#[inline(always)]
fn unit_sums(m: &Tiles, first: usize, x: &[Lanes], y: &[Lanes]) -> [Lanes; UNIT] {
    let mut sums = [[0.0; LANES]; UNIT];
    sums.copy_from_slice(&x[first..first + UNIT]);
    for (i, sums) in sums.as_chunks_mut::<STEP>().0.iter_mut().enumerate() {
        m.add_step(first / STEP + i, 0..first, y, sums);
    }
    sums
}

#[inline(always)]
fn round_with<const W: usize>(
    vectors: &VectorCodec,
    (feedback, pivots): (&Tiles, &[f32]),
    x: &[Lanes],
    batch: &mut Rounded,
) {
    let mut charges: Vec<Lanes> = Vec::with_capacity(x.len());
    for first in (0..x.len()).step_by(UNIT) {
        let sums = unit_sums(feedback, first, x, &charges);
        let mut lower = [[0.0; UNIT]; UNIT];
        for (k, row) in lower.iter_mut().enumerate() {
            for (j, factor) in row.iter_mut().enumerate().take(k) {
                *factor = feedback.at(first + k, first + j);
            }
        }
        let mut own = [0.0; UNIT];
        own.copy_from_slice(&pivots[first..first + UNIT]);
        let unit = Unit::<W>::new(vectors, lower, own);
        let targets = &batch.targets[first..first + UNIT];
        let mut center = sums;
        centers(&mut center, targets, &lower);
        let codes = &mut batch.codes[first..first + UNIT];
        let step = &batch.grid.step[batch.groups[first]];
        let mut values = [[0.0; LANES]; UNIT];
        for l in 0..LANES {
            let settled = unit.settle(&row(&center, l), step[l], &row(codes, l));
            for i in 0..UNIT {
                codes[i][l] = settled.codes[i];
                values[i][l] = settled.values[i];
            }
        }
        let errors = &mut batch.errors[first..first + UNIT];
        let residuals = &mut batch.residuals[first..first + UNIT];
        for k in 0..UNIT {
            let mut residual = [0.0; LANES];
            for l in 0..LANES {
                errors[k][l] = values[k][l] - targets[k][l];
                residual[l] = values[k][l] - sums[k][l];
            }
            for j in 0..k {
                for l in 0..LANES {
                    residual[l] = lower[k][j].mul_add(errors[j][l], residual[l]);
                }
            }
            residuals[k] = residual;
            charges.push(errors[k].map(|error| -error));
        }
    }
}

#[inline(always)]
fn descend_with<const W: usize>(vectors: &VectorCodec, block: &mut Descent) -> Lanes {
    let levels = TableLevels::of_levels(vectors.codec.levels);
    let mut changes: Vec<Lanes> = Vec::with_capacity(block.gradient.len());
    let mut gain = [0.0; LANES];
    for first in (0..block.gradient.len()).step_by(UNIT) {
        let gradient = unit_sums(block.h, first, block.gradient, &changes);
        let mut change = [[0.0; LANES]; UNIT];
        if let Some((lower, pivots)) = factors(block.h, first) {
            let unit = Unit::<W>::new(vectors, lower, pivots);
            let codes = &mut block.codes[first..first + UNIT];
            let group = block.groups[first];
            let present = present(levels, codes, block.grid, group);
            let center = minimum(&present, &gradient, &lower, &pivots);
            for l in 0..LANES {
                let (center, old) = (row(&center, l), row(&present, l));
                let settled = unit.settle(&center, block.grid.step[group][l], &row(codes, l));
                let better = settled.loss - unit.loss(&center, &old);
                if better < 0.0 {
                    gain[l] += better;
                    for i in 0..UNIT {
                        codes[i][l] = settled.codes[i];
                        change[i][l] = settled.values[i] - old[i];
                        block.errors[first + i][l] += change[i][l];
                    }
                }
            }
        }
        changes.extend(change);
    }
    gain
}

#[inline(always)]
fn present(levels: impl Levels, codes: &[[u8; LANES]], grid: &Grid, group: usize) -> [Lanes; UNIT] {
    let mut present = [[0.0; LANES]; UNIT];
    for (present, codes) in present.iter_mut().zip(codes) {
        *present = value(&levels.of(codes), grid, group);
    }
    present
}

/// Returns the factors L and D of the unit's block on the diagonal of `h`; `None` if it is not positive definite.
fn factors(h: &Tiles, first: usize) -> Option<([[f32; UNIT]; UNIT], [f32; UNIT])> {
    let mut block = [0.0f64; UNIT * UNIT];
    for (i, x) in block.iter_mut().enumerate() {
        *x = h.at(first + i / UNIT, first + i % UNIT).into();
    }
    let mut pivots = [0.0; UNIT];
    if !factor_block(&mut block, &mut pivots, &[0.0; UNIT]) {
        return None;
    }
    let lower = std::array::from_fn(|k| {
        std::array::from_fn(|j| if j < k { block[k * UNIT + j] as f32 } else { 0.0 })
    });
    Some((lower, pivots.map(|pivot| pivot as f32)))
}

/// Returns the values at which the loss is least with all other columns as they are: `present - gradient · H⁻¹`.
#[inline(always)]
fn minimum(
    present: &[Lanes; UNIT],
    gradient: &[Lanes; UNIT],
    lower: &[[f32; UNIT]; UNIT],
    pivots: &[f32; UNIT],
) -> [Lanes; UNIT] {
    let mut solved = *gradient;
    for k in (0..UNIT).rev() {
        for m in k + 1..UNIT {
            let later = solved[m];
            subtract(&mut solved[k], lower[m][k], &later);
        }
    }
    for k in 0..UNIT {
        solved[k].iter_mut().for_each(|x| *x /= pivots[k]);
        for j in 0..k {
            let earlier = solved[j];
            subtract(&mut solved[k], lower[k][j], &earlier);
        }
    }
    let mut minimum = *present;
    for k in 0..UNIT {
        for l in 0..LANES {
            minimum[k][l] -= solved[k][l];
        }
    }
    minimum
}

/// Computes `x -= factor * y`.
#[inline(always)]
fn subtract(x: &mut Lanes, factor: f32, y: &Lanes) {
    for (x, y) in x.iter_mut().zip(y) {
        *x = (-factor).mul_add(*y, *x);
    }
}
