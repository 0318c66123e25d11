//! The weights of experts that are chosen one after another, each by a softmax over those near the best of the rest.
//!
//! Source: SparseMixer-v2 (Liu et al., GRIN: GRadient-INformed MoE, 2024), as transformers computes it for Phi 3.5 MoE outside of
//! training.

use kquant_kernels::math;

/// Twice the jitter of training: experts whose logit is below the best one by more than this part of the larger of both count for
/// nothing.
const NEAR: f32 = 0.02;

/// Returns the softmax by which expert number `at` of `chosen` was chosen, `[count]`: over the `logits` `[count]` near the best of
/// those that were not chosen before, and 0 elsewhere.
fn distribution(logits: &[f32], chosen: &[usize], at: usize) -> Vec<f32> {
    let best = logits[chosen[at]];
    let mask = |(expert, &logit): (usize, &f32)| {
        let is_far = (best - logit) / logit.abs().max(best) > NEAR;
        if is_far || chosen[..at].contains(&expert) { f32::NEG_INFINITY } else { logit }
    };
    let mut masked: Vec<f32> = logits.iter().enumerate().map(mask).collect();
    math::softmax(&mut masked);
    masked
}

/// Returns the weights of the `chosen` experts, best first.
pub(super) fn weights(logits: &[f32], chosen: &[usize]) -> Vec<f32> {
    chosen.iter().enumerate().map(|(at, &expert)| distribution(logits, chosen, at)[expert]).collect()
}

/// Adds to `out` `[count]` the gradient of the logits, given that of the weights of the `chosen` experts.
pub(super) fn add_gradient(logits: &[f32], chosen: &[usize], gradient: &[f32], out: &mut [f32]) {
    for (at, (&expert, &d)) in chosen.iter().zip(gradient).enumerate() {
        let p = distribution(logits, chosen, at);
        let mut of_choice = vec![0.0; p.len()];
        of_choice[expert] = d;
        math::softmax_gradient(&mut of_choice, &p);
        math::add(out, &of_choice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn experts_near_the_best_share_and_the_second_choice_is_without_the_first() {
        let logits = [1.0, 0.99, 2.0, -1.0];
        let found = weights(&logits, &[2, 0]);
        // Nothing is near 2; 0.99 is near 1.
        assert_eq!(found[0], 1.0);
        assert!((f64::from(found[1]) - 1.0 / (1.0 + (-0.01f64).exp())).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn the_gradient_is_the_difference_of_the_weights() {
        let (logits, chosen, d) = ([1.0f32, 0.99, 0.985, -1.0], [0, 1], [0.7, -0.4]);
        let loss =
            |logits: &[f32]| -> f32 { weights(logits, &chosen).iter().zip(d).map(|(w, d)| w * d).sum() };
        let mut gradient = [0.0; 4];
        add_gradient(&logits, &chosen, &d, &mut gradient);
        for (i, &found) in gradient.iter().enumerate() {
            let moved = |by: f32| {
                let mut logits = logits;
                logits[i] += by;
                loss(&logits)
            };
            let slope = (moved(1e-3) - moved(-1e-3)) / 2e-3;
            assert!((slope - found).abs() < 1e-3, "[{i}]: {found} is not {slope}");
        }
    }
}
