//! Several matrices in one tensor: experts that tokens are routed to, and matrices of a head each.

use std::ops::Range;

use kquant_kernels::math;
use rayon::prelude::*;

use super::ModelError;
use super::tile::{Tile, apply_matrix};
use super::weights::{Matrix, rounded};
use crate::graph::{By, Experts, Map, Scores};
use crate::model::Observer;
use crate::text::block_tokens;

/// Keeps the sum of weights from 0 (DeepSeek V3).
pub(super) const TINY: f32 = 1e-20;

/// Chooses `experts.used` experts for each row of `logits` `[rows][count]` and writes their numbers, best first, and their
/// weights to `routes` `[rows][2 * used]`. `correction` `[count]` is added to the scores for the choice alone.
///
/// Source: the mixtures of Mixtral (Jiang et al., 2024), gpt-oss, and DeepSeek V2 and V3 (2024), as transformers computes them.
pub(super) fn route(experts: &Experts, correction: Option<&[f32]>, logits: &[f32], routes: &mut [f32]) {
    let rows = logits.chunks_exact(experts.count).zip(routes.chunks_exact_mut(2 * experts.used));
    for (logits, routes) in rows {
        let Scored { scores, row, chosen } = Scored::of(experts, correction, logits);
        let mut weights: Vec<f32> = chosen.iter().map(|&expert| row[expert]).collect();
        if scores == Scores::SoftmaxOfChosen {
            math::softmax(&mut weights);
        } else if experts.normalized {
            let sum: f32 = weights.iter().sum::<f32>() + TINY;
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
        let (numbers, out) = routes.split_at_mut(experts.used);
        for (number, expert) in numbers.iter_mut().zip(chosen) {
            *number = expert as f32;
        }
        for (out, weight) in out.iter_mut().zip(weights) {
            *out = weight * experts.scale;
        }
    }
}

/// The experts of one token.
pub(super) struct Scored {
    /// How logits became scores.
    pub scores: Scores,
    /// `[count]`: the scores; logits where only those of the chosen become scores.
    pub row: Vec<f32>,
    /// Numbers of the chosen, best first.
    pub chosen: Vec<usize>,
}

impl Scored {
    /// Chooses by one row of `logits` `[count]`.
    pub(super) fn of(experts: &Experts, correction: Option<&[f32]>, logits: &[f32]) -> Self {
        let scores = experts.scores.unwrap_or(match correction {
            Some(_) => Scores::Sigmoid,
            None => Scores::Softmax,
        });
        let mut row = logits.to_vec();
        match scores {
            Scores::Softmax => math::softmax(&mut row),
            Scores::Sigmoid => math::sigmoid(&mut row),
            Scores::SoftmaxOfChosen => {}
        }
        let chosen = choose(experts, correction, &row);
        Self { scores, row, chosen }
    }
}

/// The best experts by corrected score, best first; of equal ones the first.
fn choose(experts: &Experts, correction: Option<&[f32]>, scores: &[f32]) -> Vec<usize> {
    let mut judged = scores.to_vec();
    if let Some(correction) = correction {
        math::add(&mut judged, correction);
    }
    if let Some((groups, used)) = experts.groups {
        let width = experts.count / groups;
        // With a correction a group is as good as its two best, without as its best.
        let counted = if correction.is_some() { 2 } else { 1 };
        let worth: Vec<f32> = judged
            .chunks_exact(width)
            .map(|group| best(group, counted.min(width)).into_iter().map(|i| group[i]).sum())
            .collect();
        let kept = best(&worth, used);
        for (number, group) in judged.chunks_exact_mut(width).enumerate() {
            if !kept.contains(&number) {
                group.fill(f32::NEG_INFINITY);
            }
        }
    }
    best(&judged, experts.used)
}

/// Places of the `n` largest values, largest first; of equal ones the first.
fn best(values: &[f32], n: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..values.len()).collect();
    places.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    places.truncate(n);
    places
}

/// `delta` `[hidden]` = the sum of the parts of `said` `[used][hidden]`, each times its weight in `routes` `[2 * used]`.
pub(super) fn combine(routes: &[f32], said: &[f32], delta: &mut [f32]) {
    delta.fill(0.0);
    let weights = &routes[routes.len() / 2..];
    for (said, &weight) in said.chunks_exact(delta.len()).zip(weights) {
        math::add_scaled(delta, said, weight);
    }
}

/// Rows that meet one matrix: which part of which token.
pub(super) type Rows = Vec<(usize, usize)>;

/// What decides which matrices a row meets.
pub(super) struct Meeting<'a> {
    pub by: By,
    /// Number of matrices.
    pub matrices: usize,
    /// Experts that a token meets.
    pub used: usize,
    /// `[tokens][2 * used]`
    pub routes: &'a [f32],
}

impl Meeting<'_> {
    /// Matrices that a row meets.
    pub(super) fn parts(&self) -> usize {
        match self.by {
            By::Heads => self.matrices,
            By::Routes => self.used,
        }
    }

    /// Which rows of `tokens` meet each matrix, in the order of the tokens.
    pub(super) fn rows(&self, tokens: Range<usize>) -> Vec<Rows> {
        let mut rows = vec![Rows::new(); self.matrices];
        for token in tokens {
            match self.by {
                By::Heads => rows.iter_mut().enumerate().for_each(|(head, rows)| rows.push((token, head))),
                By::Routes => {
                    let routes = &self.routes[token * 2 * self.used..][..self.used];
                    for (part, &expert) in routes.iter().enumerate() {
                        rows[expert as usize].push((token, part));
                    }
                }
            }
        }
        rows
    }

    /// The rows of `tokens` that meet each matrix, `[rows][inputs]`, out of `x`, whose rows are `width` wide.
    pub(super) fn inputs(
        &self,
        x: &[f32],
        width: usize,
        inputs: usize,
        tokens: Range<usize>,
    ) -> Vec<Vec<f32>> {
        self.rows(tokens).iter().map(|rows| gather(x, width, inputs, rows)).collect()
    }
}

/// Copies the rows, `inputs` wide, out of `x`, where a token has one for each of its parts or one for all.
fn gather(x: &[f32], width: usize, inputs: usize, rows: &Rows) -> Vec<f32> {
    let shared = width == inputs;
    let mut out = vec![0.0; rows.len() * inputs];
    out.par_chunks_mut(inputs).zip(rows).for_each(|(out, &(token, part))| {
        let at = token * width + if shared { 0 } else { part * inputs };
        out.copy_from_slice(&x[at..at + inputs]);
    });
    out
}

/// Shows `observer` what enters each matrix of the tensors `names`, a block of text at a time.
pub(super) fn observe(
    observer: &mut dyn Observer,
    names: &[String],
    map: &Map,
    tile: &Tile,
    (meeting, inputs): (&Meeting, usize),
) -> Result<(), ModelError> {
    let block = block_tokens(tile.context());
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (x, width) = (tile.buffer(map.input), tile.width(map.input));
    for first in (0..tile.tokens()).step_by(block) {
        let rows = meeting.inputs(x, width, inputs, first..tile.tokens().min(first + block));
        for (matrix, x) in rows.iter().enumerate() {
            observer.expert_input(&names, matrix, meeting.matrices, x, inputs)?;
        }
    }
    Ok(())
}

/// `out` `[tokens][parts][outputs]`: each part of a row times the matrix that it meets.
pub(super) fn apply(matrices: &[Matrix], map: &Map, tile: &Tile, meeting: &Meeting, out: &mut Vec<f32>) {
    let Some(first) = matrices.first() else { return };
    let (inputs, outputs, parts) = (first.weight.inputs(), first.weight.outputs(), meeting.parts());
    out.resize(tile.tokens() * parts * outputs, 0.0);
    let (x, width) = (tile.buffer(map.input), tile.width(map.input));
    let rows = meeting.rows(0..tile.tokens());
    let mut y = Vec::new();
    for (matrix, rows) in matrices.iter().zip(&rows).filter(|(_, rows)| !rows.is_empty()) {
        let x = gather(x, width, inputs, rows);
        apply_matrix(matrix, tile.context(), &rounded(matrix.rounding, &x, inputs), &mut y);
        for (y, (token, part)) in y.chunks_exact(outputs).zip(rows) {
            out[(token * parts + part) * outputs..][..outputs].copy_from_slice(y);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Experts =
        Experts { count: 4, used: 2, scores: None, normalized: true, scale: 1.0, groups: None };

    fn routes(experts: &Experts, correction: Option<&[f32]>, logits: &[f32]) -> Vec<f32> {
        let mut routes = vec![f32::NAN; logits.len() / experts.count * 2 * experts.used];
        route(experts, correction, logits, &mut routes);
        routes
    }

    fn close(a: &[f32], b: &[f32]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6)
    }

    #[test]
    fn softmax_chooses_the_largest_logits() {
        let logits = [0.0, 3f32.ln(), 0.0, 2f32.ln(), 1.0, 1.0, 1.0, 1.0];
        assert!(close(&routes(&PLAIN, None, &logits), &[1.0, 3.0, 0.6, 0.4, 0.0, 1.0, 0.5, 0.5]));
        let plain = Experts { normalized: false, scale: 7.0, ..PLAIN };
        assert!(close(&routes(&plain, None, &logits[..4]), &[1.0, 3.0, 3.0, 2.0]));
        let chosen = Experts { scores: Some(Scores::SoftmaxOfChosen), normalized: false, ..PLAIN };
        assert!(close(&routes(&chosen, None, &logits[..4]), &[1.0, 3.0, 0.6, 0.4]));
    }

    #[test]
    fn a_correction_decides_and_does_not_weigh() {
        let correction = [0.0, 0.0, 1.0, 0.0];
        let logits = [0.0, 3f32.ln(), 0.0, -1.0];
        assert!(close(&routes(&PLAIN, Some(&correction), &logits), &[2.0, 1.0, 0.4, 0.6]));
    }

    #[test]
    fn groups_limit_the_choice() {
        let logits = [3.0, -9.0, 2.0, 1.5];
        let limited = Experts { groups: Some((2, 1)), ..PLAIN };
        let of = |correction| routes(&limited, correction, &logits)[..2].to_vec();
        assert_eq!(of(None), [0.0, 1.0], "the group with the best");
        assert_eq!(of(Some(&[0.0; 4])), [2.0, 3.0], "the group with the best two");
    }

    #[test]
    fn what_experts_say_is_weighed() {
        let mut delta = [9.0; 2];
        combine(&[3.0, 1.0, 0.5, 2.0], &[1.0, 2.0, 10.0, 20.0], &mut delta);
        assert_eq!(delta, [20.5, 41.0]);
    }
}
