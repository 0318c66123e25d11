//! The choice of one layer's channels, and the weights of those that stay.

use std::cmp::Ordering;

use serde::Serialize;

use super::greedy::choose;
use super::moments::{Split, damped};
use super::weights::{masked, moved};
use crate::symmetric::{dot, inverse, product_transposed, transposed};

/// Damping of the inputs' second moments, as a share of their mean diagonal.
const DAMPING: f64 = 1e-3;
/// Damping of the outputs' Fisher matrix, as a share of its mean diagonal.
const FISHER_DAMPING: f64 = 1e-2;

/// What channels are chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Score {
    /// The increase of the KL divergence to second order when the channels that stay make up for those that are cut.
    SecondOrder,
    /// Mean square of the input times the squared norm of the column, without any change of what stays (Wanda).
    Wanda,
}

/// The choice of a layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerChoice {
    /// Number of the layer.
    pub layer: usize,
    /// Channels, or columns of heads, that are kept, in order.
    pub kept: Vec<usize>,
    /// Sum of the scores of the channels that are cut; with [`Score::SecondOrder`] it is a KL divergence in nats per token.
    pub price: f64,
    /// Share of the losses of earlier layers that the weight makes up for, 0 to 1.
    pub correction: f64,
}

/// A weight `[rows][n]` whose last column is its bias if `n` is more than `channels`.
pub(super) struct Down {
    pub weight: Vec<f64>,
    pub n: usize,
    pub channels: usize,
}

/// What is to be kept, by which score.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub score: Score,
    /// Number of columns that are kept.
    pub width: usize,
    /// Number of neighbouring columns that are kept or cut together.
    pub block: usize,
}

/// Chooses the columns of `down` that are `wanted` and returns the choice with the new weight `[rows][n]`, which is zero in
/// the columns of the others. Returns `None` if the inputs of the text do not suffice.
pub(super) fn prune_layer(
    down: &Down,
    split: Split,
    fisher: Option<&[f64]>,
    wanted: Wanted,
) -> Option<(LayerChoice, Vec<f64>)> {
    match wanted.score {
        Score::SecondOrder => second_order(down, split, fisher, wanted),
        Score::Wanda => wanda(down, split, wanted),
    }
}

/// Moves `weight` towards the least squares of what is lost, as far as held-out text says. Returns the new weight with the
/// share that was taken; `None` if the inputs of the text do not suffice.
pub(super) fn corrected(down: &Down, split: &Split) -> Option<(Vec<f64>, f64)> {
    let n = down.n;
    let inverted = inverse(split.train.damped(n, down.channels, DAMPING)?, n)?;
    let change = product_transposed(&split.train.gain, &inverted, n);
    // The value without held-out text is chosen, not derived.
    let share = split.held_out.as_ref().map_or(0.5, |held_out| held_out.best_share(&change, n));
    Some((down.weight.iter().zip(&change).map(|(w, c)| w + share * c).collect(), share))
}

fn second_order(
    down: &Down,
    split: Split,
    fisher: Option<&[f64]>,
    Wanted { width, block, .. }: Wanted,
) -> Option<(LayerChoice, Vec<f64>)> {
    let (n, channels) = (down.n, down.channels);
    let (target, correction) = corrected(down, &split)?;
    let h = split.all().damped(n, channels, DAMPING)?;
    let cost = output_cost(&target, fisher, n)?;
    let blocks = (channels / block, block);
    let cuts = choose((inverse(h.clone(), n)?, cost), n, blocks, (channels - width) / block);
    let mut kept = vec![true; n];
    cuts.iter().for_each(|cut| kept[cut.block * block..(cut.block + 1) * block].fill(false));
    let kept: Vec<usize> = (0..n).filter(|&j| kept[j]).collect();
    let new = moved(&target, &h, n, &kept)?;
    let price = cuts.iter().map(|cut| cut.price).sum();
    Some((choice(kept, channels, price, correction), new))
}

/// Returns `W' F W` `[n][n]` of a weight `[rows][n]`, with the damped Fisher matrix or, where there is none, the identity.
fn output_cost(weight: &[f64], fisher: Option<&[f64]>, n: usize) -> Option<Vec<f64>> {
    let rows = weight.len() / n;
    let columns = transposed(weight, n);
    let weighted = match fisher {
        Some(fisher) => product_transposed(&columns, &damped(fisher, rows, rows, FISHER_DAMPING)?, rows),
        None => columns.clone(),
    };
    Some(product_transposed(&weighted, &columns, rows))
}

fn wanda(down: &Down, split: Split, Wanted { width, block, .. }: Wanted) -> Option<(LayerChoice, Vec<f64>)> {
    let (n, all) = (down.n, split.all());
    let columns = transposed(&down.weight, n);
    let score = |j: usize| {
        let column = &columns[j * columns.len() / n..(j + 1) * columns.len() / n];
        dot(column, column) * all.outer[j * n + j]
    };
    let score_of = |b: usize| (b * block..(b + 1) * block).map(score).sum();
    let mut scored: Vec<(f64, usize)> = (0..down.channels / block).map(|b| (score_of(b), b)).collect();
    let total: f64 = scored.iter().map(|(score, _)| score).sum();
    if !(total > 0.0 && total.is_finite()) {
        return None;
    }
    let best_first =
        |a: &(f64, usize), b: &(f64, usize)| -> Ordering { b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)) };
    scored.sort_by(best_first);
    let (best, rest) = scored.split_at(width / block);
    let price = rest.iter().map(|(score, _)| score).sum();
    let blocks = best.iter().flat_map(|(_, b)| b * block..(b + 1) * block);
    let mut kept: Vec<usize> = blocks.chain(down.channels..n).collect();
    kept.sort_unstable();
    let new = masked(&down.weight, n, &kept);
    Some((choice(kept, down.channels, price, 0.0), new))
}

fn choice(mut kept: Vec<usize>, channels: usize, price: f64, correction: f64) -> LayerChoice {
    kept.retain(|&j| j < channels);
    LayerChoice { layer: 0, kept, price, correction }
}

#[cfg(test)]
mod tests {
    use super::super::moments::Moments;
    use super::super::tests::{cost_of_errors, noise, positive_definite};
    use super::super::weights::masked;
    use super::*;

    /// Inputs `[tokens][n]` whose last column is 1, as those of a weight with a bias.
    fn inputs(tokens: usize, n: usize, seed: u64) -> Vec<f64> {
        let mut x = noise(tokens * n, seed);
        x.chunks_exact_mut(n).for_each(|x| x[n - 1] = 1.0);
        x
    }

    /// Means over the inputs `x` `[tokens][n]` of losses `x lost'`, with `lost` `[rows][n]`.
    fn moments(x: &[f64], lost: &[f64], n: usize) -> Moments {
        let tokens = (x.len() / n) as f64;
        let columns = transposed(x, n);
        let mut outer = product_transposed(&columns, &columns, x.len() / n);
        outer.iter_mut().for_each(|v| *v /= tokens);
        Moments { tokens, gain: product_transposed(lost, &outer, n), outer }
    }

    fn split(x: &[f64], lost: &[f64], n: usize) -> Split {
        Split { train: moments(x, lost, n), held_out: None }
    }

    #[test]
    fn the_price_is_the_cost_of_the_new_weight() {
        let (n, rows, width) = (20, 6, 12);
        let (x, fisher, weight) = (inputs(200, n, 1), positive_definite(rows, 2), noise(rows * n, 3));
        let down = Down { weight, n, channels: n - 1 };
        let h = moments(&x, &vec![0.0; rows * n], n).damped(n, n - 1, DAMPING).unwrap();
        let f = damped(&fisher, rows, rows, FISHER_DAMPING).unwrap();
        let real = |new: &[f64]| {
            let errors: Vec<f64> = down.weight.iter().zip(new).map(|(w, new)| w - new).collect();
            cost_of_errors(&errors, &h, &f, n)
        };
        let pruned = |score| {
            prune_layer(
                &down,
                split(&x, &vec![0.0; rows * n], n),
                Some(&fisher),
                Wanted { score, width, block: 1 },
            )
            .unwrap()
        };
        let (choice, new) = pruned(Score::SecondOrder);
        assert!((real(&new) / choice.price - 1.0).abs() < 1e-9, "{} {}", real(&new), choice.price);
        let cut: Vec<usize> = (0..n - 1).filter(|j| !choice.kept.contains(j)).collect();
        assert_eq!((choice.kept.len(), cut.len()), (width, n - 1 - width));
        assert!(new.iter().enumerate().all(|(at, &v)| (v == 0.0) == cut.contains(&(at % n))));
        let (wanda, masked_by_wanda) = pruned(Score::Wanda);
        let with_bias = [&wanda.kept[..], &[n - 1]].concat();
        assert_eq!(masked_by_wanda, masked(&down.weight, n, &with_bias));
        assert!(real(&new) < 0.8 * real(&masked_by_wanda), "{} {}", real(&new), real(&masked_by_wanda));
    }

    #[test]
    fn a_constant_channel_goes_into_the_bias() {
        let (n, rows, constant) = (10, 3, 0.7);
        let mut x = inputs(100, n, 4);
        x.chunks_exact_mut(n).for_each(|x| x[4] = constant);
        let down = Down { weight: noise(rows * n, 5), n, channels: n - 1 };
        let (choice, new) = prune_layer(
            &down,
            split(&x, &vec![0.0; rows * n], n),
            None,
            Wanted { score: Score::SecondOrder, width: n - 2, block: 1 },
        )
        .unwrap();
        assert_eq!(choice.kept, [0, 1, 2, 3, 5, 6, 7, 8]);
        for (old, new) in down.weight.chunks_exact(n).zip(new.chunks_exact(n)) {
            assert!(
                (new[n - 1] - (old[n - 1] + constant * old[4])).abs() < 1e-9,
                "{} {}",
                new[n - 1],
                old[n - 1]
            );
            assert!(choice.kept.iter().all(|&j| (new[j] - old[j]).abs() < 1e-9) && new[4] == 0.0);
        }
    }

    #[test]
    fn wanda_keeps_the_largest_scores_and_of_equal_ones_the_first() {
        // Squares of the inputs are 1, 4, 1 and 1; of the columns 4, 1, 9 and 4.
        let down = Down { weight: vec![2.0, 1.0, 3.0, 2.0], n: 4, channels: 4 };
        let x = [1.0, 2.0, 1.0, 1.0];
        let (choice, new) = prune_layer(
            &down,
            split(&x, &[0.0; 4], 4),
            None,
            Wanted { score: Score::Wanda, width: 2, block: 1 },
        )
        .unwrap();
        assert_eq!((choice.kept, choice.price), (vec![0, 2], 8.0));
        assert_eq!(new, [2.0, 0.0, 3.0, 0.0]);
        for useless in [[0.0; 4], [f64::NAN; 4]] {
            assert!(
                prune_layer(
                    &down,
                    split(&useless, &[0.0; 4], 4),
                    None,
                    Wanted { score: Score::Wanda, width: 2, block: 1 }
                )
                .is_none()
            );
        }
    }

    #[test]
    fn what_was_lost_is_made_up_for_as_far_as_held_out_text_agrees() {
        let (n, rows) = (8, 3);
        let (x, other) = (inputs(400, n, 6), inputs(300, n, 7));
        let lost = noise(rows * n, 8);
        let down = Down { weight: noise(rows * n, 9), n, channels: n - 1 };
        let with = |held_out: &[f64]| {
            let split = Split { train: moments(&x, &lost, n), held_out: Some(moments(&other, held_out, n)) };
            corrected(&down, &split).unwrap()
        };
        let (new, share) = with(&lost);
        assert!((share - 1.0).abs() < 2.0 * DAMPING, "{share}");
        for ((new, old), lost) in new.iter().zip(&down.weight).zip(&lost) {
            assert!((new - old - lost).abs() < 5.0 * DAMPING, "{new} {old} {lost}");
        }
        let half: Vec<f64> = lost.iter().map(|v| 0.5 * v).collect();
        assert!((with(&half).1 - 0.5).abs() < 2.0 * DAMPING);
        let opposite: Vec<f64> = lost.iter().map(|v| -v).collect();
        let (unchanged, none) = with(&opposite);
        assert!(none == 0.0 && unchanged == down.weight);
    }
}
