//! Exponentials of logits, which are computed in this module alone.

use super::{RowError, Side};

/// Number of elements worked on at a time, so that their exponentials stay in the innermost cache.
pub(super) const BLOCK: usize = 512;
/// Number of independent partial results, which lets the compiler use vectors without changing the result.
const LANES: usize = 8;

/// The constants that convert a row of logits to log-probabilities in nats: `ln p[i] = logit[i] - max - log_sum_exp`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalizer {
    /// The largest logit.
    pub max: f32,
    /// Logarithm of the sum of `exp(logit - max)`; not negative.
    pub log_sum_exp: f64,
}

impl Normalizer {
    /// Computes the constants of `row` `[vocabulary]`, with f32 exponentials that are summed in f64, as in llama-perplexity.
    ///
    /// # Errors
    /// Fails when a logit is NaN or positive infinity, or none is finite.
    pub fn of(row: &[f32]) -> Result<Self, RowError> {
        let max = max(row);
        let mut powers = [0.0; BLOCK];
        let total = row.chunks(BLOCK).map(|block| sum(exponentials(block, max, &mut powers))).sum();
        Self::new(max, total, Side::Model)
    }

    /// Makes the constants of a row with the maximum `max` and the sum `sum` of `exp(logit - max)`.
    pub(super) fn new(max: f32, sum: f64, side: Side) -> Result<Self, RowError> {
        // One NaN or an infinite maximum makes the sum NaN, and an empty row has no finite maximum.
        if max.is_finite() && sum.is_finite() {
            Ok(Self { max, log_sum_exp: sum.ln() })
        } else {
            Err(RowError::NotFinite(side))
        }
    }

    /// Returns the negative log-probability, in nats, of a token with this logit.
    pub fn nll(&self, logit: f32) -> f64 {
        self.log_sum_exp + (f64::from(self.max) - f64::from(logit))
    }
}

/// Returns the largest number of a row, ignoring NaN.
pub(super) fn max(row: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &v)| *lane = larger(*lane, v));
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, larger)
}

/// Computes `exp(x - shift)` of at most [`BLOCK`] numbers with libm's function, on whose last bit the bytes of a logits file
/// depend.
pub(super) fn exponentials<'a>(block: &[f32], shift: f32, out: &'a mut [f32; BLOCK]) -> &'a [f32] {
    out.iter_mut().zip(block).for_each(|(y, x)| *y = (x - shift).exp());
    out.get(..block.len()).unwrap_or(out)
}

/// Returns the sum in f64, added in an order that depends on the length alone.
pub(super) fn sum<T: Copy + Into<f64>>(values: &[T]) -> f64 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &v)| *lane += v.into());
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|&v| v.into()).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_rows_are_summed_whole() {
        let row: Vec<f32> = (0..3 * BLOCK + 13).map(|i| ((i * 37 % 101) as f32 - 50.0) / 10.0).collect();
        let normalizer = Normalizer::of(&row).unwrap();
        assert_eq!(normalizer.max, 5.0);
        let exact: f64 = row.iter().map(|&v| (f64::from(v) - 5.0).exp()).sum();
        assert!((normalizer.log_sum_exp - exact.ln()).abs() < 1e-7, "{}", normalizer.log_sum_exp);
    }

    #[test]
    fn what_has_no_probabilities_is_refused() {
        let nan = [1.0, f32::NAN, 2.0];
        let infinite = [1.0, f32::INFINITY];
        let masked = [f32::NEG_INFINITY; 3];
        for row in [&nan[..], &infinite, &masked, &[]] {
            assert_eq!(Normalizer::of(row), Err(RowError::NotFinite(Side::Model)), "{row:?}");
        }
        let one = Normalizer::of(&[f32::NEG_INFINITY, 3.0]).unwrap();
        assert_eq!((one.max, one.log_sum_exp, one.nll(3.0)), (3.0, 0.0, 0.0));
    }
}
