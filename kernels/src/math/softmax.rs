//! Softmax, its gradient, and the logarithm of its denominator.

use super::exp::exp;
use super::reduce::{map_and_sum, max, sum, sum_of_pairs};
use crate::isa::per_isa;

per_isa! {
    /// Replaces the logits `row` `[n]` by their softmax. The sum is in f64. A NaN anywhere makes every element NaN,
    /// and so does an infinite largest logit.
    pub fn softmax, softmax_on(row: &mut [f32]) {
        normalize(row, None);
    }
}

per_isa! {
    /// Replaces the logits `row` `[n]` by the [`softmax`] of `row` and one more logit, `extra`, whose probability is
    /// left out.
    pub fn softmax_with, softmax_with_on(row: &mut [f32], extra: Option<f32>) {
        normalize(row, extra);
    }
}

#[inline(always)]
fn normalize(row: &mut [f32], extra: Option<f32>) {
    let largest = max(row);
    let largest = match extra {
        Some(extra) if extra > largest => extra,
        _ => largest,
    };
    let more = extra.map_or(0.0, |extra| f64::from(exp(extra - largest)));
    let scale = (1.0 / (map_and_sum(row, |x| exp(x - largest)) + more)) as f32;
    for x in row {
        *x *= scale;
    }
}

per_isa! {
    /// Computes the gradient of [`softmax`] and of [`softmax_with`], given their result `p` `[n]`. `gradient` `[n]`
    /// comes as that of `p` and becomes that of the logits, `p (gradient - Σ p gradient)`.
    pub fn softmax_gradient, softmax_gradient_on(gradient: &mut [f32], p: &[f32]) {
        assert!(gradient.len() == p.len(), "{} gradients of {} probabilities", gradient.len(), p.len());
        let level = sum_of_pairs(p, gradient, |p, v| p * v) as f32;
        for (gradient, p) in gradient.iter_mut().zip(p) {
            *gradient = p * (*gradient - level);
        }
    }
}

per_isa! {
    /// Returns `ln Σ exp(row)` of the logits `row` `[n]`, summed in f64. The log-probability of entry i is `row[i]`
    /// minus it.
    pub fn log_sum_exp, log_sum_exp_on(row: &[f32]) -> f64 {
        let max = max(row);
        f64::from(max) + sum(row, |x| exp(x - max)).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::math::tests::{bits, noise};

    #[test]
    fn equals_the_definition() {
        for n in [1, 2, 16, 17, 1000] {
            let logits: Vec<f32> = noise(n, 1).iter().map(|x| 20.0 * x).collect();
            let total: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
            let mut row = logits.clone();
            softmax(&mut row);
            for (&p, &x) in row.iter().zip(&logits) {
                let exact = f64::from(x).exp() / total;
                // The difference x - max is rounded, by up to half a unit in the last place of 40.
                assert!((f64::from(p) - exact).abs() <= 3e-6 * exact, "{p} {exact}");
            }
            assert!((log_sum_exp(&logits) - total.ln()).abs() < 1e-7);
        }
    }

    #[test]
    fn one_more_logit_takes_its_share() {
        for extra in [-3.0, 0.25, 30.0] {
            let mut all = vec![0.5, -1.0, 2.0, extra];
            let mut row = all[..3].to_vec();
            softmax(&mut all);
            softmax_with(&mut row, Some(extra));
            assert!(row.iter().zip(&all).all(|(a, b)| (a - b).abs() <= 1e-7), "{row:?} {all:?}");
        }
    }

    #[test]
    fn large_logits_do_not_overflow() {
        let mut row = [1000.0, 999.0, f32::NEG_INFINITY];
        softmax(&mut row);
        assert_eq!(row, [0.731_058_6, 0.268_941_43, 0.0]);
        assert!((log_sum_exp(&[1000.0, 1000.0]) - (1000.0 + f64::ln(2.0))).abs() < 1e-9);
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let logits: Vec<f32> = noise(1013, 2).iter().map(|x| 30.0 * x).collect();
        let run = |isa| {
            let mut row = logits.clone();
            softmax_on(isa, &mut row);
            (bits(&row), log_sum_exp_on(isa, &logits).to_bits())
        };
        for isa in Isa::available() {
            assert!(run(isa) == run(Isa::available()[0]), "{isa:?}");
        }
    }
}
