//! The search for the scales and offsets of one superblock: it starts from lines fitted to the groups, codes them, and
//! improves them by the descent of `superblock_descent.rs`.

use super::group_line::{self, Ends};
use super::levels::{F32x16, Integers, LANES, LevelSet};
use super::lines::{Lines, Offset, WeightedGroup, lanes, least};
use crate::codec::{Codec, Float};

/// The number of groups of the largest superblock.
const GROUPS: usize = 16;
/// The number of candidates for `d` from which a descent starts; more of them gain little, see the module above.
const STARTS: usize = 2;

/// The weights of a superblock, divided by a power of two such that the largest is about 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScaledSuperblock<'a> {
    pub(super) codec: &'a Codec,
    /// The divided weights, `[superblock]`.
    pub(super) x: &'a [f32],
    /// The weights of their squared errors, `[superblock]`.
    pub(super) weights: &'a [f32],
    /// The power of two that the weights were divided by.
    pub(super) unit: f32,
}

/// The scales and offsets of a superblock, from which codes follow by rounding. `d` and `dmin` are in units of the
/// divided weights.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Scales {
    pub(super) d: f32,
    pub(super) dmin: f32,
    /// The scales of the groups; places past the number of groups are unused.
    pub(super) scales: [i16; GROUPS],
    /// The offsets of the groups; places past the number of groups are unused.
    pub(super) offsets: [i16; GROUPS],
}

impl Scales {
    /// Returns scale and offset of group `g`.
    #[inline(always)]
    pub(super) fn line(&self, g: usize) -> (f32, f32) {
        (self.d * f32::from(self.scales[g]), self.dmin * f32::from(self.offsets[g]))
    }
}

impl<'a> ScaledSuperblock<'a> {
    /// Returns the best scales found.
    #[inline(always)]
    pub(super) fn search(self, levels: impl LevelSet) -> Scales {
        if self.single() {
            return self.descend(self.start_single(levels), levels).0;
        }
        let fits = self.fits(levels);
        let (units, mut losses) = self.candidates(fits.map(|fit| fit.scale), self.scales());
        let mut best = (Scales::default(), f32::INFINITY);
        for start in 0..STARTS {
            let l = least(&losses);
            losses[l] = f32::INFINITY;
            let found = self.descend(self.start(&fits, units[l], levels), levels);
            if start == 0 || found.1 < best.1 {
                best = found;
            }
        }
        best.0
    }

    /// Writes the codes `[superblock]` nearest to the weights under `scales`.
    #[inline(always)]
    pub(super) fn codes(self, scales: &Scales, levels: impl LevelSet, codes: &mut [u8]) {
        for (g, codes) in codes.chunks_exact_mut(self.codec.group).enumerate() {
            let line = scales.line(g);
            let group = self.group(g);
            for (x, codes) in group.x.chunks_exact(LANES).zip(codes.chunks_exact_mut(LANES)) {
                let rounded = rounded(x, line, levels);
                for (code, level) in codes.iter_mut().zip(rounded) {
                    *code = levels.code(level);
                }
            }
        }
    }

    pub(super) fn groups(self) -> usize {
        self.codec.superblock / self.codec.group
    }

    #[inline(always)]
    pub(super) fn group(self, g: usize) -> WeightedGroup<'a> {
        let n = self.codec.group;
        WeightedGroup { x: &self.x[g * n..][..n], weights: &self.weights[g * n..][..n] }
    }

    /// Returns the lowest and the highest legal scale.
    pub(super) fn scales(self) -> (i16, i16) {
        (*self.codec.scales.start(), *self.codec.scales.end())
    }

    /// Returns the lowest and the highest legal offset.
    pub(super) fn offsets(self) -> (i16, i16) {
        (*self.codec.offsets.start(), *self.codec.offsets.end())
    }

    /// Returns true if `d` is the only scale, so that a superblock is one group.
    pub(super) fn single(self) -> bool {
        self.codec.scales == (1..=1)
    }

    pub(super) fn offset(self) -> Offset {
        match self.offsets() {
            (0, 0) => Offset::None,
            (1, 1) => Offset::Free,
            _ => Offset::NotNegative,
        }
    }

    #[inline(always)]
    fn nearest(self, d: f32) -> f32 {
        self.codec.float.nearest(d * self.unit) / self.unit
    }

    /// Returns the member `steps` above the one nearest to `d`.
    #[inline(always)]
    pub(super) fn step(self, d: f32, steps: i32) -> f32 {
        let float = self.codec.float;
        float.member(float.nearest_index(d * self.unit) + steps) / self.unit
    }

    fn ends(self) -> Ends {
        let levels = self.codec.levels;
        Ends { low: levels[0], high: levels[levels.len() - 1], count: levels.len() as f32 }
    }

    #[inline(always)]
    fn fits(self, levels: impl LevelSet) -> [group_line::GroupLine; GROUPS] {
        let mut fits = [group_line::GroupLine::default(); GROUPS];
        for (g, fit) in fits.iter_mut().enumerate().take(self.groups()) {
            *fit = group_line::fit(self.group(g), levels, self.ends(), self.offset());
        }
        fits
    }

    /// Returns the start of the descent in types whose superblock is one group.
    #[inline(always)]
    fn start_single(self, levels: impl LevelSet) -> Scales {
        let fit = if self.codec.float == Float::F16 {
            self.fits(levels)[0]
        } else {
            let largest = crate::block::fit::signed_extreme(self.x).abs();
            group_line::GroupLine { scale: largest / self.ends().high, offset: 0.0 }
        };
        Scales {
            d: self.nearest(fit.scale),
            dmin: if self.offset() == Offset::None { 0.0 } else { self.nearest(fit.offset) },
            scales: [1; GROUPS],
            offsets: [*self.codec.offsets.start(); GROUPS],
        }
    }

    /// Returns candidates for `d` or `dmin`, and the weighted squared error of the groups' scales or offsets as their
    /// multiples. The candidates put the extreme value at or around the end of the legal range.
    #[inline(always)]
    fn candidates(self, values: [f32; GROUPS], (low, high): (i16, i16)) -> (F32x16, F32x16) {
        let values = &values[..self.groups()];
        let extreme = crate::block::fit::signed_extreme(values);
        let (low, high) = (f32::from(low), f32::from(high));
        let units = lanes(|l| {
            let end = match low < 0.0 {
                true if l.is_multiple_of(2) => low - 0.5 + 0.25 * (l / 2) as f32,
                true => high + 0.5 - 0.25 * (l / 2) as f32,
                false => high + 0.5 - 0.2 * l as f32,
            };
            self.nearest(extreme / end)
        });
        let mut totals = [0.0; GROUPS];
        for (g, total) in totals.iter_mut().enumerate().take(self.groups()) {
            *total = self.group(g).weights.iter().sum();
        }
        let group = WeightedGroup { x: values, weights: &totals[..self.groups()] };
        let losses = Lines { scale: units, offset: [0.0; LANES] }.losses(group, Integers { low, high });
        (units, losses)
    }

    /// Returns the multiples of `unit` nearest to `values`, within the legal range.
    #[inline(always)]
    fn multiples(self, mut values: [f32; GROUPS], unit: f32, (low, high): (i16, i16)) -> [i16; GROUPS] {
        let inverse = if unit == 0.0 { 0.0 } else { 1.0 / unit };
        values.iter_mut().for_each(|value| *value *= inverse);
        Integers { low: f32::from(low), high: f32::from(high) }.round(&mut values);
        values.map(|value| value as i16)
    }

    /// Returns the start of the descent: scales and offsets of the fits as integers, the scales as multiples of `d`.
    #[inline(always)]
    fn start(self, fits: &[group_line::GroupLine; GROUPS], d: f32, levels: impl LevelSet) -> Scales {
        let scales = self.multiples(fits.map(|fit| fit.scale), d, self.scales());
        let mut start = Scales { d, dmin: 0.0, scales, offsets: [0; GROUPS] };
        if self.offset() == Offset::None {
            return start;
        }
        let mut offsets = [0.0; GROUPS];
        for g in 0..self.groups() {
            // The scale is no longer that of the fit, so that offsets up to a step to either side are compared.
            let (scale, _) = start.line(g);
            let line = Lines {
                scale: [scale; LANES],
                offset: lanes(|l| (fits[g].offset + scale * (0.125 * (l as f32 - 8.0))).max(0.0)),
            };
            offsets[g] = line.offset[least(&line.losses(self.group(g), levels))];
        }
        let (units, losses) = self.candidates(offsets, self.offsets());
        start.dmin = units[least(&losses)];
        start.offsets = self.multiples(offsets, start.dmin, self.offsets());
        start
    }
}

/// Returns the levels nearest to 16 weights under a line of scale and offset.
#[inline(always)]
pub(super) fn rounded(x: &[f32], (scale, offset): (f32, f32), levels: impl LevelSet) -> F32x16 {
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let mut level = lanes(|l| (x[l] + offset) * inverse);
    levels.round(&mut level);
    level
}
