//! Which parts of a whole are measured, and what they say of the rest.
//!
//! Half of the sample are the parts with the largest weights, which count as themselves; the other half lie evenly among the rest and stand for
//! it: the sum over the rest is its weight times the sample's weighted mean (a ratio estimate).

/// Parts of a whole: rows of a matrix, or matrices of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    /// Indices of the parts, rising.
    pub parts: Vec<usize>,
    /// What the measure of each of them is multiplied by, so that the sum is that over the whole.
    pub factors: Vec<f64>,
}

impl Sample {
    /// At most about `most` parts of a whole whose parts have `weights`, which are not negative.
    pub(super) fn new(weights: &[f64], most: usize) -> Self {
        let count = weights.len();
        if count <= most {
            return Self { parts: (0..count).collect(), factors: weights.to_vec() };
        }
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]).then(a.cmp(&b)));
        let (largest, rest) = order.split_at(most / 2);
        let mut rest = rest.to_vec();
        rest.sort_unstable();
        let spread: Vec<usize> = rest.iter().copied().step_by(rest.len().div_ceil(most - most / 2)).collect();
        let sum = |parts: &[usize]| parts.iter().map(|&part| weights[part]).sum::<f64>();
        let seen = sum(&spread);
        let share = if seen > 0.0 { sum(&rest) / seen } else { 0.0 };
        let mut all: Vec<(usize, f64)> = largest.iter().map(|&part| (part, weights[part])).collect();
        all.extend(spread.iter().map(|&part| (part, share * weights[part])));
        all.sort_unstable_by_key(|&(part, _)| part);
        let (parts, factors) = all.into_iter().unzip();
        Self { parts, factors }
    }

    /// The sum over the whole, of parts that measure as `measured`.
    pub(super) fn total(&self, measured: &[f64]) -> f64 {
        self.factors.iter().zip(measured).map(|(factor, x)| factor * x).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_whole_is_measured_whole() {
        let sample = Sample::new(&[1.0, 0.0, 3.0], 3);
        assert_eq!(sample, Sample { parts: vec![0, 1, 2], factors: vec![1.0, 0.0, 3.0] });
        assert_eq!(sample.total(&[5.0, 7.0, 1.0]), 8.0);
    }

    #[test]
    fn a_sample_stands_for_the_whole() {
        // A few parts have most of the weight, as tokens do; what is measured varies by a tenth.
        let weights: Vec<f64> = (0..1000).map(|i| 1.0 / f64::from(1 + (i * 389) % 1000)).collect();
        let measure = |i: usize| 2.0 + 0.3 * f64::sin(i as f64);
        let sample = Sample::new(&weights, 64);
        assert!(sample.parts.len() <= 64 && sample.parts.is_sorted());
        let weight: f64 = weights.iter().sum();
        let factors: f64 = sample.factors.iter().sum();
        assert!((factors / weight - 1.0).abs() < 1e-12);
        let whole: f64 = weights.iter().enumerate().map(|(i, w)| w * measure(i)).sum();
        let measured: Vec<f64> = sample.parts.iter().map(|&i| measure(i)).collect();
        assert!((sample.total(&measured) / whole - 1.0).abs() < 0.03, "{}", sample.total(&measured) / whole);
    }

    #[test]
    fn weightless_parts_count_nothing() {
        let sample = Sample::new(&[0.0; 10], 4);
        assert_eq!(sample.total(&[1.0; 10][..sample.parts.len()]), 0.0);
    }
}
