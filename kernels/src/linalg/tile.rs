//! The inner loop of all products: a tile of the left factor times a panel of the right one.

use super::PANEL;
use crate::isa::{Isa, Level};

/// Rows of the largest tile: with a panel's two vectors each they fill most of AVX-512's registers.
pub(super) const TILE: usize = 12;

/// Adds a tile's products to `sums`: `a` `[k][M]`, `b` `[k][32]`. Every sum is one chain of fused multiply-adds over k in
/// its order. The tile's shape is fit to the registers there are.
pub(crate) fn tile_on<const M: usize>(
    isa: Isa,
    a: &[[f32; M]],
    b: &[[f32; PANEL]],
    sums: &mut [[f32; PANEL]; M],
) {
    /// 12 x 32 sums are 24 vectors of 32. Apart from [`part`], whose ranges cost this shape half its speed.
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

    /// 6 x 16 sums are 12 vectors of 16.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn avx2<const M: usize>(a: &[[f32; M]], b: &[[f32; PANEL]], sums: &mut [[f32; PANEL]; M]) {
        parts(a, b, sums);
    }

    match isa.level() {
        Level::Scalar => parts(a, b, sums),
        #[cfg(target_arch = "aarch64")]
        Level::Neon => parts(a, b, sums),
        // SAFETY: an `Isa` of this level exists only where its instructions were detected.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { avx2(a, b, sums) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512(a, b, sums) },
    }
}

/// [`part`] by [`part`], for machines with few registers.
#[inline(always)]
fn parts<const M: usize>(a: &[[f32; M]], b: &[[f32; PANEL]], sums: &mut [[f32; PANEL]; M]) {
    const LANES: usize = 16;
    for lane in (0..PANEL).step_by(LANES) {
        if M.is_multiple_of(6) {
            (0..M).step_by(6).for_each(|row| part::<M, 6, LANES>(a, b, sums, row, lane));
        } else if M.is_multiple_of(4) {
            (0..M).step_by(4).for_each(|row| part::<M, 4, LANES>(a, b, sums, row, lane));
        } else {
            (0..M).for_each(|row| part::<M, 1, LANES>(a, b, sums, row, lane));
        }
    }
}

/// The `R` rows from `row` on and the `L` columns from `lane` on of a tile: plain arrays, which the compiler keeps in
/// vector registers.
#[inline(always)]
fn part<const M: usize, const R: usize, const L: usize>(
    a: &[[f32; M]],
    b: &[[f32; PANEL]],
    sums: &mut [[f32; PANEL]; M],
    row: usize,
    lane: usize,
) {
    let mut part: [[f32; L]; R] = std::array::from_fn(|r| std::array::from_fn(|l| sums[row + r][lane + l]));
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (&a[row..row + R], &b[lane..lane + L]);
        for r in 0..R {
            for l in 0..L {
                part[r][l] = a[r].mul_add(b[l], part[r][l]);
            }
        }
    }
    for (r, part) in part.iter().enumerate() {
        sums[row + r][lane..lane + L].copy_from_slice(part);
    }
}
