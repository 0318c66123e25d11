//! Vectors of f32 whose lanes compute independently: they make the encoders fast without changing a byte.
//!
//! A search is written once, for any [`Simd`], and puts one group of weights into each lane. Every lane then does the
//! same operations in the same order as a single number would. The implementation for `f32`, which has one lane, is the
//! definition, and all instruction sets give its bits: no operation is reordered, and only [`Simd::fused`] is fused.
//!
//! | implementation | lanes |
//! |---|---|
//! | `f32` | 1 |
//! | `Neon` | 4 |
//! | `Avx2` | 8 |
//! | `Avx512` | 16 |
//!
//! Elements of a group in the lanes, instead of groups, would need sums that run across lanes, whose order depends on
//! their number. Two vectors at once, so that one computes while the other waits, gave 3 % and filled less of the lanes
//! at the end of a row: not taken.

mod scalar;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;

use std::ops::{Add, BitAnd, BitOr, Div, Mul, Neg, Not, Sub};

#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
#[cfg(target_arch = "x86_64")]
pub(crate) use {avx2::Avx2, avx512::Avx512};

/// The number of lanes of the widest implementation.
pub(crate) const MOST: usize = 16;

/// A vector of f32. All operations are those of IEEE 754, applied to each lane by itself.
pub(crate) trait Simd:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> + Neg<Output = Self>
{
    /// The number of lanes.
    const WIDTH: usize;

    /// A condition for each lane.
    type Mask: Copy + BitAnd<Output = Self::Mask> + BitOr<Output = Self::Mask> + Not<Output = Self::Mask>;

    /// Returns `value` in every lane.
    fn splat(value: f32) -> Self;

    /// Loads the first [`WIDTH`](Self::WIDTH) numbers of `from`. Panics if there are fewer.
    fn load(from: &[f32]) -> Self;

    /// Loads the first [`WIDTH`](Self::WIDTH) bytes of `from` as numbers. Panics if there are fewer.
    fn from_bytes(from: &[u8]) -> Self;

    /// Writes the lanes to the start of `to`. Panics if there is less room.
    fn store(self, to: &mut [f32]);

    /// Returns `self * times + plus`, rounded once.
    fn fused(self, times: Self, plus: Self) -> Self;

    /// Returns the square root.
    fn sqrt(self) -> Self;

    /// Returns the magnitude.
    fn abs(self) -> Self;

    /// Returns `self` where it is larger than `other`, else `other`, which is also taken where either is NaN.
    fn or_larger(self, other: Self) -> Self;

    /// Returns where `self < other`, which is false where either is NaN.
    fn less(self, other: Self) -> Self::Mask;

    /// Returns where `self == other`, which is false where either is NaN.
    fn equals(self, other: Self) -> Self::Mask;

    /// Returns `yes` where `mask` is set, else `no`.
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self;

    /// Returns true if `mask` is set in any lane.
    fn any(mask: Self::Mask) -> bool;

    /// Returns `mask` as bits, the first lane lowest.
    fn bits(mask: Self::Mask) -> u32;

    /// Interleaves the lanes of both, `self` first, and returns the first and the second half of the result. An
    /// implementation with one lane returns both as they are.
    fn zipped(self, other: Self) -> (Self, Self);

    /// Returns the least value and its lane, the first one of equals. No lane may be NaN.
    fn least(self) -> (f32, usize);

    /// Returns [`nearest_int`](crate::block::fit::integer::nearest_int), clamped to `low..=high`, as f32.
    fn nearest_int(self, low: i32, high: i32) -> Self;

    /// Returns the same as [`nearest_int`](Self::nearest_int), faster, for magnitudes below 2^22: four instructions
    /// instead of six.
    fn nearest_small_int(self, low: i32, high: i32) -> Self;

    /// Returns the low byte of an integer that fits in an i32, as a number from 0 to 255.
    fn low_byte(self) -> Self;
}

/// Transposes up to [`Simd::WIDTH`] groups: vector `e` of the result holds element `e` of each group. The last group
/// is repeated in the lanes that are left.
///
/// Zips in registers in place of stores and loads gave Q3_K a fifth, Q4_K 4 %, Q2_K 6 % and Q6_K 7 %.
#[inline(always)]
pub(crate) fn transposed<V: Simd, const N: usize>(groups: &[[f32; N]]) -> [V; N] {
    let mut columns = [V::splat(0.0); N];
    let whole = N - N % V::WIDTH;
    for first in (0..whole).step_by(V::WIDTH) {
        let mut square = [V::splat(0.0); MOST];
        for lane in 0..V::WIDTH {
            square[lane] = V::load(&groups[lane.min(groups.len() - 1)][first..]);
        }
        transpose_square(&mut square);
        columns[first..first + V::WIDTH].copy_from_slice(&square[..V::WIDTH]);
    }
    for e in whole..N {
        let mut column = [0.0; MOST];
        for lane in 0..V::WIDTH {
            column[lane] = groups[lane.min(groups.len() - 1)][e];
        }
        columns[e] = V::load(&column);
    }
    columns
}

/// Transposes the square of the first [`Simd::WIDTH`] of `rows`. Each step zips the rows of both halves, which rotates
/// the bits of an element's index (row, then column) by one place.
#[inline(always)]
fn transpose_square<V: Simd>(rows: &mut [V; MOST]) {
    let half = V::WIDTH / 2;
    for _ in 0..V::WIDTH.trailing_zeros() {
        let before = *rows;
        for i in 0..half {
            (rows[2 * i], rows[2 * i + 1]) = before[i].zipped(before[i + half]);
        }
    }
}

/// Loads the first numbers of `from`; the last number is repeated in the lanes that are left.
#[inline(always)]
pub(crate) fn from_slice<V: Simd>(from: &[f32]) -> V {
    let mut buffer = [0.0; MOST];
    for (lane, value) in buffer.iter_mut().enumerate() {
        *value = from[lane.min(from.len() - 1)];
    }
    V::load(&buffer)
}

/// Writes the first lanes to `to`, as many as it has room for.
#[inline(always)]
pub(crate) fn to_slice<V: Simd>(lanes: V, to: &mut [f32]) {
    let mut buffer = [0.0; MOST];
    lanes.store(&mut buffer);
    let count = to.len().min(V::WIDTH);
    to[..count].copy_from_slice(&buffer[..count]);
}

/// Compiles a function, generic over the [`Simd`] called `V`, once per instruction set: `fn name<V>(arguments)` gives
/// `name`, whose first argument is the [`Isa`](crate::isa::Isa) to run on.
///
/// Functions that the body calls are compiled with it only if they are `#[inline(always)]` and not called through an
/// argument. `popcnt` is part of both x86-64 levels because `count_ones` is a dozen instructions without it.
macro_rules! in_lanes {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$v:ident>($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        $vis fn $name(isa: $crate::isa::Isa, $($arg: $type),*) {
            #[inline(always)]
            fn generic<$v: $crate::lanes::Simd>($($arg: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,popcnt")]
            fn avx2($($arg: $type),*) {
                generic::<$crate::lanes::Avx2>($($arg),*);
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,popcnt")]
            fn avx512($($arg: $type),*) {
                generic::<$crate::lanes::Avx512>($($arg),*);
            }

            match isa.level() {
                $crate::isa::Level::Scalar => generic::<f32>($($arg),*),
                #[cfg(target_arch = "aarch64")]
                $crate::isa::Level::Neon => generic::<$crate::lanes::Neon>($($arg),*),
                // SAFETY: an `Isa` of this level exists only where its instructions were detected.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Level::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: an `Isa` of this level exists only where its instructions were detected.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Level::Avx512 => unsafe { avx512($($arg),*) },
            }
        }
    };
}
pub(crate) use in_lanes;
