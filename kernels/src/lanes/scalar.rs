//! The implementation of [`Simd`] for one number, which defines what the others compute.

use super::Simd;
use crate::block::fit::integer::{BITS_OF_MAGIC, MAGIC, nearest_int};

impl Simd for f32 {
    const WIDTH: usize = 1;

    type Mask = bool;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        value
    }

    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        let from = &from[..Self::WIDTH];
        from[0]
    }

    #[inline(always)]
    fn from_bytes(from: &[u8]) -> Self {
        f32::from(from[0])
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        let to = &mut to[..Self::WIDTH];
        to[0] = self;
    }

    #[inline(always)]
    fn fused(self, times: Self, plus: Self) -> Self {
        self.mul_add(times, plus)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn abs(self) -> Self {
        self.abs()
    }

    #[inline(always)]
    fn or_larger(self, other: Self) -> Self {
        if self > other { self } else { other }
    }

    #[inline(always)]
    fn less(self, other: Self) -> bool {
        self < other
    }

    #[inline(always)]
    fn equals(self, other: Self) -> bool {
        self == other
    }

    #[inline(always)]
    fn select(mask: bool, yes: Self, no: Self) -> Self {
        if mask { yes } else { no }
    }

    #[inline(always)]
    fn any(mask: bool) -> bool {
        mask
    }

    #[inline(always)]
    fn bits(mask: bool) -> u32 {
        mask.into()
    }

    #[inline(always)]
    fn zipped(self, other: Self) -> (Self, Self) {
        (self, other)
    }

    #[inline(always)]
    fn least(self) -> (f32, usize) {
        (self, 0)
    }

    #[inline(always)]
    fn nearest_int(self, low: i32, high: i32) -> Self {
        nearest_int(self).clamp(low, high) as f32
    }

    #[inline(always)]
    fn nearest_small_int(self, low: i32, high: i32) -> Self {
        let bits = (self + MAGIC).to_bits().cast_signed();
        f32::from_bits(bits.clamp(BITS_OF_MAGIC + low, BITS_OF_MAGIC + high).cast_unsigned()) - MAGIC
    }

    #[inline(always)]
    fn low_byte(self) -> Self {
        f32::from(self as i32 as u8)
    }
}
