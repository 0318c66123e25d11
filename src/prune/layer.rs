//! The choice of one layer's channels, and the weights of those that stay.

use std::cmp::Ordering;

use serde::Serialize;

use super::greedy::choose;
use super::moments::{Split, damped};
use super::symmetric::{dot, inverse, product_transposed, transposed};
use super::weights::{masked, moved};

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
    /// Channels that are kept, in order.
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

/// Chooses `width` channels of `down` by `score` and returns the choice with the new weight `[rows][n]`, which is zero in
/// the columns of the others. Returns `None` if the inputs of the text do not suffice.
pub(super) fn prune_layer(
    down: &Down,
    split: Split,
    fisher: Option<&[f64]>,
    (score, width): (Score, usize),
) -> Option<(LayerChoice, Vec<f64>)> {
    match score {
        Score::SecondOrder => second_order(down, split, fisher, width),
        Score::Wanda => Some(wanda(down, split, width)),
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
    width: usize,
) -> Option<(LayerChoice, Vec<f64>)> {
    let (n, channels) = (down.n, down.channels);
    let (target, correction) = corrected(down, &split)?;
    let h = split.all().damped(n, channels, DAMPING)?;
    let cost = output_cost(&target, fisher, n)?;
    let cuts = choose((inverse(h.clone(), n)?, cost), n, channels, channels - width);
    let mut kept = vec![true; n];
    cuts.iter().for_each(|cut| kept[cut.column] = false);
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

fn wanda(down: &Down, split: Split, width: usize) -> (LayerChoice, Vec<f64>) {
    let (n, all) = (down.n, split.all());
    let columns = transposed(&down.weight, n);
    let score = |j: usize| {
        let column = &columns[j * columns.len() / n..(j + 1) * columns.len() / n];
        dot(column, column) * all.outer[j * n + j]
    };
    let mut scored: Vec<(f64, usize)> = (0..down.channels).map(|j| (score(j), j)).collect();
    let best_first =
        |a: &(f64, usize), b: &(f64, usize)| -> Ordering { b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)) };
    scored.sort_by(best_first);
    let price = scored[width..].iter().map(|(score, _)| score).sum();
    let mut kept: Vec<usize> = scored[..width].iter().map(|(_, j)| *j).chain(down.channels..n).collect();
    kept.sort_unstable();
    let new = masked(&down.weight, n, &kept);
    (choice(kept, down.channels, price, 0.0), new)
}

fn choice(mut kept: Vec<usize>, channels: usize, price: f64, correction: f64) -> LayerChoice {
    kept.retain(|&j| j < channels);
    LayerChoice { layer: 0, kept, price, correction }
}
