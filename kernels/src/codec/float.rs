//! The sets of numbers that blocks can store as their scales.

use half::f16;

/// A set of numbers that a block can store as `d`. Members are counted in ascending order; index 0 is the member of
/// least magnitude.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Float {
    /// The finite numbers of half precision, of either sign.
    F16,
    /// The powers of two from 2^-128 to 2^124 (MXFP4). They are half of the block's scale, since the levels are twice
    /// the values of the codes. Larger scales could be stored, but the largest level would overflow.
    E8M0,
    /// The numbers of 4 exponent bits, 3 mantissa bits and no sign (NVFP4), halved: 0 to 224. They are half of the
    /// block's scale, since the levels are twice the values of the codes.
    Ue4m3,
}

impl Float {
    /// Returns the member nearest to `x`: the end of the set for numbers beyond its range, and the member of least
    /// magnitude for NaN.
    pub fn nearest(self, x: f32) -> f32 {
        self.member(self.nearest_index(x))
    }

    /// Returns the member nearest to `x`, the next one below it and the next one above it. At an end of the set the end
    /// itself stands for the missing one.
    pub fn neighbours(self, x: f32) -> [f32; 3] {
        let index = self.nearest_index(x);
        [index, index - 1, index + 1].map(|index| self.member(index))
    }

    /// Returns the index of the member nearest to `x`.
    pub(crate) fn nearest_index(self, x: f32) -> i32 {
        if x.is_nan() {
            return 0;
        }
        match self {
            Self::F16 => {
                let bits = i32::from(f16::from_f32(x.abs()).to_bits()).min(self.last());
                if x < 0.0 { -bits } else { bits }
            }
            Self::E8M0 => {
                // From 1.5 times a power on the next power is nearer.
                let above = |index: &i32| x >= 1.5 * self.member(*index);
                match x.to_bits() >> 23 {
                    _ if x <= 0.0 => 0,
                    exponent @ 2.. => {
                        let below = (exponent as i32 + 1).min(self.last());
                        if above(&below) { (below + 1).min(self.last()) } else { below }
                    }
                    _ => (0..3).take_while(above).count() as i32,
                }
            }
            Self::Ue4m3 => {
                let doubled = (2.0 * x).clamp(0.0, 448.0);
                // Up to 2^-5 the doubled members are multiples of 2^-9; above that, three bits of mantissa remain.
                if doubled < 1.0 / 32.0 {
                    (doubled * 512.0).round_ties_even() as i32
                } else {
                    let bits = doubled.to_bits() as i32;
                    ((bits + 0x7_ffff + (bits >> 20 & 1)) >> 20) - (120 << 3)
                }
            }
        }
    }

    /// Returns the member at `index`, or the end of the set for indices beyond it.
    pub(crate) fn member(self, index: i32) -> f32 {
        match self {
            Self::F16 => {
                let magnitude = f16::from_bits(index.abs().min(self.last()) as u16).to_f32();
                if index < 0 { -magnitude } else { magnitude }
            }
            Self::E8M0 => match index.clamp(0, self.last()) {
                subnormal @ 0..2 => f32::from_bits(0x0020_0000 << subnormal),
                exponent => f32::from_bits((exponent as u32 - 1) << 23),
            },
            Self::Ue4m3 => match index.clamp(0, self.last()) {
                subnormal @ 0..8 => subnormal as f32 / 1024.0,
                number => f32::from_bits(((number as u32) << 20) + (119 << 23)),
            },
        }
    }

    /// Returns the index of the largest member.
    fn last(self) -> i32 {
        match self {
            Self::F16 => 0x7bff,
            Self::E8M0 => 252,
            Self::Ue4m3 => 0x7e,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(float: Float) -> i32 {
        if float == Float::F16 { -float.last() } else { 0 }
    }

    #[test]
    fn members_ascend_and_are_nearest_to_themselves() {
        for float in [Float::F16, Float::E8M0, Float::Ue4m3] {
            for index in first(float)..=float.last() {
                let member = float.member(index);
                assert_eq!(float.nearest_index(member), index, "{float:?} {member}");
                let [same, below, above] = float.neighbours(member);
                assert_eq!(same, member);
                assert_eq!(below < member, index > first(float), "{float:?} {member}");
                assert_eq!(above > member, index < float.last(), "{float:?} {member}");
            }
        }
    }

    #[test]
    fn numbers_between_members_go_to_the_nearer() {
        for float in [Float::F16, Float::E8M0, Float::Ue4m3] {
            for index in first(float)..float.last() {
                let (below, above) = (float.member(index), float.member(index + 1));
                assert_eq!(float.nearest(below + 0.49 * (above - below)), below, "{float:?} {below}");
                assert_eq!(float.nearest(below + 0.51 * (above - below)), above, "{float:?} {below}");
            }
        }
    }

    #[test]
    fn beyond_the_range_is_the_end() {
        for x in [1e38, f32::INFINITY] {
            assert_eq!([Float::F16, Float::Ue4m3].map(|float| float.nearest(x)), [65504.0, 224.0]);
            assert_eq!(Float::F16.nearest(-x), -65504.0);
            assert_eq!([Float::E8M0, Float::Ue4m3].map(|float| float.nearest(-x)), [2f32.powi(-128), 0.0]);
        }
        assert_eq!(Float::E8M0.nearest(f32::MAX), 2f32.powi(124));
        assert_eq!(Float::E8M0.nearest(f32::INFINITY), 2f32.powi(124));
        assert_eq!(Float::F16.nearest(f32::NAN), 0.0);
    }
}
