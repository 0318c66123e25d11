//! The nearest of the same points under one scale after another.
//!
//! The weighted squared distance of a point with coordinates q from x under the scale s is
//! `Σ w (s q - x)² = s² Σ w q² - 2 s Σ w x q + Σ w x²`: two sums of each point serve all scales. They are rounded otherwise than the
//! distance itself, which defines the nearest, so that they decide only where no other point comes near the least.

use super::points::{AT_ONCE, Odd, Run, nearest};
use crate::lanes::{Lanes, MOST};

/// Runs of the longest list whose sums are kept.
const RUNS: usize = 8;

/// What both ways of computing a distance can be off, of `s² q² Σ w + Σ w x²` with the largest q. Each step rounds by
/// 2^-24: 28 of them for the distance and 25 for the sums, of two points, come to 106.
const UNSURE: f32 = 128.0 / (1 << 24) as f32;
/// Where that sum lies for nothing to overflow, and for nothing that counts to be lost below the smallest numbers.
const SAFE: std::ops::Range<f32> = 1e-25..1e30;

/// Room for the sums of each point, used again for every list.
pub(super) struct Room {
    /// `Σ w x q`
    products: [f32; RUNS * AT_ONCE],
    /// `Σ w q²`; large where a run has no more points.
    squares: [f32; RUNS * AT_ONCE],
}

impl Room {
    pub(super) const NEW: Self = Self { products: [0.0; RUNS * AT_ONCE], squares: [0.0; RUNS * AT_ONCE] };
}

/// Points, and what is to be near them.
pub(super) struct Contenders<'a, const D: usize> {
    runs: &'a [Run<D>],
    x: &'a [f32; D],
    weights: &'a [f32; D],
    sums: &'a mut Room,
    /// `q² Σ w`, q the largest.
    most: f32,
    /// `Σ w x²`
    constant: f32,
}

impl<'a, const D: usize> Contenders<'a, D> {
    /// Sums up `count` points, whose coordinates are `top` at most.
    #[inline(always)]
    pub(super) fn new<V: Lanes>(
        (runs, count): (&'a [Run<D>], usize),
        x: &'a [f32; D],
        weights: &'a [f32; D],
        top: f32,
        sums: &'a mut Room,
    ) -> Self {
        let (mut most, mut constant) = (0.0, 0.0);
        for i in 0..D {
            most += top * top * weights[i];
            constant += weights[i] * x[i] * x[i];
        }
        let kept = runs.len().min(RUNS);
        for (r, run) in runs.iter().enumerate().take(kept) {
            for first in (0..AT_ONCE).step_by(V::LANES) {
                let (mut product, mut square) = (V::splat(0.0), V::splat(0.0));
                for i in 0..D {
                    let odd = V::from_bytes(&run.odds[i][first..]);
                    let weighted = V::splat(weights[i]) * odd;
                    product = product + weighted * V::splat(x[i]);
                    square = square + weighted * odd;
                }
                product.store(&mut sums.products[r * AT_ONCE + first..]);
                square.store(&mut sums.squares[r * AT_ONCE + first..]);
            }
        }
        for missing in count..kept * AT_ONCE {
            sums.squares[missing] = f32::MAX;
        }
        Self { runs, x, weights, sums, most, constant }
    }

    /// The number of the nearest point under `scale`.
    #[inline(always)]
    pub(super) fn nearest<V: Lanes>(&self, scale: f32) -> u16 {
        let (point, sure) = self.surely_nearest::<V>(scale);
        if sure {
            self.runs[point / AT_ONCE].numbers[point % AT_ONCE]
        } else {
            nearest::<V, D>(self.runs, self.x, self.weights, Odd(scale))
        }
    }

    /// The nearest point by the sums, and whether it certainly is.
    #[inline(always)]
    fn surely_nearest<V: Lanes>(&self, scale: f32) -> (usize, bool) {
        let bound = scale * scale * self.most + self.constant;
        if self.runs.len() > RUNS || !SAFE.contains(&bound) {
            return (0, false);
        }
        let (curve, slope) = (V::splat(scale * scale), V::splat(2.0 * scale));
        // In each lane the least, where it was, and the next.
        let (mut least, mut next, mut place) = (V::splat(f32::MAX), V::splat(f32::MAX), V::splat(0.0));
        for first in (0..self.runs.len() * AT_ONCE).step_by(V::LANES) {
            let (product, square) =
                (V::load(&self.sums.products[first..]), V::load(&self.sums.squares[first..]));
            let distance = curve * square - slope * product;
            let nearer = distance.less(least);
            let other = V::select(nearer, least, distance);
            next = V::select(other.less(next), other, next);
            place = V::select(nearer, V::splat(first as f32), place);
            least = V::select(nearer, distance, least);
        }
        let (nearest, lane) = least.least();
        let near = V::splat(nearest + UNSURE * bound);
        let sure = V::bits(!near.less(least)).is_power_of_two() && !V::any(!near.less(next));
        let mut places = [0.0; MOST];
        place.store(&mut places);
        (places[lane] as usize + lane, sure)
    }
}
