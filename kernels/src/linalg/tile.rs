//! The inner loop of all products: a tile of the left factor times a panel of the right one.
//!
//! Sums stay in registers while the loop runs over the inputs. By AVX-512 a tile of 12 x 32 reaches 106 to 116
//! GFLOP/s (peak 117); a tile of 8 x 48 was not vectorised by the compiler (2.7), and one addressed by ranges of rows
//! and lanes gave 40. By AVX2 6 x 16 sums give 83; plain loops in closures gave 0.8, because `mul_add` became a call.

use super::PANEL;
use crate::isa::{Isa, Level};
#[cfg(target_arch = "x86_64")]
use crate::lanes::Avx2;
#[cfg(target_arch = "aarch64")]
use crate::lanes::Neon;
use crate::lanes::Simd;

/// The rows of the largest tile. With a panel's two vectors each, their sums fill 24 of AVX-512's 32 registers.
pub(super) const TILE: usize = 12;

/// Adds a tile's products to `sums`: `a` is `[k][M]`, `b` is `[k][32]`. Every sum is one chain of fused multiply-adds
/// over k in its order. Where the registers do not hold the tile it is computed in parts.
pub(crate) fn tile_on<const M: usize>(
    isa: Isa,
    a: &[[f32; M]],
    b: &[[f32; PANEL]],
    sums: &mut [[f32; PANEL]; M],
) {
    /// Computes a tile of 12 x 32 sums in 24 of 32 registers. It does not use [`part`], whose ranges cost this shape
    /// half of its speed.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn avx512<const M: usize>(a: &[[f32; M]], b: &[[f32; PANEL]], sums: &mut [[f32; PANEL]; M]) {
        let mut kept = *sums;
        for (a, b) in a.iter().zip(b) {
            for r in 0..M {
                for l in 0..PANEL {
                    kept[r][l] = a[r].mul_add(b[l], kept[r][l]);
                }
            }
        }
        *sums = kept;
    }

    /// Computes parts of 6 x 16 sums in 12 of 16 registers.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn avx2<const M: usize>(a: &[[f32; M]], b: &[[f32; PANEL]], sums: &mut [[f32; PANEL]; M]) {
        parts::<Avx2, M, 2>(a, b, sums);
    }

    match isa.level() {
        Level::Scalar => parts::<f32, M, 16>(a, b, sums),
        #[cfg(target_arch = "aarch64")]
        // Parts of 6 x 16 sums take 24 of 32 registers.
        Level::Neon => parts::<Neon, M, 4>(a, b, sums),
        // SAFETY: an `Isa` of this level exists only where its instructions were detected.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { avx2(a, b, sums) },
        // SAFETY: an `Isa` of this level exists only where its instructions were detected.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512(a, b, sums) },
    }
}

/// Computes a tile in parts of 6, 4 or 1 rows and `C` vectors, for machines with few registers.
#[inline(always)]
fn parts<V: Simd, const M: usize, const C: usize>(
    a: &[[f32; M]],
    b: &[[f32; PANEL]],
    sums: &mut [[f32; PANEL]; M],
) {
    for lane in (0..PANEL).step_by(C * V::WIDTH) {
        if M.is_multiple_of(6) {
            for row in (0..M).step_by(6) {
                part::<V, M, 6, C>(a, b, sums, row, lane);
            }
        } else if M.is_multiple_of(4) {
            for row in (0..M).step_by(4) {
                part::<V, M, 4, C>(a, b, sums, row, lane);
            }
        } else {
            for row in 0..M {
                part::<V, M, 1, C>(a, b, sums, row, lane);
            }
        }
    }
}

/// Computes the part of a tile with the `R` rows from `row` on and the `C` vectors from column `lane` on.
#[inline(always)]
fn part<V: Simd, const M: usize, const R: usize, const C: usize>(
    a: &[[f32; M]],
    b: &[[f32; PANEL]],
    sums: &mut [[f32; PANEL]; M],
    row: usize,
    lane: usize,
) {
    let mut part = [[V::splat(0.0); C]; R];
    for r in 0..R {
        for c in 0..C {
            part[r][c] = V::load(&sums[row + r][lane + c * V::WIDTH..]);
        }
    }
    for (a, b) in a.iter().zip(b) {
        let mut columns = [V::splat(0.0); C];
        for c in 0..C {
            columns[c] = V::load(&b[lane + c * V::WIDTH..]);
        }
        for r in 0..R {
            let a = V::splat(a[row + r]);
            for c in 0..C {
                part[r][c] = a.fused(columns[c], part[r][c]);
            }
        }
    }
    for r in 0..R {
        for c in 0..C {
            part[r][c].store(&mut sums[row + r][lane + c * V::WIDTH..]);
        }
    }
}
