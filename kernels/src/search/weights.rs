//! How much the error of each element counts in a search.

/// The sum of squares, in element order.
#[inline]
pub(crate) fn sum_of_squares(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |sum, v| sum + v * v)
}

/// The mean of squares.
#[inline]
pub(crate) fn mean_square(x: &[f32]) -> f32 {
    sum_of_squares(x) / x.len() as f32
}

/// Twice the mean of squares.
#[inline]
pub(crate) fn twice_mean_square(x: &[f32]) -> f32 {
    2.0 * sum_of_squares(x) / x.len() as f32
}

/// The magnitude of each element on top of the group's root mean square: the weights of Q4_K and Q5_K without
/// importance.
#[inline]
pub(crate) fn magnitude_weights<const N: usize>(x: &[f32; N]) -> [f32; N] {
    let typical = mean_square(x).sqrt();
    x.map(|v| typical + v.abs())
}

/// Each element squared: the weights of a search without importance.
#[inline]
pub(crate) fn squares<const N: usize>(x: &[f32; N]) -> [f32; N] {
    x.map(|v| v * v)
}

/// The importance of each element times its own size, `importance * sqrt(variance + x^2)`, where `variance` is that
/// of the row or superblock: large weights count more, small ones not nothing.
#[inline]
pub(crate) fn importance_weights<const N: usize>(
    x: &[f32; N],
    importance: &[f32; N],
    variance: f32,
) -> [f32; N] {
    std::array::from_fn(|i| importance[i] * (variance + x[i] * x[i]).sqrt())
}

/// The sum of weights, in element order: what the group counts in a search over the scales of a superblock.
#[inline]
pub(crate) fn total(weights: &[f32]) -> f32 {
    weights.iter().fold(0.0, |sum, w| sum + w)
}

/// The least and the largest element.
#[inline]
pub(crate) fn range(x: &[f32]) -> (f32, f32) {
    x.iter().fold((f32::MAX, f32::MIN), |(low, high), &v| {
        (if v < low { v } else { low }, if v > high { v } else { high })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn importance_scales_and_zero_importance_silences() {
        assert_eq!(importance_weights(&[4.0, 0.0], &[2.0, 0.0], 9.0), [10.0, 0.0]);
    }

    #[test]
    fn sums_run_in_element_order() {
        // 1 is lost beside 2^24 when it is added last, and counts when it comes first.
        assert_eq!(total(&[1.0, 1.0, 16_777_216.0]), 16_777_218.0);
        assert_eq!(total(&[16_777_216.0, 1.0, 1.0]), 16_777_216.0);
        assert_eq!(sum_of_squares(&[3.0, -4.0]), 25.0);
        assert_eq!(mean_square(&[3.0, -4.0]), 12.5);
    }
}
