//! The search for codes with scale and minimum, which Q2_K, Q4_K, Q5_K, Q4_1 and Q5_1 use.
//!
//! Source: ggml's `make_qkx2_quants`; `make_qkx3_quants` with weights is the same function.

use super::integer::nearest_int;
use crate::lanes::Simd;

/// The candidate scales: the range of the group, from the best minimum so far to the largest element, is divided into
/// `top + first + step * i` steps, `i` from 0 to `last`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScaleGrid {
    /// The number of steps of the first candidate, less `top`.
    pub(crate) first: f32,
    /// The number of steps that each candidate has more than the one before.
    pub(crate) step: f32,
    /// The index of the last candidate.
    pub(crate) last: i32,
}

impl ScaleGrid {
    /// The grid of all of ggml's encoders that take an importance vector.
    pub(crate) const WEIGHTED: Self = Self { first: -0.9, step: 0.05, last: 36 };
}

/// The largest magnitude that [`Simd::nearest_small_int`] rounds. Larger candidates, which show in their least and
/// their largest element, are rounded the long way; this gave Q4_K 15 %.
const BELOW_2_TO_22: f32 = 4_194_303.0;

/// The cost of a deviation before it is weighted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The square of the deviation.
    Squared,
    /// The magnitude of the deviation.
    Absolute,
}

impl Loss {
    #[inline(always)]
    fn of<V: Simd>(self, deviation: V) -> V {
        match self {
            Self::Squared => deviation * deviation,
            Self::Absolute => deviation.abs(),
        }
    }
}

/// A group as codes with scale and offset: an element is `scale * code - offset`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AffineFit<V> {
    /// The factor of the codes.
    pub(crate) scale: V,
    /// The minimum of the fit with its sign changed, which is never negative.
    pub(crate) offset: V,
    /// The steps that round the elements to codes; see [`codes`].
    pub(crate) steps: Steps<V>,
}

/// Equal steps from a minimum up: an element's code is `inverse * (x - minimum)`, rounded and bounded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Steps<V> {
    pub(crate) inverse: V,
    pub(crate) minimum: V,
}

impl<V: Simd> Steps<V> {
    /// Divides the range from `minimum` to `high` into `count` steps.
    #[inline(always)]
    fn new(count: f32, minimum: V, high: V) -> Self {
        Self { inverse: V::splat(count) / (high - minimum), minimum }
    }

    #[inline(always)]
    fn select(mask: V::Mask, yes: Self, no: Self) -> Self {
        Self {
            inverse: V::select(mask, yes.inverse, no.inverse),
            minimum: V::select(mask, yes.minimum, no.minimum),
        }
    }

    #[inline(always)]
    fn of(self, x: V) -> V {
        self.inverse * (x - self.minimum)
    }

    /// Returns the code of `x` as a float, because every use multiplies it; small integers are exact.
    #[inline(always)]
    fn code(self, x: V, top: u8) -> V {
        self.of(x).nearest_int(0, i32::from(top))
    }
}

/// Returns the codes of a fit of `x`, as the block stores them.
#[inline(always)]
pub(crate) fn codes<const N: usize>(x: &[f32; N], steps: Steps<f32>, top: u8) -> [u8; N] {
    x.map(|v| steps.code(v, top) as u8)
}

/// Finds scale, offset and codes that make `Σ weights·loss(scale·code - offset - x)` small, codes in `0..=top`.
///
/// The search starts from the range of the elements and zero. Each scale of the grid rounds the elements, and a
/// weighted least-squares line through (code, x) gives that candidate's scale and offset.
#[inline(always)]
pub(crate) fn fit<V: Simd, const N: usize>(
    x: &[V; N],
    weights: &[V; N],
    top: u8,
    grid: &ScaleGrid,
    loss: Loss,
) -> AffineFit<V> {
    let elements = Elements::new(x, weights);
    let (low, high) = (elements.low, elements.high);
    let zero = V::splat(0.0);
    let flat = !low.less(high);
    let most = f32::from(top);

    let mut best = Line { scale: V::splat(1.0) / (V::splat(most) / (high - low)), minimum: low };
    let mut chosen = Steps::new(most, low, high);
    let mut codes = [zero; N];
    elements.round(chosen, top, &mut codes);
    let mut least = elements.loss(best, &codes, loss);
    for i in 0..=grid.last {
        // The range starts at the best minimum so far, so that the order of the grid matters.
        let candidate = Steps::new(grid.first + grid.step * i as f32 + most, best.minimum, high);
        let sums = elements.round(candidate, top, &mut codes);
        let (fitted, usable) = elements.regress(&sums);
        let left = elements.loss(fitted, &codes, loss);
        let better = usable & left.less(least);
        best = Line {
            scale: V::select(better, fitted.scale, best.scale),
            minimum: V::select(better, fitted.minimum, best.minimum),
        };
        chosen = Steps::select(better, candidate, chosen);
        least = V::select(better, left, least);
    }
    // Where all elements are the same, all codes are 0.
    AffineFit {
        scale: V::select(flat, zero, best.scale),
        offset: -V::select(flat, low, best.minimum),
        steps: Steps::select(flat, Steps { inverse: zero, minimum: zero }, chosen),
    }
}

/// Rounds the elements of a group again, under `scale` and `offset` as the block stores them.
///
/// Under scale 0 the codes are those of the fit, `fitted`.
#[inline(always)]
pub(crate) fn round<const N: usize>(
    x: &[f32; N],
    scale: f32,
    offset: f32,
    fitted: Steps<f32>,
    top: u8,
) -> [u8; N] {
    if scale == 0.0 {
        return codes(x, fitted, top);
    }
    let mut rounded = [0; N];
    for (code, &v) in rounded.iter_mut().zip(x) {
        *code = nearest_int((v + offset) / scale).clamp(0, i32::from(top)) as u8;
    }
    rounded
}

#[derive(Debug, Clone, Copy)]
struct Line<V> {
    scale: V,
    minimum: V,
}

/// The sums over a group's elements that the least-squares line of a candidate needs.
struct LineSums<V> {
    /// `Σ w·code`
    l: V,
    /// `Σ w·code²`
    ll: V,
    /// `Σ w·code·x`
    lx: V,
}

/// The elements with their weights, and the sums that do not change between candidates.
struct Elements<'a, V, const N: usize> {
    x: &'a [V; N],
    weights: &'a [V; N],
    /// The least element, at most 0.
    low: V,
    high: V,
    sum_w: V,
    sum_wx: V,
}

impl<'a, V: Simd, const N: usize> Elements<'a, V, N> {
    #[inline(always)]
    fn new(x: &'a [V; N], weights: &'a [V; N]) -> Self {
        let (mut low, mut high) = (x[0], x[0]);
        let (mut sum_w, mut sum_wx) = (weights[0], weights[0] * x[0]);
        for i in 1..N {
            let (x, w) = (x[i], weights[i]);
            low = V::select(x.less(low), x, low);
            high = V::select(high.less(x), x, high);
            sum_w = sum_w + w;
            sum_wx = sum_wx + w * x;
        }
        let zero = V::splat(0.0);
        low = V::select(zero.less(low), zero, low);
        Self { x, weights, low, high, sum_w, sum_wx }
    }

    /// Rounds the elements to `codes` and returns the sums of the candidate.
    #[inline(always)]
    fn round(&self, steps: Steps<V>, top: u8, codes: &mut [V; N]) -> LineSums<V> {
        // Rounding is monotonic, so that no element is farther out than the least and the largest one.
        let small = V::splat(BELOW_2_TO_22);
        let (first, last) = (steps.of(self.low).abs(), steps.of(self.high).abs());
        if V::any(!(first.less(small) & last.less(small))) {
            self.sum_up::<false>(steps, top, codes)
        } else {
            self.sum_up::<true>(steps, top, codes)
        }
    }

    #[inline(always)]
    fn sum_up<const SMALL: bool>(&self, steps: Steps<V>, top: u8, codes: &mut [V; N]) -> LineSums<V> {
        let zero = V::splat(0.0);
        let mut sums = LineSums { l: zero, ll: zero, lx: zero };
        for ((kept, &x), &w) in codes.iter_mut().zip(self.x).zip(self.weights) {
            let code =
                if SMALL { steps.of(x).nearest_small_int(0, i32::from(top)) } else { steps.code(x, top) };
            let weighted = w * code;
            sums.l = sums.l + weighted;
            sums.ll = sums.ll + weighted * code;
            sums.lx = sums.lx + weighted * x;
            *kept = code;
        }
        sums
    }

    /// Returns the weighted least-squares line through (code, x) whose minimum is not positive, and the lanes in
    /// which it is defined: those whose codes are not all the same.
    #[inline(always)]
    fn regress(&self, sums: &LineSums<V>) -> (Line<V>, V::Mask) {
        let zero = V::splat(0.0);
        let determinant = self.sum_w * sums.ll - sums.l * sums.l;
        let minimum = (sums.ll * self.sum_wx - sums.l * sums.lx) / determinant;
        let positive = zero.less(minimum);
        let above = V::select(positive, sums.lx, self.sum_w * sums.lx - self.sum_wx * sums.l);
        let below = V::select(positive, sums.ll, determinant);
        let line = Line { scale: above / below, minimum: V::select(positive, zero, minimum) };
        (line, zero.less(determinant))
    }

    #[inline(always)]
    fn loss(&self, line: Line<V>, codes: &[V; N], loss: Loss) -> V {
        let mut sum = V::splat(0.0);
        for ((&x, &w), &code) in self.x.iter().zip(self.weights).zip(codes) {
            sum = sum + w * loss.of(line.scale * code + line.minimum - x);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fits a group and returns what its codes decode to.
    fn values<const N: usize>(x: &[f32; N], top: u8, loss: Loss) -> [f32; N] {
        let fit = fit(x, &[1.0; N], top, &ScaleGrid::WEIGHTED, loss);
        codes(x, fit.steps, top).map(|code| fit.scale * f32::from(code) - fit.offset)
    }

    #[test]
    fn an_exact_grid_is_recovered_without_error() {
        for (top, scale, minimum) in [(3u8, 0.5f32, -1.0f32), (15, 0.25, -2.0), (31, 0.125, 0.0)] {
            let x: [f32; 32] =
                std::array::from_fn(|i| ((i * 7) % (usize::from(top) + 1)) as f32 * scale + minimum);
            for loss in [Loss::Squared, Loss::Absolute] {
                assert_eq!(values(&x, top, loss), x, "top {top}, {loss:?}");
            }
        }
    }

    #[test]
    fn equal_elements_become_zero_or_the_offset() {
        let fitted = |v| {
            let fit = fit(&[v; 16], &[1.0; 16], 15, &ScaleGrid::WEIGHTED, Loss::Squared);
            (fit.scale, fit.offset, codes(&[v; 16], fit.steps, 15))
        };
        assert_eq!(fitted(0.0), (0.0, -0.0, [0; 16]));
        assert_eq!(fitted(-2.5), (0.0, 2.5, [0; 16]));
        // A minimum above zero cannot be stored: the range starts at zero and all codes are the top one.
        let (_, offset, codes) = fitted(3.0);
        assert_eq!((offset, codes), (-0.0, [15; 16]));
    }

    #[test]
    fn the_offset_is_not_negative() {
        let x: [f32; 16] = std::array::from_fn(|i| 10.0 + i as f32);
        let fit = fit(&x, &[1.0; 16], 3, &ScaleGrid::WEIGHTED, Loss::Squared);
        assert!(fit.offset == 0.0 && fit.scale > 0.0);
    }

    #[test]
    fn the_loss_decides() {
        // Over many groups the fit by each loss is the better one by that loss.
        let left = |fitted: Loss, measured: Loss| -> f32 {
            (1..100)
                .map(|k| {
                    let x: [f32; 16] = std::array::from_fn(|i| ((k * (i * i + 1)) % 101) as f32 - 30.0);
                    values(&x, 3, fitted).iter().zip(&x).map(|(y, x)| measured.of(y - x)).sum::<f32>()
                })
                .sum()
        };
        assert!(left(Loss::Absolute, Loss::Absolute) < left(Loss::Squared, Loss::Absolute));
        assert!(left(Loss::Squared, Loss::Squared) < left(Loss::Absolute, Loss::Squared));
    }
}
