//! Fisher matrices of the outputs of linear maps: mean outer products of the gradients of a loss.
//!
//! With labels drawn from the model's own predictions, `E[g'g]` of the gradients g with respect to a layer's output is
//! the Fisher information: half of `e E[g'g] e'` is the cost of an error e of that output in KL divergence, to second
//! order (Martens, New Insights and Perspectives on the Natural Gradient Method, 2014, [arXiv:1412.1193]).
//!
//! [arXiv:1412.1193]: https://arxiv.org/abs/1412.1193

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kquant_formats::hessian::{Fisher, packed};

use super::outer::add_outer;
use crate::model::{EMBEDDING, GradientObserver, Model, ModelError, OUTPUT, ObserveError};

/// A receiver of finished sums.
pub(super) trait Sink: Send {
    /// Stores the sums of `tensor` over `tokens` gradients: a packed upper triangle or, for the output projection, a
    /// diagonal.
    fn store(&mut self, tensor: &str, tokens: u64, sums: Vec<f64>) -> Result<(), ObserveError>;
}

/// An observer that sums outer products of gradients, for one layer at a time.
///
/// Sums over a block of text are in f32, with all experts of a tensor together, and are added to sums in f64.
pub(super) struct FisherSums<S> {
    /// Number of tokens of a block of text.
    block: usize,
    held: BTreeMap<String, Held>,
    sink: S,
    /// Time spent on outer products.
    spent: Duration,
}

/// The sums of one tensor.
struct Held {
    sums: Vec<f64>,
    /// Number of gradients seen.
    tokens: u64,
    /// Gradients of the present block of text that were routed to experts so far.
    rows: Vec<f32>,
}

impl<S: Sink> FisherSums<S> {
    /// Creates an observer without sums, of a text in blocks of `block` tokens.
    pub(super) fn new(block: usize, sink: S) -> Self {
        Self { block, held: BTreeMap::new(), sink, spent: Duration::ZERO }
    }

    /// Returns the sink, and the time spent on outer products.
    pub(super) fn into_parts(self) -> (S, Duration) {
        (self.sink, self.spent)
    }

    fn held(&mut self, tensor: &str, values: usize) -> &mut Held {
        let empty = || Held { sums: vec![0.0; values], tokens: 0, rows: Vec::new() };
        self.held.entry(tensor.to_owned()).or_insert_with(empty)
    }

    /// Adds the rows of `gradient`, which belong to one block of text or to several whole ones.
    fn add(&mut self, tensor: &str, gradient: &[f32], outputs: usize) {
        let start = Instant::now();
        let step = self.block * outputs;
        let held = self.held(tensor, packed(outputs));
        gradient.chunks(step).for_each(|block| add_outer(&mut held.sums, block, outputs));
        held.tokens += (gradient.len() / outputs) as u64;
        self.spent += start.elapsed();
    }
}

impl<S: Sink> GradientObserver for FisherSums<S> {
    fn output_gradient(
        &mut self,
        tensor: &str,
        gradient: &[f32],
        outputs: usize,
    ) -> Result<(), ObserveError> {
        self.add(tensor, gradient, outputs);
        Ok(())
    }

    fn expert_output_gradient(
        &mut self,
        tensor: &str,
        expert: usize,
        experts: usize,
        gradient: &[f32],
        outputs: usize,
    ) -> Result<(), ObserveError> {
        let start = Instant::now();
        let held = self.held(tensor, packed(outputs));
        held.rows.extend_from_slice(gradient);
        if expert + 1 == experts {
            // A block of text ends here: the rows routed to experts may outnumber its tokens.
            let rows = std::mem::take(&mut held.rows);
            add_outer(&mut held.sums, &rows, outputs);
            held.tokens += (rows.len() / outputs) as u64;
        }
        self.spent += start.elapsed();
        Ok(())
    }

    fn output_variances(&mut self, sums: &[f32], tokens: usize) -> Result<(), ObserveError> {
        let held = self.held(OUTPUT, sums.len());
        held.sums.iter_mut().zip(sums).for_each(|(sum, &v)| *sum += f64::from(v));
        held.tokens += tokens as u64;
        Ok(())
    }

    fn embedding_gradient(&mut self, gradient: &[f32], hidden: usize) -> Result<(), ObserveError> {
        self.add(EMBEDDING, gradient, hidden);
        Ok(())
    }

    fn end_of_layer(&mut self) -> Result<(), ObserveError> {
        for (tensor, held) in std::mem::take(&mut self.held) {
            self.sink.store(&tensor, held.tokens, held.sums)?;
        }
        Ok(())
    }
}

/// Returns descriptions of the Fisher matrices that a backward pass of `model` gives, in the order of the forward pass.
pub(super) fn fishers(model: &Model) -> Result<Vec<Fisher>, ModelError> {
    let mut all = vec![Fisher { tensor: EMBEDDING.to_owned(), outputs: model.hyper.hidden }];
    for layer in 0..model.hyper.layers {
        let layer = model.linear_outputs(layer)?.into_iter();
        all.extend(layer.map(|(tensor, outputs)| Fisher { tensor, outputs }));
    }
    all.push(Fisher { tensor: OUTPUT.to_owned(), outputs: model.vocab_size() });
    Ok(all)
}

/// Returns the bytes of the sums that are held at a time, which are those of the largest layer.
pub(super) fn sum_bytes(model: &Model) -> Result<u64, ModelError> {
    let bytes = |outputs: usize| 8 * packed(outputs) as u64;
    let mut most = bytes(model.hyper.hidden).max(8 * model.vocab_size() as u64);
    for layer in 0..model.hyper.layers {
        most = most.max(model.linear_outputs(layer)?.iter().map(|(_, outputs)| bytes(*outputs)).sum());
    }
    Ok(most)
}
