//! The implementation of [`Simd`] by AVX2: 8 numbers in a vector of 256 bits.
//!
//! Values of this type are made only by functions that [`in_lanes`](super::in_lanes) compiles for AVX2 and that run
//! only where the instructions were detected. Every `SAFETY` comment in this file rests on that.

use std::arch::x86_64::*;
use std::ops::{Add, BitAnd, BitOr, Div, Mul, Neg, Not, Sub};

use super::Simd;
use crate::block::fit::integer::{BITS_OF_MAGIC, MAGIC, MANTISSA, MANTISSA_OF_MAGIC};

#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256);

/// A condition for each lane: all bits of the lane are set, or none.
#[derive(Clone, Copy)]
pub(crate) struct Mask8(__m256);

macro_rules! operator {
    ($type:ident, $trait:ident, $method:ident, $instruction:ident) => {
        impl $trait for $type {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: AVX, see the top of the file.
                Self(unsafe { $instruction(self.0, other.0) })
            }
        }
    };
}

operator!(Avx2, Add, add, _mm256_add_ps);
operator!(Avx2, Sub, sub, _mm256_sub_ps);
operator!(Avx2, Mul, mul, _mm256_mul_ps);
operator!(Avx2, Div, div, _mm256_div_ps);
operator!(Mask8, BitAnd, bitand, _mm256_and_ps);
operator!(Mask8, BitOr, bitor, _mm256_or_ps);

impl Neg for Avx2 {
    type Output = Self;

    #[inline(always)]
    fn neg(self) -> Self {
        // SAFETY: AVX, see the top of the file.
        Self(unsafe { _mm256_xor_ps(self.0, _mm256_set1_ps(-0.0)) })
    }
}

impl Not for Mask8 {
    type Output = Self;

    #[inline(always)]
    fn not(self) -> Self {
        // SAFETY: AVX2, see the top of the file.
        Self(unsafe { _mm256_xor_ps(self.0, _mm256_castsi256_ps(_mm256_set1_epi32(-1))) })
    }
}

impl Simd for Avx2 {
    const WIDTH: usize = 8;

    type Mask = Mask8;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: AVX, see the top of the file.
        Self(unsafe { _mm256_set1_ps(value) })
    }

    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        let from = &from[..Self::WIDTH];
        // SAFETY: AVX; the slice has 8 numbers.
        Self(unsafe { _mm256_loadu_ps(from.as_ptr()) })
    }

    #[inline(always)]
    fn from_bytes(from: &[u8]) -> Self {
        let from = &from[..Self::WIDTH];
        // SAFETY: AVX2; the slice has 8 bytes.
        Self(unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.as_ptr().cast()))) })
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        let to = &mut to[..Self::WIDTH];
        // SAFETY: AVX; the slice has room for 8 numbers.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    fn fused(self, times: Self, plus: Self) -> Self {
        // SAFETY: FMA, see the top of the file.
        Self(unsafe { _mm256_fmadd_ps(self.0, times.0, plus.0) })
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: AVX, see the top of the file.
        Self(unsafe { _mm256_sqrt_ps(self.0) })
    }

    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: AVX, see the top of the file.
        Self(unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0) })
    }

    #[inline(always)]
    fn or_larger(self, other: Self) -> Self {
        // SAFETY: AVX, see the top of the file.
        Self(unsafe { _mm256_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn less(self, other: Self) -> Mask8 {
        // SAFETY: AVX, see the top of the file.
        Mask8(unsafe { _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, other.0) })
    }

    #[inline(always)]
    fn equals(self, other: Self) -> Mask8 {
        // SAFETY: AVX, see the top of the file.
        Mask8(unsafe { _mm256_cmp_ps::<_CMP_EQ_OQ>(self.0, other.0) })
    }

    #[inline(always)]
    fn select(mask: Mask8, yes: Self, no: Self) -> Self {
        // SAFETY: AVX, see the top of the file.
        Self(unsafe { _mm256_blendv_ps(no.0, yes.0, mask.0) })
    }

    #[inline(always)]
    fn any(mask: Mask8) -> bool {
        // SAFETY: AVX, see the top of the file.
        unsafe { _mm256_movemask_ps(mask.0) != 0 }
    }

    #[inline(always)]
    fn bits(mask: Mask8) -> u32 {
        // SAFETY: AVX, see the top of the file.
        unsafe { _mm256_movemask_ps(mask.0).cast_unsigned() }
    }

    #[inline(always)]
    fn zipped(self, other: Self) -> (Self, Self) {
        // SAFETY: AVX, see the top of the file.
        unsafe {
            // The instructions zip within each half of the vector, so that the halves are exchanged afterwards.
            let (even, odd) = (_mm256_unpacklo_ps(self.0, other.0), _mm256_unpackhi_ps(self.0, other.0));
            let first = _mm256_permute2f128_ps::<0x20>(even, odd);
            (Self(first), Self(_mm256_permute2f128_ps::<0x31>(even, odd)))
        }
    }

    #[inline(always)]
    fn least(self) -> (f32, usize) {
        // SAFETY: AVX, see the top of the file.
        unsafe {
            let halves = _mm_min_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let pairs = _mm_min_ps(halves, _mm_movehl_ps(halves, halves));
            let least = _mm_cvtss_f32(_mm_min_ss(pairs, _mm_movehdup_ps(pairs)));
            let mask = _mm256_cmp_ps::<_CMP_EQ_OQ>(self.0, _mm256_set1_ps(least));
            (least, _mm256_movemask_ps(mask).trailing_zeros() as usize)
        }
    }

    #[inline(always)]
    fn nearest_int(self, low: i32, high: i32) -> Self {
        // SAFETY: AVX2, see the top of the file.
        Self(unsafe {
            let bits = _mm256_castps_si256(_mm256_add_ps(self.0, _mm256_set1_ps(MAGIC)));
            let field = _mm256_and_si256(bits, _mm256_set1_epi32(MANTISSA.cast_signed()));
            let integer = _mm256_sub_epi32(field, _mm256_set1_epi32(MANTISSA_OF_MAGIC));
            let bounded =
                _mm256_min_epi32(_mm256_max_epi32(integer, _mm256_set1_epi32(low)), _mm256_set1_epi32(high));
            _mm256_cvtepi32_ps(bounded)
        })
    }

    #[inline(always)]
    fn nearest_small_int(self, low: i32, high: i32) -> Self {
        // SAFETY: AVX2, see the top of the file.
        Self(unsafe {
            let magic = _mm256_set1_ps(MAGIC);
            let bits = _mm256_castps_si256(_mm256_add_ps(self.0, magic));
            let bits = _mm256_max_epi32(bits, _mm256_set1_epi32(BITS_OF_MAGIC + low));
            let bits = _mm256_min_epi32(bits, _mm256_set1_epi32(BITS_OF_MAGIC + high));
            _mm256_sub_ps(_mm256_castsi256_ps(bits), magic)
        })
    }

    #[inline(always)]
    fn low_byte(self) -> Self {
        // SAFETY: AVX2, see the top of the file.
        Self(unsafe {
            let integer = _mm256_cvttps_epi32(self.0);
            _mm256_cvtepi32_ps(_mm256_and_si256(integer, _mm256_set1_epi32(0xff)))
        })
    }
}
