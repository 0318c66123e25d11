//! The levels nearest to 32 numbers at once.

use super::{LANES, Lanes};

/// 1.5 * 2^23, which leaves the nearest integer, ties to even, in the low mantissa bits when it is added.
const MAGIC: f32 = 12_582_912.0;

/// A set of at most 256 ascending levels.
pub(super) trait Levels: Copy {
    /// Returns the codes and levels nearest to `x`; NaN gives some code.
    fn nearest(self, x: &Lanes) -> ([u8; LANES], Lanes);

    /// Returns the levels of the codes.
    fn of(self, codes: &[u8; LANES]) -> Lanes;
}

/// The levels `low + code` for codes `0..=top`.
#[derive(Clone, Copy)]
pub(super) struct UniformLevels {
    low: f32,
    top: f32,
}

/// Any levels, in a table.
#[derive(Clone, Copy)]
pub(super) struct TableLevels<'a>(&'a [f32]);

/// Runs the body with the fitting implementation of [`Levels`].
macro_rules! with_levels {
    ($levels:expr, $name:ident => $body:expr) => {
        match $crate::feedback::level::UniformLevels::of_levels($levels) {
            Some($name) => $body,
            None => {
                let $name = $crate::feedback::level::TableLevels::of_levels($levels);
                $body
            }
        }
    };
}
pub(super) use with_levels;

impl UniformLevels {
    /// Returns the set of `levels` if they rise by one.
    pub(super) fn of_levels(levels: &[f32]) -> Option<Self> {
        let (&low, &top) = (levels.first()?, levels.last()?);
        levels.windows(2).all(|w| w[1] - w[0] == 1.0).then_some(Self { low, top: top - low })
    }
}

impl<'a> TableLevels<'a> {
    pub(super) fn of_levels(levels: &'a [f32]) -> Self {
        Self(levels)
    }
}

impl Levels for UniformLevels {
    #[inline(always)]
    fn nearest(self, x: &Lanes) -> ([u8; LANES], Lanes) {
        let (mut codes, mut levels) = ([0; LANES], [0.0; LANES]);
        for l in 0..LANES {
            let code = x[l] - self.low;
            let code = if code > 0.0 { code } else { 0.0 };
            let code = if code < self.top { code } else { self.top };
            let rounded = code + MAGIC;
            codes[l] = rounded.to_bits() as u8;
            levels[l] = (rounded - MAGIC) + self.low;
        }
        (codes, levels)
    }

    #[inline(always)]
    fn of(self, codes: &[u8; LANES]) -> Lanes {
        let mut levels = [0.0; LANES];
        for l in 0..LANES {
            levels[l] = f32::from(codes[l]) + self.low;
        }
        levels
    }
}

impl Levels for TableLevels<'_> {
    #[inline(always)]
    fn nearest(self, x: &Lanes) -> ([u8; LANES], Lanes) {
        let (mut codes, mut levels) = ([0u32; LANES], [self.0[0]; LANES]);
        for (pair, code) in self.0.windows(2).zip(1..) {
            let middle = (pair[0] + pair[1]) * 0.5;
            for l in 0..LANES {
                let above = x[l] > middle;
                codes[l] = if above { code } else { codes[l] };
                levels[l] = if above { pair[1] } else { levels[l] };
            }
        }
        (codes.map(|code| code as u8), levels)
    }

    #[inline(always)]
    fn of(self, codes: &[u8; LANES]) -> Lanes {
        codes.map(|code| self.0[usize::from(code)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNEVEN: [f32; 5] = [-10.0, -3.0, 0.0, 1.0, 8.0];

    fn check(levels: &[f32], nearest: impl Fn(&Lanes) -> ([u8; LANES], Lanes)) {
        for step in 0..40 {
            let x: Lanes = std::array::from_fn(|l| (step * 32 + l) as f32 * 0.037 - 25.0);
            let (codes, found) = nearest(&x);
            for l in 0..LANES {
                assert_eq!(found[l], levels[usize::from(codes[l])]);
                let least = levels.iter().map(|level| (level - x[l]).abs()).fold(f32::MAX, f32::min);
                assert!((found[l] - x[l]).abs() <= least + 1e-5, "{} for {}", found[l], x[l]);
            }
        }
    }

    #[test]
    fn no_level_is_nearer() {
        let levels: Vec<f32> = (-8..8).map(|i| i as f32).collect();
        let uniform = UniformLevels::of_levels(&levels).unwrap();
        check(&levels, |x| uniform.nearest(x));
        check(&levels, |x| TableLevels(&levels).nearest(x));
        assert!(UniformLevels::of_levels(&UNEVEN).is_none());
        check(&UNEVEN, |x| TableLevels(&UNEVEN).nearest(x));
    }

    #[test]
    fn codes_give_their_levels() {
        let codes: [u8; LANES] = std::array::from_fn(|l| (l % 5) as u8);
        assert_eq!(TableLevels(&UNEVEN).of(&codes)[..6], [-10.0, -3.0, 0.0, 1.0, 8.0, -10.0]);
        let uniform = UniformLevels::of_levels(&[-2.0, -1.0, 0.0, 1.0, 2.0]).unwrap();
        assert_eq!(uniform.of(&codes)[..6], [-2.0, -1.0, 0.0, 1.0, 2.0, -2.0]);
    }

    #[test]
    fn numbers_that_are_none_get_some_code() {
        let uniform = UniformLevels::of_levels(&[0.0, 1.0, 2.0]).unwrap();
        let mut x = [f32::NAN; LANES];
        (x[1], x[2]) = (f32::INFINITY, f32::NEG_INFINITY);
        for codes in [uniform.nearest(&x).0, TableLevels(&[0.0, 1.0, 2.0]).nearest(&x).0] {
            assert!(codes[0] < 3 && codes[1] == 2 && codes[2] == 0);
        }
    }
}
