//! Seeded draws from predictions: the labels of the backward pass, and the tokens of samples.

/// Returns a number in 0..1 for number `position`, with another sequence for each `seed`. It comes from a
/// counter and not from a state, so that draws depend neither on the order of the work nor on the division of the text.
///
/// The function is the finalizer of SplitMix64 (Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators,
/// 2014).
pub(crate) fn uniform(seed: u64, position: u64) -> f64 {
    let mix = |z: u64| {
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let counter = mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15)).wrapping_add(position);
    (mix(counter.wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 11) as f64 / (1u64 << 53) as f64
}

/// Returns the label that the number `uniform` in 0..1 selects from the probabilities `p`.
pub(super) fn pick(p: &[f32], uniform: f64) -> usize {
    let total: f64 = p.iter().map(|&p| f64::from(p)).sum();
    let mut left = uniform * total;
    for (label, &p) in p.iter().enumerate() {
        left -= f64::from(p);
        if left < 0.0 {
            return label;
        }
    }
    // A number that rounding moves past the end selects the last possible label.
    p.iter().rposition(|&p| p > 0.0).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_come_as_often_as_they_are_likely() {
        let p = [0.5f32, 0.0, 0.125, 0.375];
        let n = 100_000;
        for seed in 0..3 {
            let mut counts = [0; 4];
            (0..n).for_each(|position| counts[pick(&p, uniform(seed, position))] += 1);
            for (count, p) in counts.into_iter().zip(p) {
                let (expected, spread) = (n as f32 * p, (n as f32 * p * (1.0 - p)).sqrt());
                assert!((count as f32 - expected).abs() <= 4.0 * spread, "{counts:?}");
            }
        }
    }

    #[test]
    fn neighbours_and_seeds_are_independent() {
        let n = 10_000;
        let correlation = |other: &dyn Fn(u64) -> f64| {
            let products = (0..n).map(|i| (uniform(1, i) - 0.5) * (other(i) - 0.5));
            products.sum::<f64>() * 12.0 / n as f64
        };
        let others: [&dyn Fn(u64) -> f64; 2] = [&|i| uniform(1, i + 1), &|i| uniform(2, i)];
        for other in others {
            assert!(correlation(other).abs() < 0.04, "{}", correlation(other));
        }
    }

    #[test]
    fn the_ends() {
        assert_eq!(pick(&[0.0, 0.25, 0.75, 0.0], 0.0), 1);
        assert_eq!(pick(&[0.0, 0.25, 0.75, 0.0], 1.0), 2);
        assert_eq!(pick(&[1.0], 0.999_999_9), 0);
    }
}
