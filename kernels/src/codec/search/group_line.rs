//! The line of one group before scales and offsets are coded, by a grid of 48 candidates, each refitted by least
//! squares.

use super::levels::{LANES, LevelSet};
use super::lines::{Lines, Offset, WeightedGroup, lanes, least};

/// The number of sets of candidates, one candidate per lane.
const SETS: usize = 3;
/// The number of further refits of the best candidates.
const REFITS: usize = 2;

/// A line: `weight = scale * level - offset`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct GroupLine {
    pub(super) scale: f32,
    pub(super) offset: f32,
}

/// The properties of a set of levels by which the grid is laid.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) low: f32,
    pub(super) high: f32,
    /// The number of levels.
    pub(super) count: f32,
}

/// Returns the best line found for a group.
#[inline(always)]
pub(super) fn fit(group: WeightedGroup<'_>, levels: impl LevelSet, ends: Ends, offset: Offset) -> GroupLine {
    let mut best = Lines::splat(0.0, 0.0);
    let mut losses = [f32::INFINITY; LANES];
    for set in 0..SETS {
        let mut lines = match offset {
            Offset::None => symmetric(group.x, ends, set),
            _ => affine(group.x, ends, set, offset),
        };
        let refitted = lines.refit(group, levels, offset);
        best.keep_better(&mut losses, &lines, &refitted);
    }
    for _ in 0..REFITS {
        let mut lines = best;
        let refitted = lines.refit(group, levels, offset);
        best.keep_better(&mut losses, &lines, &refitted);
    }
    let l = least(&losses);
    GroupLine { scale: best.scale[l], offset: best.offset[l] }
}

/// Returns lines without offset that put the extreme weight near the lowest level (even candidates) or near the highest
/// (odd candidates).
#[inline(always)]
fn symmetric(x: &[f32], Ends { low, high, count }: Ends, set: usize) -> Lines {
    let extreme = crate::block::fit::signed_extreme(x);
    // Candidates reach about a step of the levels to either side, a little further towards clipping.
    let width = 0.22 / count;
    let scale = lanes(|l| {
        let candidate = set * LANES + l;
        let end = if candidate.is_multiple_of(2) { low } else { high };
        let stretch = 1.0 + width * ((candidate / 2) as f32 - 8.0);
        extreme / (end * stretch)
    });
    Lines { scale, offset: [0.0; LANES] }
}

/// Returns lines that divide the range of the weights into about as many steps as there are between levels. Weights
/// that stick out do so above (set 0), on both sides (set 1) or below (set 2).
#[inline(always)]
fn affine(x: &[f32], Ends { low, high, .. }: Ends, set: usize, kind: Offset) -> Lines {
    let (mut least, most) = crate::block::fit::weights::range(x);
    if kind == Offset::NotNegative {
        least = least.min(0.0);
    }
    let shift = [0.0, 0.5, 1.0][set];
    let extra = |l: usize| -0.9 + 0.16 * l as f32;
    let scale = lanes(|l| (most - least).max(0.0) / (high - low + extra(l)));
    let offset = lanes(|l| -least - shift * extra(l) * scale[l]);
    let lowest = if kind == Offset::NotNegative { 0.0 } else { f32::NEG_INFINITY };
    Lines { scale, offset: lanes(|l| offset[l].max(lowest)) }
}
