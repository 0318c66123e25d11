//! Embeddings of texts, and how far those of two models are from each other.
//!
//! The embedding of a text is made of the states of its tokens after the last norm: pooled, multiplied by the model's dense layers if it
//! has some, and divided by its length. Texts of decoders are padded to common lengths at their ends, which no token before sees; tokens of
//! encoders see both ways, so that only texts of equal length run together.

use serde::Serialize;

use crate::arch::Pooling;
use crate::context::Context;
use crate::model::{Model, ModelError, Pass};

/// Number of neighbours of a text that are compared.
pub const NEIGHBOURS: usize = 10;

/// Shortest length in tokens to which texts are padded; others are its powers of two.
const SHORTEST: usize = 32;

/// How the embeddings of a model differ from those of its base, over the same texts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EmbeddingReport {
    /// Number of texts.
    pub texts: usize,
    /// Number of values of an embedding.
    pub dimensions: usize,
    /// Mean cosine of the embeddings of the same text by the two models.
    pub mean_cosine: f64,
    /// Smallest cosine, and the number of its text.
    pub worst_cosine: f64,
    /// Number of the text with the smallest cosine.
    pub worst_text: usize,
    /// Mean share of a text's nearest neighbours among the other texts, by cosine, that both models agree on.
    pub shared_neighbours: f64,
    /// Number of neighbours that were compared.
    pub neighbours: usize,
}

/// Returns how `model` pools the states of a text; `None` if it is no embedding model.
pub fn pooling_of(model: &Model) -> Option<Pooling> {
    let keys = model.metadata();
    let name = keys.get("general.architecture")?.as_str()?;
    Pooling::by_id(keys.get(&format!("{name}.pooling_type"))?.as_u64()?)
}

/// Returns the embeddings of `texts`, tokens that are not empty, by `model`, each of length 1.
///
/// # Errors
/// Fails when a text is longer than the model's context, the model cannot be run, or the run is cancelled.
pub fn embeddings(
    model: &Model,
    pooling: Pooling,
    texts: &[Vec<u32>],
    run: &Context,
) -> Result<Vec<Vec<f32>>, ModelError> {
    let padded = |text: &[u32]| padded(text, model);
    let dense = Dense::all(model)?;
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&text| padded(&texts[text]));
    let head = model.head(0)?;
    let mut all = vec![Vec::new(); texts.len()];
    let mut done = 0;
    for same in order.chunk_by(|&a, &b| padded(&texts[a]) == padded(&texts[b])) {
        let context = padded(&texts[same[0]]);
        let pass = Pass { context, memory: run.memory, cancel: run.cancel, progress: run.progress };
        let at_once = model.chunks_at_once(&pass, 1)?;
        for part in same.chunks(at_once) {
            let mut tokens = vec![0; part.len() * context];
            for (row, &text) in tokens.chunks_mut(context).zip(part) {
                row[..texts[text].len()].copy_from_slice(&texts[text]);
            }
            let hidden = model.hidden(&tokens, &pass, None, done)?;
            done += (tokens.len() * model.hyper.layers) as u64;
            for (number, &text) in part.iter().enumerate() {
                let states = head.normed(hidden.rows(number * context, texts[text].len()));
                let pooled = pooled(&states, model.hyper.hidden, pooling);
                all[text] = unit(dense.iter().fold(pooled, |x, dense| dense.apply(&x)));
            }
        }
    }
    Ok(all)
}

/// Returns the length to which `text` is padded for `model`. Texts of encoders are not, nor are texts that are longer than the context,
/// which the model refuses.
fn padded(text: &[u32], model: &Model) -> usize {
    match model.is_encoder() {
        true => text.len(),
        false => text.len().next_power_of_two().max(SHORTEST).min(model.hyper.context).max(text.len()),
    }
}

/// Returns the units of work that the progress of [`embeddings`] is reported in.
pub fn embedding_work(model: &Model, texts: &[Vec<u32>]) -> u64 {
    let tokens: usize = texts.iter().map(|text| padded(text, model)).sum();
    (tokens * model.hyper.layers) as u64
}

/// A linear map that follows the pooling, without a bias (sentence-transformers' `Dense`).
struct Dense {
    /// Weights, `[outputs][inputs]`.
    weights: Vec<f32>,
    inputs: usize,
}

impl Dense {
    /// Reads those of `model`, in their order.
    fn all(model: &Model) -> Result<Vec<Self>, ModelError> {
        let tensors = ["dense_2.weight", "dense_3.weight"].into_iter().filter_map(|name| model.find(name));
        let mut width = model.hyper.hidden;
        tensors
            .map(|tensor| {
                model.check(&tensor.name, &[width as u64, tensor.rows()])?;
                let dense = Self { weights: model.values(tensor)?, inputs: width };
                width = tensor.rows() as usize;
                Ok(dense)
            })
            .collect()
    }

    fn apply(&self, x: &[f64]) -> Vec<f64> {
        let row = |row: &[f32]| row.iter().zip(x).map(|(weight, x)| f64::from(*weight) * x).sum();
        self.weights.chunks_exact(self.inputs.max(1)).map(row).collect()
    }
}

/// Returns what the states of a text, `[tokens][width]`, are pooled to.
fn pooled(states: &[f32], width: usize, pooling: Pooling) -> Vec<f64> {
    let mut out: Vec<f64> = vec![0.0; width];
    let mut rows = states.chunks_exact(width);
    match pooling {
        Pooling::Mean => {
            let part = 1.0 / (states.len() / width.max(1)).max(1) as f64;
            rows.for_each(|row| out.iter_mut().zip(row).for_each(|(sum, x)| *sum += part * f64::from(*x)))
        }
        Pooling::First | Pooling::Last => {
            let row = if pooling == Pooling::First { rows.next() } else { rows.next_back() };
            out.iter_mut().zip(row.into_iter().flatten()).for_each(|(out, x)| *out = f64::from(*x));
        }
    }
    out
}

/// Returns `x` divided by its length; zeros stay what they are.
fn unit(x: Vec<f64>) -> Vec<f32> {
    let length = x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
    x.into_iter().map(|x| (x * scale) as f32).collect()
}

/// Compares the embeddings of a model with those of its base, text by text.
pub fn compare_embeddings(model: &[Vec<f32>], base: &[Vec<f32>]) -> EmbeddingReport {
    let cosines: Vec<f64> = model.iter().zip(base).map(|(a, b)| dot(a, b)).collect();
    let worst = (0..cosines.len()).min_by(|&a, &b| cosines[a].total_cmp(&cosines[b])).unwrap_or(0);
    let neighbours = NEIGHBOURS.min(model.len().saturating_sub(1));
    let shared: usize = (0..model.len())
        .map(|text| {
            let [ours, theirs] = [model, base].map(|all| nearest(all, text, neighbours));
            ours.iter().filter(|other| theirs.contains(other)).count()
        })
        .sum();
    EmbeddingReport {
        texts: model.len(),
        dimensions: model.first().map_or(0, Vec::len),
        mean_cosine: cosines.iter().sum::<f64>() / cosines.len().max(1) as f64,
        worst_cosine: cosines.get(worst).copied().unwrap_or(f64::NAN),
        worst_text: worst,
        shared_neighbours: shared as f64 / (neighbours * model.len()).max(1) as f64,
        neighbours,
    }
}

/// Returns the `count` texts whose embeddings are nearest to that of `text`; of equally near ones the first.
fn nearest(all: &[Vec<f32>], text: usize, count: usize) -> Vec<usize> {
    let mut others: Vec<(f64, usize)> = (0..all.len())
        .filter(|&other| other != text)
        .map(|other| (dot(&all[text], &all[other]), other))
        .collect();
    others.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    others.into_iter().take(count).map(|(_, other)| other).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_pooled_to_length_one() {
        let states = [3.0, 4.0, 0.0, 0.0, 8.0, 6.0];
        let of = |states: &[f32], pooling| unit(pooled(states, 2, pooling));
        assert_eq!(of(&states, Pooling::First), [0.6, 0.8]);
        assert_eq!(of(&states, Pooling::Last), [0.8, 0.6]);
        let mean = of(&states, Pooling::Mean);
        assert!((mean[0] - 11.0 / 221f32.sqrt()).abs() < 1e-6, "{mean:?}");
        assert_eq!(of(&[0.0; 4], Pooling::Mean), [0.0, 0.0]);
    }

    #[test]
    fn dense_layers_multiply_what_is_pooled() {
        let dense = Dense { weights: vec![1.0, 2.0, 0.0, -1.0, 0.5, 0.5], inputs: 2 };
        assert_eq!(dense.apply(&[3.0, 4.0]), [11.0, -4.0, 3.5]);
    }

    #[test]
    fn equal_embeddings_share_everything_and_others_less() {
        let at = |degrees: f32| vec![degrees.to_radians().cos(), degrees.to_radians().sin()];
        let base: Vec<Vec<f32>> = (0..20).map(|i| at(7.0 * i as f32)).collect();
        let same = compare_embeddings(&base, &base);
        assert!((same.mean_cosine - 1.0).abs() < 1e-6 && same.shared_neighbours == 1.0);
        assert_eq!((same.texts, same.dimensions, same.neighbours), (20, 2, 10));
        let mut moved = base.clone();
        moved[3] = at(21.0 + 60.0);
        let report = compare_embeddings(&moved, &base);
        assert_eq!(report.worst_text, 3);
        assert!((report.worst_cosine - 0.5).abs() < 1e-6 && report.shared_neighbours < 1.0);
        assert_eq!(compare_embeddings(&base[..1], &base[..1]).neighbours, 0);
    }
}
