//! The weights of the elements' errors in a search, and sums that they need.

use crate::lanes::Simd;

/// Returns the sum of squares, in element order.
#[inline(always)]
pub(crate) fn sum_of_squares<V: Simd>(x: &[V]) -> V {
    let mut sum = V::splat(0.0);
    for &v in x {
        sum = sum + v * v;
    }
    sum
}

/// Computes the sums of squares of several superblocks, each in element order. Eight sums run side by side, because
/// every sum has to wait for its last addition.
#[inline(always)]
pub(crate) fn sums_of_squares<const G: usize, const N: usize>(
    superblocks: &[[[f32; N]; G]],
    sums: &mut [f32],
) {
    const SIDE_BY_SIDE: usize = 8;
    for (superblocks, sums) in superblocks.chunks(SIDE_BY_SIDE).zip(sums.chunks_mut(SIDE_BY_SIDE)) {
        if let Ok(superblocks) = <&[[[f32; N]; G]; SIDE_BY_SIDE]>::try_from(superblocks) {
            let mut kept = [0.0; SIDE_BY_SIDE];
            for i in 0..G * N {
                for (sum, x) in kept.iter_mut().zip(superblocks) {
                    let x = x.as_flattened()[i];
                    *sum += x * x;
                }
            }
            sums.copy_from_slice(&kept);
        } else {
            for (sum, x) in sums.iter_mut().zip(superblocks) {
                *sum = sum_of_squares(x.as_flattened());
            }
        }
    }
}

/// Returns the weights of Q4_K and Q5_K without importance: the group's root mean square plus each element's magnitude.
#[inline(always)]
pub(crate) fn magnitude_weights<V: Simd, const N: usize>(x: &[V; N]) -> [V; N] {
    let typical = (sum_of_squares(x) / V::splat(N as f32)).sqrt();
    let mut weights = *x;
    for weight in &mut weights {
        *weight = typical + weight.abs();
    }
    weights
}

/// Returns the weights of Q2_K without importance: each element's magnitude.
#[inline(always)]
pub(crate) fn magnitudes<V: Simd, const N: usize>(x: &[V; N]) -> [V; N] {
    let mut weights = *x;
    for weight in &mut weights {
        *weight = weight.abs();
    }
    weights
}

/// Returns the weights of most searches without importance: each element's square.
#[inline(always)]
pub(crate) fn squares<V: Simd, const N: usize>(x: &[V; N]) -> [V; N] {
    let mut weights = *x;
    for weight in &mut weights {
        *weight = *weight * *weight;
    }
    weights
}

/// Returns the weights of most searches with importance: `importance * sqrt(variance + x²)`, where `variance` is that
/// of the row or superblock. By it large elements count more, and small ones still count.
#[inline(always)]
pub(crate) fn importance_weights<V: Simd, const N: usize>(
    x: &[V; N],
    importance: &[V; N],
    variance: V,
) -> [V; N] {
    let mut weights = *importance;
    for i in 0..N {
        weights[i] = weights[i] * (variance + x[i] * x[i]).sqrt();
    }
    weights
}

/// Returns the sum of weights, in element order. It weights the group in a search over the scales of a superblock.
#[inline(always)]
pub(crate) fn total<V: Simd>(weights: &[V]) -> V {
    let mut sum = V::splat(0.0);
    for &w in weights {
        sum = sum + w;
    }
    sum
}

/// Returns the least and the largest element.
#[inline(always)]
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
        assert_eq!(importance_weights(&[4.0f32, 0.0], &[2.0, 0.0], 9.0), [10.0, 0.0]);
    }

    #[test]
    fn sums_run_in_element_order() {
        // The number 1 is lost beside 2^24 when it is added last, and counts when it comes first.
        assert_eq!(total(&[1.0f32, 1.0, 16_777_216.0]), 16_777_218.0);
        assert_eq!(total(&[16_777_216.0, 1.0, 1.0]), 16_777_216.0);
        assert_eq!(sum_of_squares(&[3.0f32, -4.0]), 25.0);
        for count in [1, 8, 11] {
            let x: Vec<[[f32; 5]; 1]> =
                (0..count).map(|r| [std::array::from_fn(|i| (r * 5 + i) as f32 * 0.37)]).collect();
            let mut sums = vec![f32::NAN; count];
            sums_of_squares(&x, &mut sums);
            assert_eq!(sums, x.iter().map(|x| sum_of_squares(x.as_flattened())).collect::<Vec<_>>());
        }
    }
}
