//! Sums whose result does not depend on the order in which the parts of a text are added.

/// Sums of finite f64, each held as two f64 that do not overlap: 106 bits, by Knuth's and Dekker's error-free additions.
///
/// The addends are sums over blocks of text, of 53 bits. As long as they lie within a factor of 2^53 of the total, no bit
/// is lost, and the sum of parts equals the sum of the whole to the last bit.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ExactSums {
    /// The sums rounded to f64.
    pub(super) high: Vec<f64>,
    /// The remainders that rounding to `high` left.
    pub(super) low: Vec<f64>,
}

impl ExactSums {
    /// Returns `n` zeros.
    pub(super) fn zeros(n: usize) -> Self {
        Self { high: vec![0.0; n], low: vec![0.0; n] }
    }

    /// Adds `other`, which has the same length, element by element.
    pub(super) fn add(&mut self, other: &Self) {
        for (i, (high, low)) in self.high.iter_mut().zip(&mut self.low).enumerate() {
            add(high, low, other.low[i]);
            add(high, low, other.high[i]);
        }
    }
}

/// Adds `value` to the sum of `high` and `low`.
pub(super) fn add(high: &mut f64, low: &mut f64, value: f64) {
    let sum = *high + value;
    let taken = sum - *high;
    let lost = (*high - (sum - taken)) + (value - taken);
    let rest = *low + lost;
    *high = sum + rest;
    *low = rest - (*high - sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns values of 53 bits over 40 powers of two.
    fn values() -> Vec<f64> {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 11
        };
        (0..1000).map(|_| next() as f64 * 2f64.powi((next() >> 40) as i32 % 40)).collect()
    }

    fn sum(values: &[f64]) -> ExactSums {
        let mut sums = ExactSums::zeros(1);
        values.iter().for_each(|&v| add(&mut sums.high[0], &mut sums.low[0], v));
        sums
    }

    #[test]
    fn sums_are_exact() {
        let values = values();
        let integer: u128 = values.iter().map(|&v| v as u128).sum();
        let ExactSums { high, low } = sum(&values);
        assert_eq!(high[0] as u128 as i128 + low[0] as i128, integer as i128);
        assert_eq!(high[0], integer as f64, "rounded once");
        let plain: f64 = values.iter().sum();
        assert_ne!(plain, high[0], "which a plain sum is not");
    }

    #[test]
    fn parts_are_the_whole_in_any_order() {
        let values = values();
        let whole = sum(&values);
        for at in [1, 17, 500, 999] {
            let (a, b) = values.split_at(at);
            for (first, second) in [(a, b), (b, a)] {
                let mut total = sum(first);
                total.add(&sum(second));
                assert_eq!(total, whole, "cut at {at}");
            }
        }
    }
}
