//! Means with their standard errors, and quantiles.

use serde::Serialize;

/// The sums that determine mean and standard error.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Moments {
    count: u64,
    sum: f64,
    squares: f64,
}

/// A value with its standard error. In JSON, a number that cannot be computed, such as the error of a single token, is null.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// Standard error of the value.
    pub stderr: f64,
}

/// A mean with its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Standard error of the mean.
    pub stderr: f64,
}

impl Moments {
    pub(super) fn push(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.squares += value * value;
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// Returns the standard error of the mean, `sqrt((E[x^2] - E[x]^2) / (n - 1))`; NaN for fewer than two values.
    pub(super) fn stderr(&self) -> f64 {
        let mean = self.mean();
        let variance = self.squares / self.count as f64 - mean * mean;
        (not_negative(variance) / self.degrees_of_freedom()).sqrt()
    }

    pub(super) fn estimate(&self) -> Mean {
        Mean { mean: self.mean(), stderr: self.stderr() }
    }

    fn degrees_of_freedom(&self) -> f64 {
        if self.count < 2 { f64::NAN } else { (self.count - 1) as f64 }
    }
}

/// Returns a variance that was computed as a difference, with 0 in place of the slightly negative values that rounding can
/// give; NaN stays.
pub(super) fn not_negative(variance: f64) -> f64 {
    if variance < 0.0 { 0.0 } else { variance }
}

/// Returns the covariance of two means, `(E[xy] - E[x] E[y]) / (n - 1)`, where `products` is the sum of `xy`.
pub(super) fn covariance(x: &Moments, y: &Moments, products: f64) -> f64 {
    (products / x.count as f64 - x.mean() * y.mean()) / x.degrees_of_freedom()
}

/// The distribution of values: mean, extremes and quantiles.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[allow(missing_docs)] // The names define the fields: p99_9 is the value that 99.9 % of all do not exceed.
pub struct Distribution {
    pub mean: f64,
    /// Standard error of the mean.
    pub stderr: f64,
    pub max: f64,
    pub p99_9: f64,
    pub p99: f64,
    pub p95: f64,
    pub p90: f64,
    pub p75: f64,
    pub median: f64,
    pub p25: f64,
    pub p10: f64,
    pub p5: f64,
    pub p1: f64,
    pub p0_1: f64,
    pub min: f64,
}

impl Distribution {
    /// Computes the distribution of `values`, whose moments are `moments`.
    pub(super) fn of(moments: &Moments, values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |fraction| quantile(&sorted, fraction);
        let Mean { mean, stderr } = moments.estimate();
        Self {
            mean,
            stderr,
            max: at(1.0),
            p99_9: at(0.999),
            p99: at(0.99),
            p95: at(0.95),
            p90: at(0.9),
            p75: at(0.75),
            median: at(0.5),
            p25: at(0.25),
            p10: at(0.1),
            p5: at(0.05),
            p1: at(0.01),
            p0_1: at(0.001),
            min: at(0.0),
        }
    }
}

/// Returns a quantile, interpolated linearly between the two values nearest to `fraction * (n - 1)`; NaN if there are no
/// values.
fn quantile(sorted: &[f64], fraction: f64) -> f64 {
    let position = fraction * sorted.len().saturating_sub(1) as f64;
    let below = position.floor();
    let value = |i: usize| sorted.get(i).or(sorted.last()).copied().unwrap_or(f64::NAN);
    let (low, high) = (value(below as usize), value(below as usize + 1));
    low + (position - below) * (high - low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_neighbours() {
        let sorted = [1.0, 2.0, 4.0, 8.0];
        let at = |fraction| quantile(&sorted, fraction);
        assert_eq!([at(0.0), at(0.5), at(0.75), at(1.0)], [1.0, 3.0, 5.0, 8.0]);
        assert_eq!(quantile(&[1.0, 5.0, 6.0], 0.5), 5.0);
        assert_eq!(quantile(&[7.0], 0.999), 7.0);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn errors_of_means() {
        let mut moments = Moments::default();
        assert!(moments.mean().is_nan() && moments.stderr().is_nan());
        moments.push(1.0);
        assert_eq!(moments.mean(), 1.0);
        assert!(moments.stderr().is_nan());
        moments.push(4.0);
        // The variance is 2.25, with one degree of freedom.
        assert_eq!(moments.estimate(), Mean { mean: 2.5, stderr: 1.5 });
        assert_eq!(covariance(&moments, &moments, 17.0), 2.25);
    }
}
