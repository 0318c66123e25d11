//! Sums and maxima over rows in 16 lanes, which are combined in a fixed order. The result does therefore not depend
//! on the width of the machine's vectors.

const LANES: usize = 16;

/// The lanes of a running reduction.
type Partials<T> = [T; LANES];

/// Returns the sum over `x` of `term`, in f64.
#[inline(always)]
pub(super) fn sum(x: &[f32], term: impl Fn(f32) -> f32) -> f64 {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(term(x));
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane += f64::from(term(x));
    }
    total(lanes)
}

/// Returns the sum over equally long `x` and `y` of `term`, in f64.
#[inline(always)]
pub(super) fn sum_of_pairs(x: &[f32], y: &[f32], term: impl Fn(f32, f32) -> f32) -> f64 {
    let mut lanes = [0.0; LANES];
    let ((x_chunks, x_rest), (y_chunks, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in x_chunks.iter().zip(y_chunks) {
        for ((lane, &x), &y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += f64::from(term(x, y));
        }
    }
    for ((lane, &x), &y) in lanes.iter_mut().zip(x_rest).zip(y_rest) {
        *lane += f64::from(term(x, y));
    }
    total(lanes)
}

/// Replaces every element by its image and returns the sum of the images, in f64.
#[inline(always)]
pub(super) fn map_and_sum(x: &mut [f32], image: impl Fn(f32) -> f32) -> f64 {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = x.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *x = image(*x);
            *lane += f64::from(*x);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *x = image(*x);
        *lane += f64::from(*x);
    }
    total(lanes)
}

/// Returns the largest element, or -∞ for an empty slice. NaN is passed over.
#[inline(always)]
pub(super) fn max(x: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = larger(*lane, x);
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, larger)
}

#[inline(always)]
fn total(lanes: Partials<f64>) -> f64 {
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_counts_once() {
        for n in [0, 1, 15, 16, 17, 40] {
            let mut x: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let expected = (0..n).sum::<usize>() as f64;
            assert_eq!(sum(&x, |x| x), expected);
            assert_eq!(sum_of_pairs(&x, &x, |x, y| x + y), 2.0 * expected);
            assert_eq!(map_and_sum(&mut x, |x| x + 1.0), expected + n as f64);
            assert_eq!(x, (1..=n).map(|i| i as f32).collect::<Vec<_>>());
            assert_eq!(max(&x), if n == 0 { f32::NEG_INFINITY } else { n as f32 });
        }
    }

    #[test]
    fn nan_is_no_maximum_and_spoils_a_sum() {
        let x = [1.0, f32::NAN, 3.0];
        assert_eq!(max(&x), 3.0);
        assert!(sum(&x, |x| x).is_nan());
    }
}
