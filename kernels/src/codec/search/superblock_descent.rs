//! The descent of a superblock, which alternates small moves of the groups' scales and offsets with least squares for
//! `d` and `dmin`.

use super::levels::{LANES, LevelSet};
use super::lines::{Lines, Offset, WeightedGroup, lanes, least};
use super::superblock::{ScaledSuperblock, Scales, rounded};

/// The largest number of rounds; more of them gain little, see the module above.
const ROUNDS: usize = 4;

impl ScaledSuperblock<'_> {
    /// Moves scales and offsets, then refits `d` and `dmin`, until nothing improves. Returns the scales and their
    /// error.
    #[inline(always)]
    pub(super) fn descend(self, start: Scales, levels: impl LevelSet) -> (Scales, f32) {
        let mut now = start;
        let mut best = (start, f32::INFINITY);
        for _ in 0..ROUNDS {
            let mut loss = 0.0;
            for g in 0..self.groups() {
                loss += if self.single() {
                    self.move_single(&mut now, levels)
                } else {
                    self.move_group(&mut now, g, levels)
                };
            }
            if loss >= best.1 || loss.is_nan() {
                break;
            }
            best = (now, loss);
            self.refit(&mut now, levels);
        }
        best
    }

    /// Gives group `g` the best scale and offset among its own and their neighbours; returns its error.
    #[inline(always)]
    fn move_group(self, now: &mut Scales, g: usize, levels: impl LevelSet) -> f32 {
        let ((low, high), (least_offset, largest_offset)) = (self.scales(), self.offsets());
        let (mut scales, mut offsets) = ([0; LANES], [0; LANES]);
        for l in 0..LANES {
            let (by, up) = self.moves(l);
            // Where scales have signs, the last four lanes try scales of the other sign.
            let scale = if low < 0 && l >= 12 { l as i16 - 13 - now.scales[g] } else { now.scales[g] + by };
            scales[l] = scale.clamp(low, high);
            offsets[l] = (now.offsets[g] + up).clamp(least_offset, largest_offset);
        }
        let lines = Lines {
            scale: lanes(|l| now.d * f32::from(scales[l])),
            offset: lanes(|l| now.dmin * f32::from(offsets[l])),
        };
        let losses = lines.losses(self.group(g), levels);
        let l = least(&losses);
        (now.scales[g], now.offsets[g]) = (scales[l], offsets[l]);
        losses[l]
    }

    /// Gives a superblock of one group the best `d` and `dmin` among its own and their neighbours; returns its error.
    #[inline(always)]
    fn move_single(self, now: &mut Scales, levels: impl LevelSet) -> f32 {
        let mut lines = Lines::splat(now.d, now.dmin);
        for l in 0..LANES {
            let (by, up) = self.moves(l);
            lines.scale[l] = self.step(now.d, i32::from(by));
            if self.offset() != Offset::None {
                lines.offset[l] = self.step(now.dmin, i32::from(up));
            }
        }
        let losses = lines.losses(self.group(0), levels);
        let l = least(&losses);
        (now.d, now.dmin) = (lines.scale[l], lines.offset[l]);
        losses[l]
    }

    /// Returns the move of lane `l`: steps of the scale and of the offset. Lane 0 does not move.
    #[inline(always)]
    fn moves(self, l: usize) -> (i16, i16) {
        // The sequence is 0, 1, -1, 2, -2, ...
        let alternate = |i: usize| if i.is_multiple_of(2) { -((i / 2) as i16) } else { (i / 2 + 1) as i16 };
        if self.offset() == Offset::None {
            (alternate(l), 0)
        } else {
            (alternate(l % 3), alternate(l / 3 % 5))
        }
    }

    /// Solves the weighted least squares of `d` and `dmin` under the present codes, and moves to the best members of
    /// the type's set beside the solution.
    #[inline(always)]
    fn refit(self, now: &mut Scales, levels: impl LevelSet) {
        let (mut slope, mut curve) = ([0.0f64; 2], [0.0f64; 3]);
        for g in 0..self.groups() {
            let sums = GroupSums::of(self.group(g), now.line(g), levels);
            let (scale, offset) = (f64::from(now.scales[g]), -f64::from(now.offsets[g]));
            slope[0] += scale * sums.rest_level;
            slope[1] += offset * sums.rest;
            curve[0] += scale * scale * sums.level_level;
            curve[1] += scale * offset * sums.level;
            curve[2] += offset * offset * sums.weight;
        }
        let determinant = curve[0] * curve[2] - curve[1] * curve[1];
        let (by, up) = if determinant > 1e-9 * curve[0] * curve[2] {
            (
                (curve[2] * slope[0] - curve[1] * slope[1]) / determinant,
                (curve[0] * slope[1] - curve[1] * slope[0]) / determinant,
            )
        } else if curve[0] > 0.0 {
            (slope[0] / curve[0], 0.0)
        } else {
            return;
        };
        let (d, dmin) = (f64::from(now.d), f64::from(now.dmin));
        let mut best = (now.d, now.dmin, 0.0);
        for i in -1..=1 {
            let to_d = self.step((d + by) as f32, i);
            for j in if self.offset() == Offset::None { 0..=0 } else { -1..=1 } {
                let to_dmin =
                    if self.offset() == Offset::None { 0.0 } else { self.step((dmin + up) as f32, j) };
                let (by, up) = (f64::from(to_d) - d, f64::from(to_dmin) - dmin);
                let change = by * (by * curve[0] - 2.0 * slope[0])
                    + up * (up * curve[2] - 2.0 * slope[1])
                    + 2.0 * by * up * curve[1];
                if change < best.2 {
                    best = (to_d, to_dmin, change);
                }
            }
        }
        (now.d, now.dmin) = (best.0, best.1);
    }
}

/// Weighted sums over a group under one line: of the levels, of the rounding errors ("rest"), and of their products.
struct GroupSums {
    weight: f64,
    level: f64,
    level_level: f64,
    rest: f64,
    rest_level: f64,
}

impl GroupSums {
    #[inline(always)]
    fn of(group: WeightedGroup<'_>, line: (f32, f32), levels: impl LevelSet) -> Self {
        let mut sums = [[0.0; LANES]; 5];
        for (x, weights) in group.x.chunks_exact(LANES).zip(group.weights.chunks_exact(LANES)) {
            let level = rounded(x, line, levels);
            for l in 0..LANES {
                let rest = x[l] - (line.0 * level[l] - line.1);
                let (weighted_level, weighted_rest) = (weights[l] * level[l], weights[l] * rest);
                sums[0][l] += weights[l];
                sums[1][l] += weighted_level;
                sums[2][l] += weighted_level * level[l];
                sums[3][l] += weighted_rest;
                sums[4][l] += weighted_rest * level[l];
            }
        }
        let [weight, level, level_level, rest, rest_level] =
            sums.map(|lanes| lanes.iter().map(|&lane| f64::from(lane)).sum());
        Self { weight, level, level_level, rest, rest_level }
    }
}
