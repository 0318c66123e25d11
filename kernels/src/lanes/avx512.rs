//! The implementation of [`Simd`] by AVX-512: 16 numbers in a vector of 512 bits.
//!
//! Values of this type are made only by functions that [`in_lanes`](super::in_lanes) compiles for AVX-512 and that run
//! only where the instructions were detected. Every `SAFETY` comment in this file rests on that.

use std::arch::x86_64::*;
use std::ops::{Add, BitAnd, BitOr, Div, Mul, Neg, Not, Sub};

use super::Simd;
use crate::block::fit::integer::{BITS_OF_MAGIC, MAGIC, MANTISSA, MANTISSA_OF_MAGIC};

#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m512);

/// A condition for each lane, as one bit.
#[derive(Clone, Copy)]
pub(crate) struct Mask16(__mmask16);

macro_rules! operator {
    ($trait:ident, $method:ident, $instruction:ident) => {
        impl $trait for Avx512 {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: AVX-512F, see the top of the file.
                Self(unsafe { $instruction(self.0, other.0) })
            }
        }
    };
}

operator!(Add, add, _mm512_add_ps);
operator!(Sub, sub, _mm512_sub_ps);
operator!(Mul, mul, _mm512_mul_ps);
operator!(Div, div, _mm512_div_ps);

impl Neg for Avx512 {
    type Output = Self;

    #[inline(always)]
    fn neg(self) -> Self {
        // SAFETY: AVX-512DQ, see the top of the file.
        Self(unsafe { _mm512_xor_ps(self.0, _mm512_set1_ps(-0.0)) })
    }
}

impl BitAnd for Mask16 {
    type Output = Self;

    #[inline(always)]
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for Mask16 {
    type Output = Self;

    #[inline(always)]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Not for Mask16 {
    type Output = Self;

    #[inline(always)]
    fn not(self) -> Self {
        Self(!self.0)
    }
}

impl Simd for Avx512 {
    const WIDTH: usize = 16;

    type Mask = Mask16;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: AVX-512F, see the top of the file.
        Self(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        let from = &from[..Self::WIDTH];
        // SAFETY: AVX-512F; the slice has 16 numbers.
        Self(unsafe { _mm512_loadu_ps(from.as_ptr()) })
    }

    #[inline(always)]
    fn from_bytes(from: &[u8]) -> Self {
        let from = &from[..Self::WIDTH];
        // SAFETY: AVX-512F; the slice has 16 bytes.
        Self(unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.as_ptr().cast()))) })
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        let to = &mut to[..Self::WIDTH];
        // SAFETY: AVX-512F; the slice has room for 16 numbers.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    fn fused(self, times: Self, plus: Self) -> Self {
        // SAFETY: AVX-512F, see the top of the file.
        Self(unsafe { _mm512_fmadd_ps(self.0, times.0, plus.0) })
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: AVX-512F, see the top of the file.
        Self(unsafe { _mm512_sqrt_ps(self.0) })
    }

    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: AVX-512F, see the top of the file.
        Self(unsafe { _mm512_abs_ps(self.0) })
    }

    #[inline(always)]
    fn or_larger(self, other: Self) -> Self {
        // SAFETY: AVX-512F, see the top of the file.
        Self(unsafe { _mm512_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn less(self, other: Self) -> Mask16 {
        // SAFETY: AVX-512F, see the top of the file.
        Mask16(unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, other.0) })
    }

    #[inline(always)]
    fn equals(self, other: Self) -> Mask16 {
        // SAFETY: AVX-512F, see the top of the file.
        Mask16(unsafe { _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(self.0, other.0) })
    }

    #[inline(always)]
    fn select(mask: Mask16, yes: Self, no: Self) -> Self {
        // SAFETY: AVX-512F, see the top of the file.
        Self(unsafe { _mm512_mask_blend_ps(mask.0, no.0, yes.0) })
    }

    #[inline(always)]
    fn any(mask: Mask16) -> bool {
        mask.0 != 0
    }

    #[inline(always)]
    fn bits(mask: Mask16) -> u32 {
        mask.0.into()
    }

    #[inline(always)]
    fn zipped(self, other: Self) -> (Self, Self) {
        // SAFETY: AVX-512F, see the top of the file.
        unsafe {
            // Indices from 16 on mean lanes of `other`.
            let first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
            let lanes = |places| Self(_mm512_permutex2var_ps(self.0, places, other.0));
            (lanes(first), lanes(second))
        }
    }

    #[inline(always)]
    fn least(self) -> (f32, usize) {
        // SAFETY: AVX-512F, see the top of the file.
        unsafe {
            let least = _mm512_reduce_min_ps(self.0);
            let mask = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(self.0, _mm512_set1_ps(least));
            (least, mask.trailing_zeros() as usize)
        }
    }

    #[inline(always)]
    fn nearest_int(self, low: i32, high: i32) -> Self {
        // SAFETY: AVX-512F, see the top of the file.
        Self(unsafe {
            let bits = _mm512_castps_si512(_mm512_add_ps(self.0, _mm512_set1_ps(MAGIC)));
            let field = _mm512_and_si512(bits, _mm512_set1_epi32(MANTISSA.cast_signed()));
            let integer = _mm512_sub_epi32(field, _mm512_set1_epi32(MANTISSA_OF_MAGIC));
            let bounded =
                _mm512_min_epi32(_mm512_max_epi32(integer, _mm512_set1_epi32(low)), _mm512_set1_epi32(high));
            _mm512_cvtepi32_ps(bounded)
        })
    }

    #[inline(always)]
    fn nearest_small_int(self, low: i32, high: i32) -> Self {
        // SAFETY: AVX-512F, see the top of the file.
        Self(unsafe {
            let magic = _mm512_set1_ps(MAGIC);
            let bits = _mm512_castps_si512(_mm512_add_ps(self.0, magic));
            let bits = _mm512_max_epi32(bits, _mm512_set1_epi32(BITS_OF_MAGIC + low));
            let bits = _mm512_min_epi32(bits, _mm512_set1_epi32(BITS_OF_MAGIC + high));
            _mm512_sub_ps(_mm512_castsi512_ps(bits), magic)
        })
    }

    #[inline(always)]
    fn low_byte(self) -> Self {
        // SAFETY: AVX-512F, see the top of the file.
        Self(unsafe {
            let integer = _mm512_cvttps_epi32(self.0);
            _mm512_cvtepi32_ps(_mm512_and_si512(integer, _mm512_set1_epi32(0xff)))
        })
    }
}
