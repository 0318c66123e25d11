//! What a row of predictions is compared with, and the loss and gradient that follow.

use std::ops::Range;

use super::options::TeacherTarget;

/// The expected distribution of one row, in the form that the gradient needs.
///
/// The gradient with respect to the logits is `q - p` for the known tokens and `keep * q` for the others.
#[derive(Debug, Default)]
pub(super) struct RowTarget {
    /// Known tokens in rising order, with the `p` of their gradient, which is their probability at a temperature of 1.
    known: Vec<(u32, f32)>,
    /// `1 - rest / q_rest` at a temperature of 1, by the probabilities of all other tokens together.
    keep: f32,
}

impl RowTarget {
    /// Expects the token `label` alone.
    pub(super) fn of_label(label: u32) -> Self {
        Self { known: vec![(label, 1.0)], keep: 1.0 }
    }

    /// Expects the distribution `target` in the place of the predictions `q` `[vocab]`; returns the divergence with it, in nats.
    ///
    /// Probabilities are scaled to a sum of 1. Where the target knows all tokens, there is no rest.
    pub(super) fn of_teacher(target: &TeacherTarget, q: &[f32]) -> (Self, f64) {
        let t = f64::from(target.temperature);
        let mut p: Vec<f64> = target.p.iter().map(|&p| f64::from(p)).collect();
        let of = |&id: &u32| q.get(id as usize).copied().map_or(0.0, f64::from);
        let before: Vec<f64> = target.ids.iter().map(of).collect();
        let left = (1.0 - before.iter().sum::<f64>()).max(LEAST_REST);
        let mut q_all = before.clone();
        if target.ids.len() < q.len() {
            p.push(f64::from(target.rest));
            q_all.push(left);
        }
        soften(&mut p, t);
        soften(&mut q_all, t);
        let term =
            |(&p, &q): (&f64, &f64)| if p > 0.0 { p * (p / q.max(f64::MIN_POSITIVE)).ln() } else { 0.0 };
        let loss = t * t * p.iter().zip(&q_all).map(term).sum::<f64>();
        let mut gradients = q_all.iter().zip(&p).map(|(q, p)| t * (q - p));
        let known = target.ids.iter().zip(&before).zip(gradients.by_ref());
        let known = known.map(|((&id, q), gradient)| (id, (q - gradient) as f32)).collect();
        let keep = gradients.next().map_or(1.0, |gradient| gradient / left) as f32;
        (Self { known, keep }, loss)
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

/// Raises probabilities to the power `1 / temperature` and scales them to a sum of 1.
fn soften(p: &mut [f64], temperature: f64) {
    if temperature != 1.0 {
        p.iter_mut().for_each(|p| *p = p.powf(1.0 / temperature));
    }
    let total = p.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    p.iter_mut().for_each(|p| *p /= total);
}

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
        let three = TeacherTarget { ids: &[1, 4, 7], p: &[0.5, 0.2, 0.1], rest: 0.2, temperature: 1.0 };
        let whole = TeacherTarget { ids: &all, p: &even, rest: 0.05, temperature: 1.0 };
        let none = TeacherTarget { ids: &[], p: &[], rest: 1.0, temperature: 1.0 };
        let warm = |target| TeacherTarget { temperature: 2.0, ..target };
        for target in [three, whole, none, warm(three), warm(whole)] {
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
        let (row, loss) = RowTarget::of_teacher(
            &TeacherTarget { ids: &[0, 2], p: &[0.25, 0.25], rest: 0.5, temperature: 1.0 },
            &q,
        );
        assert_eq!(
            (row.known(0..2), row.known(2..4), row.known(3..4)),
            (&[(0, 0.25)][..], &[(2, 0.25)][..], &[][..])
        );
        assert!(loss.abs() < 1e-12 && row.keep().abs() < 1e-7);
        assert_eq!(RowTarget::of_label(3).known(0..4), [(3, 1.0)]);
    }
}
