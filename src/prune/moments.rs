//! Statistics of the inputs of one weight in f64, over the training blocks of the text and over its held-out blocks.

use rayon::prelude::*;

use crate::layerwise::MeanMoments;
use crate::symmetric::{dot, product_transposed, transposed};

/// Means over tokens in f64.
pub(super) struct Moments {
    pub tokens: f64,
    /// The mean of `x'x`, `[n][n]`.
    pub outer: Vec<f64>,
    /// The mean of `lost' x` as errors of the outputs, `[rows][n]`.
    pub gain: Vec<f64>,
}

/// The moments of the training tokens, and of the held-out ones if the text has several blocks.
pub(super) struct Split {
    pub train: Moments,
    pub held_out: Option<Moments>,
}

impl Split {
    /// Takes the means of both halves of a text, of inputs of `n` columns. If the losses are those of inputs, `weight` `[rows][n]` carries
    /// them to the outputs. Returns `None` if there are no tokens.
    pub(super) fn new(
        (train, held_out): &(Option<MeanMoments>, Option<MeanMoments>),
        weight: &[f64],
        n: usize,
        of_inputs: bool,
    ) -> Option<Self> {
        let of = |means: &MeanMoments| Moments::new(means, weight, n, of_inputs);
        Some(Self { train: of(train.as_ref()?), held_out: held_out.as_ref().map(of) })
    }

    /// Returns the means over all tokens.
    pub(super) fn all(mut self) -> Moments {
        let Some(other) = self.held_out else { return self.train };
        let share = other.tokens / (self.train.tokens + other.tokens);
        let join = |all: &mut [f64], other: &[f64]| {
            all.par_iter_mut().zip(other).for_each(|(all, other)| *all += share * (other - *all));
        };
        join(&mut self.train.outer, &other.outer);
        join(&mut self.train.gain, &other.gain);
        self.train.tokens += other.tokens;
        self.train
    }
}

impl Moments {
    fn new(means: &MeanMoments, weight: &[f64], n: usize, of_inputs: bool) -> Self {
        let wide = |values: &[f32]| -> Vec<f64> { values.iter().copied().map(f64::from).collect() };
        let cross = means.cross.as_deref().map_or_else(Vec::new, wide);
        let gain = if of_inputs && !cross.is_empty() {
            let lost = cross.len() / n;
            let weight: Vec<f64> = weight.chunks_exact(n).flat_map(|row| &row[..lost]).copied().collect();
            product_transposed(&weight, &transposed(&cross, n), lost)
        } else {
            cross
        };
        Self { tokens: means.hessian.tokens as f64, outer: wide(&means.hessian.mean), gain }
    }

    /// Adds `share` of the mean of the diagonal to the first `columns` values of the diagonal.
    ///
    /// Returns `None` if the diagonal is zero or not finite.
    pub(super) fn damped(&self, n: usize, columns: usize, share: f64) -> Option<Vec<f64>> {
        damped(&self.outer, n, columns, share)
    }

    /// Returns the share in 0..=1 of `change` `[rows][n]` with the least loss on these tokens, which is a parabola in it.
    pub(super) fn best_share(&self, change: &[f64], n: usize) -> f64 {
        let cost = dot(change, &product_transposed(change, &self.outer, n));
        if cost > 0.0 { (dot(change, &self.gain) / cost).clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// Returns `matrix` `[n][n]` with `share` of the mean of its first `columns` diagonal values added to each of these, or `None`
/// if that mean is not positive or not finite.
pub(super) fn damped(matrix: &[f64], n: usize, columns: usize, share: f64) -> Option<Vec<f64>> {
    let mean = matrix.iter().step_by(n + 1).take(columns).sum::<f64>() / columns as f64;
    let mut damped = matrix.to_vec();
    damped.iter_mut().step_by(n + 1).take(columns).for_each(|v| *v += share * mean);
    (mean > 0.0 && mean.is_finite()).then_some(damped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::feedback::Hessian;

    #[test]
    fn losses_of_inputs_become_losses_of_outputs() {
        // Two inputs and a constant; the losses are of the two inputs. Two rows.
        let hessian = Hessian { columns: 3, mean: vec![1.0; 9], tokens: 6 };
        let means = MeanMoments { hessian, cross: Some(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) };
        let halves = (Some(means), None);
        let weight = [1.0, 10.0, 7.0, -1.0, 2.0, 7.0];
        let split = Split::new(&halves, &weight, 3, true).unwrap();
        assert_eq!(split.train.gain, [41.0, 52.0, 63.0, 7.0, 8.0, 9.0]);
        let split = Split::new(&halves, &weight, 3, false).unwrap();
        assert_eq!(split.train.gain, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert!(Split::new(&(None, None), &weight, 3, false).is_none());
    }

    #[test]
    fn both_halves_are_weighed_by_their_tokens() {
        let of = |tokens: f64, value: f64| Moments { tokens, outer: vec![value], gain: vec![-value] };
        let all = Split { train: of(6.0, 1.0), held_out: Some(of(2.0, 5.0)) }.all();
        assert_eq!((all.tokens, all.outer, all.gain), (8.0, vec![2.0], vec![-2.0]));
    }
}
