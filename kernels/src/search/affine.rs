//! Codes with scale and minimum (ggml's `make_qkx2_quants`; `make_qkx3_quants` given weights is the same function).

use super::rounding::nearest_int;

/// The candidate scales: the range of the group, from the best minimum so far to the largest element, is divided into
/// `top + first + step * i` steps, `i` from 0 to `last`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    /// Steps of the first candidate, as a difference from `top`.
    pub(crate) first: f32,
    /// How many steps each candidate has more than the one before.
    pub(crate) step: f32,
    /// The last candidate's number.
    pub(crate) last: i32,
}

impl Grid {
    /// The grid of every encoder that has an importance vector.
    pub(crate) const WEIGHTED: Self = Self { first: -0.9, step: 0.05, last: 36 };
}

/// What a deviation costs before it is weighted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Its square.
    Squared,
    /// Its magnitude.
    Absolute,
}

impl Loss {
    #[inline]
    fn of(self, deviation: f32) -> f32 {
        match self {
            Self::Squared => deviation * deviation,
            Self::Absolute => deviation.abs(),
        }
    }
}

/// Codes with scale and offset: an element is `scale * code - offset`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AffineFit<const N: usize> {
    /// What a code is multiplied by.
    pub(crate) scale: f32,
    /// Minus the minimum of the fit; not negative.
    pub(crate) offset: f32,
    /// The codes as the block stores them.
    pub(crate) codes: [u8; N],
}

/// Finds scale, offset and codes that make `Σ weights·loss(scale·code - offset - x)` small, codes in `0..=top`.
///
/// Starts from the range of the elements and zero; each scale of the grid rounds the elements, and a weighted
/// least-squares line through (code, x) gives that candidate's scale and offset.
pub(crate) fn fit<const N: usize>(
    x: &[f32; N],
    weights: &[f32; N],
    top: u8,
    grid: &Grid,
    loss: Loss,
) -> AffineFit<N> {
    let elements = Elements::new(x, weights);
    let (low, high) = (elements.low, elements.high);
    if high <= low {
        return AffineFit { scale: 0.0, offset: -low, codes: [0; N] };
    }
    let top = f32::from(top);
    // Codes stay floats: they are small integers, exact, and every use multiplies them.
    let round = |steps: f32, minimum: f32| {
        let inverse = steps / (high - minimum);
        x.map(|v| nearest_int(inverse * (v - minimum)).clamp(0, top as i32) as f32)
    };

    let mut best = Line { scale: 1.0 / (top / (high - low)), minimum: low };
    let mut codes = round(top, low);
    let mut least = elements.loss(best, &codes, loss);
    for i in 0..=grid.last {
        // The range starts at the best minimum so far, so the order of the grid matters.
        let candidate = round(grid.first + grid.step * i as f32 + top, best.minimum);
        let Some(fitted) = elements.regress(&candidate) else { continue };
        let left = elements.loss(fitted, &candidate, loss);
        if left < least {
            (best, codes, least) = (fitted, candidate, left);
        }
    }
    AffineFit { scale: best.scale, offset: -best.minimum, codes: codes.map(|code| code as u8) }
}

/// Rounds the elements of a group again, to the codes under `scale` and `offset` as the block stores them.
///
/// Under scale 0 the codes of the fit are kept.
pub(crate) fn round<const N: usize>(x: &[f32; N], scale: f32, offset: f32, top: u8, codes: &mut [u8; N]) {
    if scale != 0.0 {
        *codes = x.map(|v| nearest_int((v + offset) / scale).clamp(0, i32::from(top)) as u8);
    }
}

#[derive(Debug, Clone, Copy)]
struct Line {
    scale: f32,
    minimum: f32,
}

/// The elements with their weights, and what does not change between candidates.
struct Elements<'a, const N: usize> {
    x: &'a [f32; N],
    weights: &'a [f32; N],
    /// The least element, at most 0.
    low: f32,
    high: f32,
    sum_w: f32,
    sum_wx: f32,
}

impl<'a, const N: usize> Elements<'a, N> {
    fn new(x: &'a [f32; N], weights: &'a [f32; N]) -> Self {
        let (mut low, mut high) = (x[0], x[0]);
        let (mut sum_w, mut sum_wx) = (weights[0], weights[0] * x[0]);
        for (&x, &w) in x.iter().zip(weights).skip(1) {
            if x < low {
                low = x;
            }
            if x > high {
                high = x;
            }
            sum_w += w;
            sum_wx += w * x;
        }
        if low > 0.0 {
            low = 0.0;
        }
        Self { x, weights, low, high, sum_w, sum_wx }
    }

    /// The weighted least-squares line through (code, x) whose minimum is not positive; `None` when the codes are
    /// all the same.
    #[inline]
    fn regress(&self, codes: &[f32; N]) -> Option<Line> {
        let (mut sum_l, mut sum_ll, mut sum_lx) = (0.0f32, 0.0f32, 0.0f32);
        for ((&x, &w), &code) in self.x.iter().zip(self.weights).zip(codes) {
            sum_l += w * code;
            sum_ll += w * code * code;
            sum_lx += w * code * x;
        }
        let determinant = self.sum_w * sum_ll - sum_l * sum_l;
        if determinant > 0.0 {
            let minimum = (sum_ll * self.sum_wx - sum_l * sum_lx) / determinant;
            Some(if minimum > 0.0 {
                Line { scale: sum_lx / sum_ll, minimum: 0.0 }
            } else {
                Line { scale: (self.sum_w * sum_lx - self.sum_wx * sum_l) / determinant, minimum }
            })
        } else {
            None
        }
    }

    #[inline]
    fn loss(&self, line: Line, codes: &[f32; N], loss: Loss) -> f32 {
        let mut sum = 0.0;
        for ((&x, &w), &code) in self.x.iter().zip(self.weights).zip(codes) {
            sum += w * loss.of(line.scale * code + line.minimum - x);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values<const N: usize>(fit: &AffineFit<N>) -> [f32; N] {
        fit.codes.map(|code| fit.scale * f32::from(code) - fit.offset)
    }

    #[test]
    fn an_exact_grid_is_recovered_without_error() {
        for (top, scale, minimum) in [(3u8, 0.5f32, -1.0f32), (15, 0.25, -2.0), (31, 0.125, 0.0)] {
            let x: [f32; 32] =
                std::array::from_fn(|i| ((i * 7) % (usize::from(top) + 1)) as f32 * scale + minimum);
            for loss in [Loss::Squared, Loss::Absolute] {
                assert_eq!(
                    values(&fit(&x, &[1.0; 32], top, &Grid::WEIGHTED, loss)),
                    x,
                    "top {top}, {loss:?}"
                );
            }
        }
    }

    #[test]
    fn equal_elements_become_zero_or_the_offset() {
        let fitted = |v| fit(&[v; 16], &[1.0; 16], 15, &Grid::WEIGHTED, Loss::Squared);
        assert_eq!(fitted(0.0), AffineFit { scale: 0.0, offset: -0.0, codes: [0; 16] });
        assert_eq!(fitted(-2.5), AffineFit { scale: 0.0, offset: 2.5, codes: [0; 16] });
        // A minimum above zero cannot be stored: the range starts at zero and all codes are the top one.
        assert_eq!(fitted(3.0).codes, [15; 16]);
        assert_eq!(fitted(3.0).offset, -0.0);
    }

    #[test]
    fn the_offset_is_not_negative() {
        let x: [f32; 16] = std::array::from_fn(|i| 10.0 + i as f32);
        let fit = fit(&x, &[1.0; 16], 3, &Grid::WEIGHTED, Loss::Squared);
        assert!(fit.offset == 0.0 && fit.scale > 0.0);
    }

    #[test]
    fn the_loss_decides() {
        // Over many groups, what each loss chooses is best by that loss.
        let left = |fitted: Loss, measured: Loss| -> f32 {
            (1..100)
                .map(|k| {
                    let x: [f32; 16] = std::array::from_fn(|i| ((k * (i * i + 1)) % 101) as f32 - 30.0);
                    let values = values(&fit(&x, &[1.0; 16], 3, &Grid::WEIGHTED, fitted));
                    values.iter().zip(&x).map(|(y, x)| measured.of(y - x)).sum::<f32>()
                })
                .sum()
        };
        assert!(left(Loss::Absolute, Loss::Absolute) < left(Loss::Squared, Loss::Absolute));
        assert!(left(Loss::Squared, Loss::Squared) < left(Loss::Absolute, Loss::Squared));
    }
}
