//! What a row of predictions is compared with, and the loss and gradient that follow.

use std::ops::Range;

use super::options::TeacherTarget;

/// The expected distribution of one row, in the form that the gradient needs.
///
/// The gradient with respect to the logits is `q - p` for the known tokens and `keep * q` for the others.
#[derive(Debug, Default)]
pub(super) struct RowTarget {
    /// Known tokens in rising order, with their probabilities.
    known: Vec<(u32, f32)>,
    /// `1 - rest / q_rest`, by the probabilities of all other tokens together.
    keep: f32,
}

impl RowTarget {
    /// Expects the token `label` alone.
    pub(super) fn of_label(label: u32) -> Self {
        Self { known: vec![(label, 1.0)], keep: 1.0 }
    }

    /// Expects the distribution `target` in the place of the predictions `q` `[vocab]`; returns the divergence with it, in nats.
    ///
    /// Where the target knows all tokens, its probabilities are scaled to a sum of 1, and the divergence is that among these.
    pub(super) fn of_teacher(target: &TeacherTarget, q: &[f32]) -> (Self, f64) {
        let p: Vec<f64> = target.p.iter().map(|&p| f64::from(p)).collect();
        let of = |id: u32| q.get(id as usize).copied().map_or(0.0, f64::from);
        let known: f64 = target.ids.iter().map(|&id| of(id)).sum();
        let all_known = target.ids.len() >= q.len();
        let total = if all_known { p.iter().sum::<f64>() } else { 1.0 };
        let term = |p: f64, q: f64| if p > 0.0 { p * (p / q.max(f64::MIN_POSITIVE)).ln() } else { 0.0 };
        let pairs = target.ids.iter().zip(&p).map(|(&id, p)| (id, p / total.max(f64::MIN_POSITIVE)));
        let mut loss: f64 = pairs.clone().map(|(id, p)| term(p, of(id))).sum();
        let mut keep = 1.0;
        if !all_known {
            let (rest, left) = (f64::from(target.rest), (1.0 - known).max(LEAST_REST));
            loss += term(rest, left);
            keep = 1.0 - rest / left;
        }
        (Self { known: pairs.map(|(id, p)| (id, p as f32)).collect(), keep: keep as f32 }, loss)
    }

    /// Returns the factor of the predictions of tokens that are not known one by one.
    pub(super) fn keep(&self) -> f32 {
        self.keep
    }

    /// Returns the known tokens among `ids`, with their probabilities.
    pub(super) fn known(&self, ids: Range<usize>) -> &[(u32, f32)] {
        let place = |id: usize| self.known.partition_point(|&(known, _)| (known as usize) < id);
        &self.known[place(ids.start)..place(ids.end)]
    }
}

/// The least probability that all other tokens together count with: below it, rounding of the sum decides.
const LEAST_REST: f64 = 1e-6;

#[cfg(test)]
mod tests {
    use super::*;

    fn softmax(logits: &[f64]) -> Vec<f32> {
        let total: f64 = logits.iter().map(|v| v.exp()).sum();
        logits.iter().map(|v| (v.exp() / total) as f32).collect()
    }

    /// The gradient that a row's target stands for.
    fn gradient(row: &RowTarget, q: &[f32]) -> Vec<f32> {
        let mut out: Vec<f32> = q.iter().map(|q| q * row.keep()).collect();
        row.known(0..q.len()).iter().for_each(|&(id, p)| out[id as usize] = q[id as usize] - p);
        out
    }

    #[test]
    fn the_gradient_is_that_of_the_divergence() {
        let logits: Vec<f64> = (0..9).map(|i| f64::from(i * i % 7) / 3.0).collect();
        let all: Vec<u32> = (0..9).collect();
        let even = [0.3, 0.05, 0.1, 0.05, 0.1, 0.2, 0.1, 0.02, 0.03];
        for target in [
            TeacherTarget { ids: &[1, 4, 7], p: &[0.5, 0.2, 0.1], rest: 0.2 },
            TeacherTarget { ids: &all, p: &even, rest: 0.05 },
            TeacherTarget { ids: &[], p: &[], rest: 1.0 },
        ] {
            let (row, _) = RowTarget::of_teacher(&target, &softmax(&logits));
            let found = gradient(&row, &softmax(&logits));
            for i in 0..logits.len() {
                let loss = |step: f64| {
                    let mut moved = logits.clone();
                    moved[i] += step;
                    RowTarget::of_teacher(&target, &softmax(&moved)).1
                };
                let expected = (loss(1e-3) - loss(-1e-3)) / 2e-3;
                assert!((f64::from(found[i]) - expected).abs() < 1e-4, "{i}: {} {expected}", found[i]);
            }
        }
    }

    #[test]
    fn known_tokens_are_found_by_range() {
        let q = [0.25; 4];
        let (row, loss) =
            RowTarget::of_teacher(&TeacherTarget { ids: &[0, 2], p: &[0.25, 0.25], rest: 0.5 }, &q);
        assert_eq!(
            (row.known(0..2), row.known(2..4), row.known(3..4)),
            (&[(0, 0.25)][..], &[(2, 0.25)][..], &[][..])
        );
        assert!(loss.abs() < 1e-12 && row.keep().abs() < 1e-7);
        assert_eq!(RowTarget::of_label(3).known(0..4), [(3, 1.0)]);
    }
}
