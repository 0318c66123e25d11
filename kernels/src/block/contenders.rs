//! The nearest of the same points under several scales. IQ2_XXS and IQ2_XS, whose lists of neighbours are long, call
//! this for runs of scales of a grid that round to the same levels.
//!
//! The weighted squared distance of a point with coordinates q from x under the scale s is
//! `Σ w (s q - x)² = s² Σ w q² - 2 s Σ w x q + Σ w x²`, so that two sums of each point serve all scales. These sums
//! are rounded otherwise than the distance itself, which defines the nearest point. They decide only where no other
//! point comes within the rounding errors of the least; elsewhere the distances are computed in the type's own order.
//! IQ2_XXS went from 6.3 to 15.0 million weights per second, IQ2_XS from 5.3 to 11.6.

use super::points::{AT_ONCE, Odd, Run, nearest};
use crate::lanes::{MOST, Simd};

/// The number of runs of the longest list whose sums are kept.
const RUNS: usize = 8;

/// The bound of the rounding errors of both ways to compute a distance, as a fraction of `s² q² Σ w + Σ w x²` with the
/// largest q. Each operation rounds by 2^-24: 28 for the distance and 25 for the sums, of two points, come to 106.
const UNSURE: f32 = 128.0 / (1 << 24) as f32;
/// The range of `s² q² Σ w + Σ w x²` in which nothing overflows and nothing that matters is subnormal.
const SAFE: std::ops::Range<f32> = 1e-25..1e30;

/// Memory for the sums of each point, which every list uses again.
pub(super) struct Room {
    /// `Σ w x q`
    products: [f32; RUNS * AT_ONCE],
    /// `Σ w q²`, or the largest number in the places that a run does not fill.
    squares: [f32; RUNS * AT_ONCE],
}

impl Room {
    pub(super) const NEW: Self = Self { products: [0.0; RUNS * AT_ONCE], squares: [0.0; RUNS * AT_ONCE] };
}

/// A list of points with the numbers x that they are compared with, their weights and the sums of both.
pub(super) struct Contenders<'a, const D: usize> {
    runs: &'a [Run<D>],
    x: &'a [f32; D],
    weights: &'a [f32; D],
    sums: &'a mut Room,
    /// `q² Σ w` with the largest coordinate q.
    most: f32,
    /// `Σ w x²`
    constant: f32,
}

impl<'a, const D: usize> Contenders<'a, D> {
    /// Computes the sums of `count` points, whose coordinates are `top` at most.
    #[inline(always)]
    pub(super) fn new<V: Simd>(
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
            for first in (0..AT_ONCE).step_by(V::WIDTH) {
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

    /// Returns the index of the nearest point under `scale`.
    #[inline(always)]
    pub(super) fn nearest<V: Simd>(&self, scale: f32) -> u16 {
        let (point, sure) = self.surely_nearest::<V>(scale);
        if sure {
            self.runs[point / AT_ONCE].numbers[point % AT_ONCE]
        } else {
            nearest::<V, D>(self.runs, self.x, self.weights, Odd(scale))
        }
    }

    /// Returns the place of the nearest point by the sums, and true if it surely is the nearest.
    #[inline(always)]
    fn surely_nearest<V: Simd>(&self, scale: f32) -> (usize, bool) {
        let bound = scale * scale * self.most + self.constant;
        if self.runs.len() > RUNS || !SAFE.contains(&bound) {
            return (0, false);
        }
        let (curve, slope) = (V::splat(scale * scale), V::splat(2.0 * scale));
        // Each lane keeps its least distance, the place of that, and its second least distance.
        let (mut least, mut next, mut place) = (V::splat(f32::MAX), V::splat(f32::MAX), V::splat(0.0));
        for first in (0..self.runs.len() * AT_ONCE).step_by(V::WIDTH) {
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
