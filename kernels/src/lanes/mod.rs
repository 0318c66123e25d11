//! Numbers side by side, each computing on its own: how the encoders are fast without changing a byte.
//!
//! A search is written once, for any [`Lanes`], and puts one group of weights into each lane. Every lane then does the
//! same operations in the same order as one number alone (`f32` has one lane: that instance is the definition), so that
//! all instruction sets give the same bits. Nothing is reordered, and only what says so is fused.
//!
//! | implementation | lanes |
//! |---|---|
//! | `f32` | 1 |
//! | `Neon` | 4 |
//! | `Avx2` | 8 |
//! | `Avx512` | 16 |

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

/// The most lanes that an implementation has.
pub(crate) const MOST: usize = 16;

/// A vector of f32. All operations are those of IEEE 754, lane by lane.
pub(crate) trait Lanes:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> + Neg<Output = Self>
{
    /// How many.
    const LANES: usize;

    /// A choice for each lane.
    type Mask: Copy + BitAnd<Output = Self::Mask> + BitOr<Output = Self::Mask> + Not<Output = Self::Mask>;

    /// `value` in every lane.
    fn splat(value: f32) -> Self;

    /// The first [`LANES`](Self::LANES) numbers of `from`. Panics if there are less.
    fn load(from: &[f32]) -> Self;

    /// The first [`LANES`](Self::LANES) bytes of `from` as numbers. Panics if there are less.
    fn from_bytes(from: &[u8]) -> Self;

    /// Writes the lanes to the start of `to`. Panics if there is less room.
    fn store(self, to: &mut [f32]);

    /// `self * times + plus`, rounded once.
    fn fused(self, times: Self, plus: Self) -> Self;

    fn sqrt(self) -> Self;

    fn abs(self) -> Self;

    /// `self` where it is larger than `other`, else `other`, as also where one is NaN.
    fn or_larger(self, other: Self) -> Self;

    /// `self < other`: not so where one is NaN.
    fn less(self, other: Self) -> Self::Mask;

    /// `self == other`: not so where one is NaN.
    fn equals(self, other: Self) -> Self::Mask;

    /// `yes` where `mask` is set, else `no`.
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self;

    /// Whether `mask` is set in any lane.
    fn any(mask: Self::Mask) -> bool;

    /// A bit for each lane, that of the first lane lowest: whether `mask` is set there.
    fn bits(mask: Self::Mask) -> u32;

    /// The lanes of both in turn, `self` first: the first half of them, and the second. One lane has no halves.
    fn zipped(self, other: Self) -> (Self, Self);

    /// The least lane and its place, the first of equals. None is NaN.
    fn least(self) -> (f32, usize);

    /// [`nearest_int`](crate::block::fit::rounding::nearest_int), clamped to `low..=high`.
    fn nearest_int(self, low: i32, high: i32) -> Self;

    /// The same, faster, for magnitudes below 2^22.
    fn nearest_small_int(self, low: i32, high: i32) -> Self;

    /// The low byte of an integer of less than 32 bits, as a number from 0 to 255.
    fn low_byte(self) -> Self;
}

/// Element `e` of up to [`Lanes::LANES`] groups in the lanes of number `e`. Where groups are missing the last one is
/// repeated.
#[inline(always)]
pub(crate) fn transposed<V: Lanes, const N: usize>(groups: &[[f32; N]]) -> [V; N] {
    let mut columns = [V::splat(0.0); N];
    let whole = N - N % V::LANES;
    for first in (0..whole).step_by(V::LANES) {
        let mut square = [V::splat(0.0); MOST];
        for lane in 0..V::LANES {
            square[lane] = V::load(&groups[lane.min(groups.len() - 1)][first..]);
        }
        turn(&mut square);
        columns[first..first + V::LANES].copy_from_slice(&square[..V::LANES]);
    }
    for e in whole..N {
        let mut column = [0.0; MOST];
        for lane in 0..V::LANES {
            column[lane] = groups[lane.min(groups.len() - 1)][e];
        }
        columns[e] = V::load(&column);
    }
    columns
}

/// Transposes the first [`Lanes::LANES`] of `rows`: each step zips the rows of both halves, which turns the bits of an
/// element's place, row and column, by one.
#[inline(always)]
fn turn<V: Lanes>(rows: &mut [V; MOST]) {
    let half = V::LANES / 2;
    for _ in 0..V::LANES.trailing_zeros() {
        let before = *rows;
        for i in 0..half {
            (rows[2 * i], rows[2 * i + 1]) = before[i].zipped(before[i + half]);
        }
    }
}

/// The first numbers of `from`; the last one is repeated where there are less than lanes.
#[inline(always)]
pub(crate) fn from_slice<V: Lanes>(from: &[f32]) -> V {
    let mut buffer = [0.0; MOST];
    for (lane, value) in buffer.iter_mut().enumerate() {
        *value = from[lane.min(from.len() - 1)];
    }
    V::load(&buffer)
}

/// Writes as many lanes as `to` has room for.
#[inline(always)]
pub(crate) fn to_slice<V: Lanes>(lanes: V, to: &mut [f32]) {
    let mut buffer = [0.0; MOST];
    lanes.store(&mut buffer);
    let count = to.len().min(V::LANES);
    to[..count].copy_from_slice(&buffer[..count]);
}

/// Compiles a function, generic over the [`Lanes`] called `V`, once per instruction set: `fn name<V>(arguments)` gives
/// `name`, whose first argument is the [`Isa`](crate::isa::Isa) to run on.
///
/// What the body calls is compiled with it only when `#[inline(always)]`, and not when it is called through an argument.
macro_rules! in_lanes {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$v:ident>($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        $vis fn $name(isa: $crate::isa::Isa, $($arg: $type),*) {
            #[inline(always)]
            fn generic<$v: $crate::lanes::Lanes>($($arg: $type),*) $body

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
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Level::Avx512 => unsafe { avx512($($arg),*) },
            }
        }
    };
}
pub(crate) use in_lanes;
