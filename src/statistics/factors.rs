//! Statistics of a model that second-order steps are made by: what enters each linear map, and the gradients of what leaves
//! it, of norms and of looked-up rows.
//!
//! The Fisher matrix of a linear map's weights is about the Kronecker product of the two (Martens and Grosse, Optimizing
//! Neural Networks with Kronecker-factored Approximate Curvature, 2015, [arXiv:1503.05671]).
//!
//! [arXiv:1503.05671]: https://arxiv.org/abs/1503.05671

use std::collections::BTreeMap;

use kquant_formats::hessian::packed;

use super::fisher_sums::{FisherSums, Sink};
use super::hessian_file::unpacked;
use super::outer::add_outer;
use crate::context::Context;
use crate::encode::feedback::Hessian;
use crate::model::backward::{Backward, Labels};
use crate::model::{GradientObserver, Model, ModelError, OUTPUT, ObserveError, Observer, WeightObserver};
use crate::text::block_tokens;

/// The factors by GGUF name of the weight. The experts of a tensor share theirs.
#[derive(Debug, Default)]
pub struct Factors {
    /// Mean outer products of inputs, by the first weight that reads the input.
    inputs: BTreeMap<String, Hessian>,
    /// Name of the first weight that reads the same input.
    first: BTreeMap<String, String>,
    /// Mean outer products of the gradients of outputs.
    outputs: BTreeMap<String, Hessian>,
    /// Mean squared gradients of the logits, `[vocabulary]`.
    logits: Vec<f32>,
    /// Mean squared gradients of the elements of norms and biases.
    squares: BTreeMap<String, Vec<f32>>,
}

impl Factors {
    /// Runs `model` forward and backward over `tokens` `[chunks][context]`, with labels drawn by `seed`.
    ///
    /// # Errors
    /// Fails when the model cannot be run, or a value is not finite.
    pub fn collect(
        model: &Model,
        (tokens, context): (&[u32], usize),
        seed: u64,
        run: &Context,
    ) -> Result<Self, ModelError> {
        let block = block_tokens(context);
        let how = Backward {
            context,
            memory: run.memory,
            labels: Labels::Drawn { seed, first_token: 0 },
            exact: true,
            with_output: true,
            cancel: run.cancel,
            progress: run.progress,
        };
        let mut inputs = InputSums { block, ..InputSums::default() };
        let mut outputs =
            OutputSums { fishers: FisherSums::new(block, Means::default()), squares: Squares::default() };
        model.backward(tokens, &how, Some(&mut inputs), &mut outputs)?;
        let OutputSums { fishers, squares } = outputs;
        let (means, _) = fishers.into_parts();
        Ok(Self {
            inputs: inputs.means(),
            first: inputs.first,
            outputs: means.outputs,
            logits: means.logits,
            squares: squares.means(tokens.len()),
        })
    }

    /// Returns the mean outer product of the input of the weight `tensor`; the output projection is called
    /// [`OUTPUT`] even where it is the embedding table.
    pub fn input(&self, tensor: &str) -> Option<&Hessian> {
        self.inputs.get(self.first.get(tensor)?)
    }

    /// Returns the mean outer product of the gradient of the output of the weight `tensor`; for the embedding, of the rows that
    /// are looked up.
    pub fn output(&self, tensor: &str) -> Option<&Hessian> {
        self.outputs.get(tensor)
    }

    /// Returns the mean squared gradient of each logit.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Returns the mean over the tokens of the squared gradient of each element of the norm or bias `tensor`.
    pub fn squares(&self, tensor: &str) -> Option<&[f32]> {
        self.squares.get(tensor).map(Vec::as_slice)
    }
}

/// Sums of the outer products of the inputs of all groups.
#[derive(Default)]
struct InputSums {
    /// Number of tokens of a block of text.
    block: usize,
    first: BTreeMap<String, String>,
    sums: BTreeMap<String, (Vec<f64>, u64, usize)>,
}

impl InputSums {
    fn add(&mut self, tensors: &[&str], x: &[f32], columns: usize) {
        let Some(&first) = tensors.first() else { return };
        if !self.sums.contains_key(first) {
            self.first.extend(tensors.iter().map(|&name| (name.to_owned(), first.to_owned())));
        }
        let (sums, tokens, _) =
            self.sums.entry(first.to_owned()).or_insert_with(|| (vec![0.0; packed(columns)], 0, columns));
        x.chunks(self.block * columns).for_each(|x| add_outer(sums, x, columns));
        *tokens += (x.len() / columns) as u64;
    }

    fn means(&mut self) -> BTreeMap<String, Hessian> {
        let mean = |(name, (sums, tokens, columns)): (String, (Vec<f64>, u64, usize))| {
            let hessian = unpacked(&sums, columns, tokens, |sum: f64| (sum / tokens.max(1) as f64) as f32);
            (name, hessian)
        };
        std::mem::take(&mut self.sums).into_iter().map(mean).collect()
    }
}

impl Observer for InputSums {
    fn linear_input(&mut self, tensors: &[&str], x: &[f32], columns: usize) -> Result<(), ObserveError> {
        self.add(tensors, x, columns);
        Ok(())
    }

    fn expert_input(
        &mut self,
        tensors: &[&str],
        _expert: usize,
        _experts: usize,
        x: &[f32],
        columns: usize,
    ) -> Result<(), ObserveError> {
        self.add(tensors, x, columns);
        Ok(())
    }

    fn end_of_chunks(&mut self, _chunks: usize) {}
}

/// Means of the outer products of gradients.
#[derive(Default)]
struct Means {
    outputs: BTreeMap<String, Hessian>,
    logits: Vec<f32>,
}

impl Sink for Means {
    fn store(&mut self, tensor: &str, tokens: u64, sums: Vec<f64>) -> Result<(), ObserveError> {
        let mean = |sum: f64| (sum / tokens.max(1) as f64) as f32;
        if tensor == OUTPUT {
            self.logits = sums.into_iter().map(mean).collect();
            return Ok(());
        }
        // The triangle has n (n + 1) / 2 values.
        let n = ((2 * sums.len()) as f64).sqrt() as usize;
        self.outputs.insert(tensor.to_owned(), unpacked(&sums, n, tokens, mean));
        Ok(())
    }
}

/// Sums of the squared gradients of norms and biases, token by token.
#[derive(Default)]
struct Squares {
    sums: BTreeMap<String, Vec<f64>>,
}

impl Squares {
    fn means(self, tokens: usize) -> BTreeMap<String, Vec<f32>> {
        let mean = |sum: f64| (sum / tokens.max(1) as f64) as f32;
        self.sums.into_iter().map(|(name, sums)| (name, sums.into_iter().map(mean).collect())).collect()
    }
}

impl WeightObserver for Squares {
    fn product(&mut self, _: &str, _: usize, _: &[f32], _: &[f32], _: usize) {}

    fn columns(&mut self, tensor: &str, first: usize, values: &[f32], width: usize) {
        let sums = self.sums.entry(tensor.to_owned()).or_default();
        sums.resize(sums.len().max(first + width), 0.0);
        for row in values.chunks_exact(width) {
            let square = |(sum, &value): (&mut f64, &f32)| *sum += f64::from(value) * f64::from(value);
            sums[first..].iter_mut().zip(row).for_each(square);
        }
    }

    fn rows(&mut self, _: &str, _: &[u32], _: &[f32], _: usize) {}
}

/// Both observers of gradients.
struct OutputSums {
    fishers: FisherSums<Means>,
    squares: Squares,
}

impl GradientObserver for OutputSums {
    fn output_gradient(
        &mut self,
        tensor: &str,
        gradient: &[f32],
        outputs: usize,
    ) -> Result<(), ObserveError> {
        self.fishers.output_gradient(tensor, gradient, outputs)
    }

    fn expert_output_gradient(
        &mut self,
        tensor: &str,
        expert: usize,
        experts: usize,
        gradient: &[f32],
        outputs: usize,
    ) -> Result<(), ObserveError> {
        self.fishers.expert_output_gradient(tensor, expert, experts, gradient, outputs)
    }

    fn output_variances(&mut self, sums: &[f32], tokens: usize) -> Result<(), ObserveError> {
        self.fishers.output_variances(sums, tokens)
    }

    fn embedding_gradient(&mut self, gradient: &[f32], hidden: usize) -> Result<(), ObserveError> {
        self.fishers.embedding_gradient(gradient, hidden)
    }

    fn weights(&mut self) -> Option<&mut dyn WeightObserver> {
        Some(&mut self.squares)
    }

    fn end_of_layer(&mut self) -> Result<(), ObserveError> {
        self.fishers.end_of_layer()
    }
}
