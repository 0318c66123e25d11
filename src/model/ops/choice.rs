//! The choice of the experts that a token is routed to.

use kquant_kernels::math;

use crate::graph::{Experts, Scores};

/// The scores of the experts for one token, and the experts chosen by them.
pub(super) struct Scored {
    /// Function that turned logits into scores.
    pub scores: Scores,
    /// Scores `[count]`; logits where only those of the chosen experts become scores.
    pub row: Vec<f32>,
    /// Numbers of the chosen experts, best first.
    pub chosen: Vec<usize>,
}

impl Scored {
    /// Chooses experts by one row of `logits` `[count]`.
    pub(super) fn of(experts: &Experts, correction: Option<&[f32]>, logits: &[f32]) -> Self {
        let scores = experts.scores.unwrap_or(match correction {
            Some(_) => Scores::Sigmoid,
            None => Scores::Softmax,
        });
        let mut row = logits.to_vec();
        match scores {
            Scores::Softmax => math::softmax(&mut row),
            Scores::Sigmoid => math::sigmoid(&mut row),
            Scores::SoftmaxOfChosen | Scores::SparseMixer => {}
        }
        let chosen = choose(experts, correction, &row);
        Self { scores, row, chosen }
    }
}

/// Returns the experts with the best corrected scores, best first; among equal scores, the lower number comes first.
fn choose(experts: &Experts, correction: Option<&[f32]>, scores: &[f32]) -> Vec<usize> {
    let mut corrected = scores.to_vec();
    if let Some(correction) = correction {
        math::add(&mut corrected, correction);
    }
    if let Some((groups, used)) = experts.groups {
        let width = experts.count / groups;
        // A group is rated by its two best experts with a correction, and by its best one without.
        let counted = if correction.is_some() { 2 } else { 1 };
        let worth: Vec<f32> = corrected
            .chunks_exact(width)
            .map(|group| best(group, counted.min(width)).into_iter().map(|i| group[i]).sum())
            .collect();
        let kept = best(&worth, used);
        for (number, group) in corrected.chunks_exact_mut(width).enumerate() {
            if !kept.contains(&number) {
                group.fill(f32::NEG_INFINITY);
            }
        }
    }
    best(&corrected, experts.used)
}

/// Returns the indices of the `n` largest values, largest first; among equal values, the lower index comes first.
fn best(values: &[f32], n: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..values.len()).collect();
    places.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    places.truncate(n);
    places
}
