//! Rounding to the levels of a codec, 16 numbers at once.

/// The number of lanes, whatever the width of the machine's vectors. Sums across lanes run in a fixed order, so
/// that the width does not show in the result.
pub(super) const LANES: usize = 16;
/// One number for each of 16 lanes.
pub(super) type F32x16 = [f32; LANES];

/// 1.5 * 2^23: adding it and subtracting it again rounds numbers below 2^22 to the nearest integer, ties to even.
const MAGIC: f32 = 12_582_912.0;
/// The number of levels of the longest table.
const TABLE: usize = 16;

/// A set of levels.
pub(super) trait LevelSet: Copy {
    /// Replaces every number by the nearest level, NaN by the lowest one.
    fn round(self, x: &mut F32x16);

    /// Returns the code of a level.
    fn code(self, level: f32) -> u8;
}

/// Levels that are consecutive integers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Integers {
    pub(super) low: f32,
    pub(super) high: f32,
}

impl LevelSet for Integers {
    #[inline(always)]
    fn round(self, x: &mut F32x16) {
        for x in x {
            let above = if *x > self.low { *x } else { self.low };
            let within = if above < self.high { above } else { self.high };
            *x = (within + MAGIC) - MAGIC;
        }
    }

    #[inline(always)]
    fn code(self, level: f32) -> u8 {
        (level - self.low) as u8
    }
}

/// Levels that are up to 16 integers, ascending.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShortTable {
    low: f32,
    /// The middle between neighbours; infinite past the last level.
    thresholds: [f32; TABLE - 1],
    /// The distance from each level to the next.
    steps: [f32; TABLE - 1],
}

impl ShortTable {
    fn new(levels: &[f32]) -> Self {
        let mut table =
            Self { low: levels[0], thresholds: [f32::INFINITY; TABLE - 1], steps: [0.0; TABLE - 1] };
        let slots = table.thresholds.iter_mut().zip(&mut table.steps);
        for (pair, (threshold, step)) in levels.windows(2).zip(slots) {
            *threshold = 0.5 * (pair[0] + pair[1]);
            *step = pair[1] - pair[0];
        }
        table
    }
}

impl LevelSet for ShortTable {
    #[inline(always)]
    fn round(self, x: &mut F32x16) {
        // These are sums of small integers, which are exact.
        let mut level = [self.low; LANES];
        for (&threshold, &step) in self.thresholds.iter().zip(&self.steps) {
            for (level, &x) in level.iter_mut().zip(&*x) {
                *level += if x > threshold { step } else { 0.0 };
            }
        }
        *x = level;
    }

    #[inline(always)]
    fn code(self, level: f32) -> u8 {
        self.thresholds.iter().map(|&threshold| u8::from(level > threshold)).sum()
    }
}

/// Levels of either kind.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AnyLevels {
    Integers(Integers),
    ShortTable(ShortTable),
}

impl AnyLevels {
    /// Returns the levels of a codec.
    pub(super) fn new(levels: &[f32]) -> Self {
        if levels.windows(2).all(|pair| pair[1] - pair[0] == 1.0) {
            Self::Integers(Integers { low: levels[0], high: levels[levels.len() - 1] })
        } else {
            Self::ShortTable(ShortTable::new(levels))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Codec;

    fn nearest_by_trying(levels: &[f32], x: f32) -> f32 {
        levels.iter().fold(
            f32::INFINITY,
            |best, &level| if (level - x).abs() < (best - x).abs() { level } else { best },
        )
    }

    fn check(levels: &[f32], rounder: impl LevelSet) {
        for k in -3000..3000 {
            let x = k as f32 * 0.0501;
            let mut lanes = [x; LANES];
            rounder.round(&mut lanes);
            assert_eq!(lanes, [nearest_by_trying(levels, x); LANES], "{x}");
            assert_eq!(levels[usize::from(rounder.code(lanes[3]))], lanes[3]);
        }
        let mut ends = [f32::NEG_INFINITY; LANES];
        (ends[1], ends[2]) = (f32::INFINITY, f32::NAN);
        rounder.round(&mut ends);
        assert_eq!(ends[..3], [levels[0], levels[levels.len() - 1], levels[0]]);
    }

    #[test]
    fn rounding_agrees_with_trying_all_levels() {
        for codec in crate::block::TYPES.iter().filter_map(|ty| Codec::of(ty)) {
            match AnyLevels::new(codec.levels) {
                AnyLevels::Integers(levels) => check(codec.levels, levels),
                AnyLevels::ShortTable(levels) => check(codec.levels, levels),
            }
        }
    }
}
