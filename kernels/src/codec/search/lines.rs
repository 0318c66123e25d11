//! Candidate lines of one group, one per lane: `weight = scale * level - offset`.
//!
//! Lanes hold candidates instead of elements, so that no sum runs across lanes.

use super::levels::{F32x16, LANES, LevelSet};

/// 16 candidate lines, one per lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lines {
    pub(super) scale: F32x16,
    pub(super) offset: F32x16,
}

/// The weights `[columns]` of a group and the weights of their squared errors, `[columns]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct WeightedGroup<'a> {
    pub(super) x: &'a [f32],
    pub(super) weights: &'a [f32],
}

/// The offsets that a line may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offset {
    /// The offset is 0.
    None,
    /// Neither offset nor scale is negative, as in types whose superblock stores both without signs.
    NotNegative,
    /// The offset is any number.
    Free,
}

/// Returns `value(l)` for each lane l.
#[inline(always)]
pub(super) fn lanes(mut value: impl FnMut(usize) -> f32) -> F32x16 {
    let mut lanes = [0.0; LANES];
    for (l, lane) in lanes.iter_mut().enumerate() {
        *lane = value(l);
    }
    lanes
}

impl Lines {
    /// Returns the same line in every lane.
    #[inline(always)]
    pub(super) fn splat(scale: f32, offset: f32) -> Self {
        Self { scale: [scale; LANES], offset: [offset; LANES] }
    }

    #[inline(always)]
    fn inverse(&self) -> F32x16 {
        lanes(|l| if self.scale[l] == 0.0 { 0.0 } else { 1.0 / self.scale[l] })
    }

    /// Returns the weighted squared error under each line, with every weight at its nearest level.
    #[inline(always)]
    pub(super) fn losses(&self, group: WeightedGroup<'_>, levels: impl LevelSet) -> F32x16 {
        let inverse = self.inverse();
        let mut sum = [0.0; LANES];
        for (&x, &weight) in group.x.iter().zip(group.weights) {
            let mut level = lanes(|l| (x + self.offset[l]) * inverse[l]);
            levels.round(&mut level);
            for l in 0..LANES {
                let error = self.scale[l] * level[l] - self.offset[l] - x;
                sum[l] += weight * error * error;
            }
        }
        sum
    }

    /// Rounds the group under each line, replaces the line by the weighted least-squares line through the levels, and
    /// returns the error of that.
    #[inline(always)]
    pub(super) fn refit(
        &mut self,
        group: WeightedGroup<'_>,
        levels: impl LevelSet,
        offset: Offset,
    ) -> F32x16 {
        let inverse = self.inverse();
        let mut sums = LaneSums::default();
        let mut total = 0.0;
        for (&x, &weight) in group.x.iter().zip(group.weights) {
            let mut level = lanes(|l| (x + self.offset[l]) * inverse[l]);
            levels.round(&mut level);
            let rest = lanes(|l| x - (self.scale[l] * level[l] - self.offset[l]));
            total += weight;
            sums.add(weight, &level, &rest);
        }
        lanes(|l| {
            let line = (self.scale[l], self.offset[l]);
            let loss;
            (self.scale[l], self.offset[l], loss) = sums.solve(l, total, line, offset);
            loss
        })
    }

    /// Takes the lines of `other` in the lanes in which their loss is less.
    #[inline(always)]
    pub(super) fn keep_better(&mut self, losses: &mut F32x16, other: &Self, other_losses: &F32x16) {
        for l in 0..LANES {
            let better = other_losses[l] < losses[l];
            self.scale[l] = if better { other.scale[l] } else { self.scale[l] };
            self.offset[l] = if better { other.offset[l] } else { self.offset[l] };
            losses[l] = if better { other_losses[l] } else { losses[l] };
        }
    }
}

/// Weighted sums over a group, lane by lane: of the levels, of the rounding errors ("rest"), and of their products.
#[derive(Debug, Clone, Copy, Default)]
struct LaneSums {
    level: F32x16,
    level_level: F32x16,
    rest: F32x16,
    rest_level: F32x16,
    rest_rest: F32x16,
}

impl LaneSums {
    #[inline(always)]
    fn add(&mut self, weight: f32, level: &F32x16, rest: &F32x16) {
        for l in 0..LANES {
            let (weighted_level, weighted_rest) = (weight * level[l], weight * rest[l]);
            self.level[l] += weighted_level;
            self.level_level[l] += weighted_level * level[l];
            self.rest[l] += weighted_rest;
            self.rest_level[l] += weighted_rest * level[l];
            self.rest_rest[l] += weighted_rest * rest[l];
        }
    }

    /// Returns the least-squares scale and offset of lane `l`, and the error that they leave.
    ///
    /// It solves for the change of the line, which is small, because sums of rounding errors do not cancel as sums of
    /// weights would.
    #[inline(always)]
    fn solve(&self, l: usize, total: f32, (scale, offset): (f32, f32), kind: Offset) -> (f32, f32, f32) {
        let (q, qq) = (self.level[l], self.level_level[l]);
        let (r, rq, rr) = (self.rest[l], self.rest_level[l], self.rest_rest[l]);
        let error = |by: f32, up: f32| {
            rr - 2.0 * (by * rq + up * r) + by * by * qq + 2.0 * by * up * q + up * up * total
        };
        let inverse = if qq > 0.0 { 1.0 / qq } else { 0.0 };
        if kind == Offset::None {
            let by = rq * inverse;
            return (scale + by, 0.0, error(by, 0.0));
        }
        let determinant = total * qq - q * q;
        let inverse_determinant = if determinant > 1e-6 * total * qq { 1.0 / determinant } else { 0.0 };
        let by = (total * rq - q * r) * inverse_determinant;
        let up = (qq * r - q * rq) * inverse_determinant;
        if kind == Offset::Free {
            return (scale + by, offset - up, error(by, up));
        }
        // A minimum above zero cannot be stored, so that the line goes through zero then.
        let above = offset - up < 0.0;
        let up = if above { offset } else { up };
        let by = if above { (rq - offset * q) * inverse } else { by };
        let negative = scale + by < 0.0;
        let (by, up) = if negative { (0.0, 0.0) } else { (by, up) };
        let offset = if above && !negative { 0.0 } else { offset - up };
        (scale + by, offset, error(by, up))
    }
}

/// Returns the lane of the least loss, the first of equals.
#[inline(always)]
pub(super) fn least(losses: &F32x16) -> usize {
    let mut best = 0;
    for l in 1..LANES {
        if losses[l] < losses[best] {
            best = l;
        }
    }
    best
}
