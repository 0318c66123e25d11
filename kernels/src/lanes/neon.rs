//! The implementation of [`Simd`] by NEON: 4 numbers in a vector of 128 bits. Every aarch64 processor has it.
//!
//! It repeats the shape of `avx2.rs`, which a macro over intrinsics would hide rather than share: the two sets of
//! intrinsics differ in the order of operands, in the types of masks and in what needs a feature.

use std::arch::aarch64::*;
use std::ops::{Add, BitAnd, BitOr, Div, Mul, Neg, Not, Sub};

use super::Simd;
use crate::block::fit::integer::{BITS_OF_MAGIC, MAGIC, MANTISSA, MANTISSA_OF_MAGIC};

#[derive(Clone, Copy)]
pub(crate) struct Neon(float32x4_t);

/// A condition for each lane: all bits of the lane are set, or none.
#[derive(Clone, Copy)]
pub(crate) struct Mask4(uint32x4_t);

macro_rules! operator {
    ($type:ident, $trait:ident, $method:ident, $instruction:ident) => {
        impl $trait for $type {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: NEON is part of aarch64.
                Self(unsafe { $instruction(self.0, other.0) })
            }
        }
    };
}

operator!(Neon, Add, add, vaddq_f32);
operator!(Neon, Sub, sub, vsubq_f32);
operator!(Neon, Mul, mul, vmulq_f32);
operator!(Neon, Div, div, vdivq_f32);
operator!(Mask4, BitAnd, bitand, vandq_u32);
operator!(Mask4, BitOr, bitor, vorrq_u32);

impl Neg for Neon {
    type Output = Self;

    #[inline(always)]
    fn neg(self) -> Self {
        // SAFETY: NEON is part of aarch64.
        Self(unsafe { vnegq_f32(self.0) })
    }
}

impl Not for Mask4 {
    type Output = Self;

    #[inline(always)]
    fn not(self) -> Self {
        // SAFETY: NEON is part of aarch64.
        Self(unsafe { vmvnq_u32(self.0) })
    }
}

impl Simd for Neon {
    const WIDTH: usize = 4;

    type Mask = Mask4;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: NEON is part of aarch64.
        Self(unsafe { vdupq_n_f32(value) })
    }

    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        let from = &from[..Self::WIDTH];
        // SAFETY: the slice has 4 numbers.
        Self(unsafe { vld1q_f32(from.as_ptr()) })
    }

    #[inline(always)]
    fn from_bytes(from: &[u8]) -> Self {
        let from = &from[..Self::WIDTH];
        let wide: [u32; 4] = std::array::from_fn(|i| from[i].into());
        // SAFETY: the array has 4 numbers.
        Self(unsafe { vcvtq_f32_u32(vld1q_u32(wide.as_ptr())) })
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        let to = &mut to[..Self::WIDTH];
        // SAFETY: the slice has room for 4 numbers.
        unsafe { vst1q_f32(to.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    fn fused(self, times: Self, plus: Self) -> Self {
        // SAFETY: NEON is part of aarch64.
        Self(unsafe { vfmaq_f32(plus.0, self.0, times.0) })
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: NEON is part of aarch64.
        Self(unsafe { vsqrtq_f32(self.0) })
    }

    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: NEON is part of aarch64.
        Self(unsafe { vabsq_f32(self.0) })
    }

    #[inline(always)]
    fn or_larger(self, other: Self) -> Self {
        // The instruction for maxima would return NaN where either is NaN.
        Self::select(other.less(self), self, other)
    }

    #[inline(always)]
    fn less(self, other: Self) -> Mask4 {
        // SAFETY: NEON is part of aarch64.
        Mask4(unsafe { vcltq_f32(self.0, other.0) })
    }

    #[inline(always)]
    fn equals(self, other: Self) -> Mask4 {
        // SAFETY: NEON is part of aarch64.
        Mask4(unsafe { vceqq_f32(self.0, other.0) })
    }

    #[inline(always)]
    fn select(mask: Mask4, yes: Self, no: Self) -> Self {
        // SAFETY: NEON is part of aarch64.
        Self(unsafe { vbslq_f32(mask.0, yes.0, no.0) })
    }

    #[inline(always)]
    fn any(mask: Mask4) -> bool {
        // SAFETY: NEON is part of aarch64.
        unsafe { vmaxvq_u32(mask.0) != 0 }
    }

    #[inline(always)]
    fn bits(mask: Mask4) -> u32 {
        const PLACES: [u32; Neon::WIDTH] = [1, 2, 4, 8];
        // SAFETY: NEON is part of aarch64; there are four places.
        unsafe { vaddvq_u32(vandq_u32(mask.0, vld1q_u32(PLACES.as_ptr()))) }
    }

    #[inline(always)]
    fn zipped(self, other: Self) -> (Self, Self) {
        // SAFETY: NEON is part of aarch64.
        unsafe { (Self(vzip1q_f32(self.0, other.0)), Self(vzip2q_f32(self.0, other.0))) }
    }

    #[inline(always)]
    fn least(self) -> (f32, usize) {
        let mut lanes = [0.0; Self::WIDTH];
        self.store(&mut lanes);
        let mut place = 0;
        for (i, lane) in lanes.iter().enumerate() {
            place = if *lane < lanes[place] { i } else { place };
        }
        (lanes[place], place)
    }

    #[inline(always)]
    fn nearest_int(self, low: i32, high: i32) -> Self {
        // SAFETY: NEON is part of aarch64.
        Self(unsafe {
            let bits = vreinterpretq_s32_f32(vaddq_f32(self.0, vdupq_n_f32(MAGIC)));
            let field = vandq_s32(bits, vdupq_n_s32(MANTISSA.cast_signed()));
            let integer = vsubq_s32(field, vdupq_n_s32(MANTISSA_OF_MAGIC));
            vcvtq_f32_s32(vminq_s32(vmaxq_s32(integer, vdupq_n_s32(low)), vdupq_n_s32(high)))
        })
    }

    #[inline(always)]
    fn nearest_small_int(self, low: i32, high: i32) -> Self {
        // SAFETY: NEON is part of aarch64.
        Self(unsafe {
            let magic = vdupq_n_f32(MAGIC);
            let bits = vreinterpretq_s32_f32(vaddq_f32(self.0, magic));
            let bits = vmaxq_s32(bits, vdupq_n_s32(BITS_OF_MAGIC + low));
            let bits = vminq_s32(bits, vdupq_n_s32(BITS_OF_MAGIC + high));
            vsubq_f32(vreinterpretq_f32_s32(bits), magic)
        })
    }

    #[inline(always)]
    fn low_byte(self) -> Self {
        // SAFETY: NEON is part of aarch64.
        Self(unsafe { vcvtq_f32_s32(vandq_s32(vcvtq_s32_f32(self.0), vdupq_n_s32(0xff))) })
    }
}
