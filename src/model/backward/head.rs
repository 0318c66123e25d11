//! The loss and its gradient, which passes the softmax, the output projection and the final norm, some tokens at a time.

use kquant_kernels::math;
use rayon::prelude::*;

use super::super::head::{Head, SLICE};
use super::super::products::Packed;
use super::super::{Model, ModelError, OUTPUT};
use super::gradients;
use super::options::Labels;
use super::reverse::{ROWS, check};
use super::target::RowTarget;
use crate::model::draws::{pick, uniform};
use crate::model::{GradientObserver, WeightObserver};

/// Least number of rows whose logits are held at a time, since weights that are not held are decoded once per group of rows.
const FEWEST: u64 = 32;

/// The output projection in both directions.
pub(super) struct LossHead<'a> {
    head: Head<'a>,
    model: &'a Model,
    /// Weights of each slice and their transposes, if memory holds all of them.
    held: Option<Vec<[Packed; 2]>>,
    /// Number of rows whose logits are held at a time.
    rows: usize,
    labels: Labels<'a>,
    /// Tokens per block of text.
    block: usize,
    /// Sums over the current block of text, `[vocab]`, and the number of its tokens so far.
    variances: (Vec<f64>, usize),
    /// Sum of the rows' losses, in nats.
    pub sum: f64,
}

/// The logits of some rows.
struct RowLogits {
    /// Logits of each slice, `[rows][slice]`, which become their gradients.
    slices: Vec<Vec<f32>>,
    /// Probabilities, `[rows][vocab]`.
    p: Vec<f32>,
    /// What each row is compared with, `[rows]`.
    targets: Vec<RowTarget>,
}

impl<'a> LossHead<'a> {
    /// Prepares the loss of `model` against `labels`, with about `memory` bytes.
    pub(super) fn new(
        model: &'a Model,
        labels: Labels<'a>,
        block: usize,
        memory: u64,
    ) -> Result<Self, ModelError> {
        let head = model.head(0)?;
        let weights = (model.vocab * model.hyper.hidden) as u64 * 2 * model.products.weight_bytes();
        let held = if weights <= memory / 2 {
            let slice = |number| {
                let weight = head.slice(number)?;
                let transposed = weight.transposed();
                Ok([weight, transposed])
            };
            Some((0..model.vocab.div_ceil(SLICE)).map(slice).collect::<Result<_, ModelError>>()?)
        } else {
            None
        };
        let rows = (memory / 4 / (8 * model.vocab as u64).max(1))
            .clamp(FEWEST.min(block as u64), block as u64) as usize;
        let variances = (vec![0.0; model.vocab], 0);
        Ok(Self { head, model, held, rows, labels, block, variances, sum: 0.0 })
    }

    /// Returns the input of the projection, which is the final norm of `hidden`, computed in parallel.
    pub(super) fn normed(&self, hidden: &[f32]) -> Vec<f32> {
        let step = ROWS * self.model.hyper.hidden;
        hidden.par_chunks(step).flat_map_iter(|rows| self.head.normed(rows)).collect()
    }

    /// Returns the gradient of `hidden`, the stream after the last layer, whose norm is `normed`. All are `[tokens][hidden]`
    /// and start with token number `first`; calls follow the order of the tokens.
    pub(super) fn gradient(
        &mut self,
        hidden: &[f32],
        normed: &[f32],
        first: usize,
        observer: &mut dyn GradientObserver,
    ) -> Result<Vec<f32>, ModelError> {
        let width = self.model.hyper.hidden;
        let mut out = vec![0.0; hidden.len()];
        let mut at = 0;
        let tokens = hidden.len() / width;
        while at < tokens {
            let rows = self.rows.min(tokens - at).min(self.block - self.variances.1);
            let range = at * width..(at + rows) * width;
            let logits = self.logits(&normed[range.clone()], first + at)?;
            let logits = self.through_softmax(logits);
            if let Some(observer) = observer.weights() {
                self.show(&logits.slices, &normed[range.clone()], observer);
            }
            self.back(&logits.slices, &mut out[range])?;
            self.variances.1 += rows;
            if self.variances.1 == self.block {
                self.end_of_block(observer)?;
            }
            at += rows;
        }
        check(OUTPUT, &out, width, first)?;
        if let Some((norms, name)) = self.head.norms.as_ref().zip(self.model.graph.final_norm_name) {
            if let Some(observer) = observer.weights() {
                norms.show(&self.model.norm_weight(name), hidden, &out, observer);
            }
            norms.gradient(hidden, &mut out);
        }
        Ok(out)
    }

    /// Passes the variances of the last block to the observer if that block was short.
    pub(super) fn finish(&mut self, observer: &mut dyn GradientObserver) -> Result<(), ModelError> {
        if self.variances.1 > 0 { self.end_of_block(observer) } else { Ok(()) }
    }

    /// Passes the variances of a block to the observer and starts the next block.
    fn end_of_block(&mut self, observer: &mut dyn GradientObserver) -> Result<(), ModelError> {
        let sums: Vec<f32> = self.variances.0.iter().map(|&sum| sum as f32).collect();
        observer.output_variances(&sums, self.variances.1)?;
        self.variances.0.fill(0.0);
        self.variances.1 = 0;
        Ok(())
    }

    /// Computes `y` `[rows][slice]` = `x` `[rows][hidden]` times the weights of slice `slice`.
    fn forward(&self, slice: usize, y: &mut [f32], x: &[f32]) -> Result<(), ModelError> {
        match &self.held {
            Some(held) => multiply(&held[slice][0], y, x),
            None => multiply(&self.head.slice(slice)?, y, x),
        }
        Ok(())
    }

    /// Computes `y` `[rows][hidden]` = `x` `[rows][slice]` times the transposed weights of slice `slice`.
    fn backward(&self, slice: usize, y: &mut [f32], x: &[f32]) -> Result<(), ModelError> {
        match &self.held {
            Some(held) => multiply(&held[slice][1], y, x),
            None => multiply(&self.head.slice(slice)?.transposed(), y, x),
        }
        Ok(())
    }

    /// Returns the loss after `normed`, computed in f64, and the probabilities, `[tokens][vocab]`.
    #[cfg(test)]
    pub(super) fn loss_of(&mut self, normed: &[f32]) -> (f64, Vec<f32>) {
        let vocab = self.model.vocab;
        let RowLogits { slices, targets, p } = self.logits(normed, 0).unwrap();
        let loss = |(row, target): (usize, &RowTarget)| {
            let label = target.known(0..vocab)[0].0 as usize;
            let width = |slice: usize| SLICE.min(vocab - slice * SLICE);
            let row = slices.iter().enumerate().flat_map(|(i, slice)| &slice[row * width(i)..][..width(i)]);
            let logits: Vec<f64> = row.map(|&v| f64::from(v)).collect();
            logits.iter().map(|v| v.exp()).sum::<f64>().ln() - logits[label]
        };
        (targets.iter().enumerate().map(loss).sum(), p)
    }

    /// Computes the logits of `normed` `[rows][hidden]`, whose first row is token number `first`, and their probabilities
    /// and labels.
    fn logits(&mut self, normed: &[f32], first: usize) -> Result<RowLogits, ModelError> {
        let vocab = self.model.vocab;
        let rows = normed.len() / self.model.hyper.hidden;
        let mut slices = Vec::new();
        for slice in 0..vocab.div_ceil(SLICE) {
            let width = SLICE.min(vocab - slice * SLICE);
            let mut out = vec![0.0; rows * width];
            self.forward(slice, &mut out, normed)?;
            out.par_chunks_mut(ROWS * width).for_each(|out| self.head.finish(slice, out));
            slices.push(out);
        }
        let mut p = vec![0.0; rows * vocab];
        let rows = p.par_chunks_mut(vocab).enumerate().map(|(row, p)| {
            for (p, slice) in p.chunks_mut(SLICE).zip(&slices) {
                p.copy_from_slice(&slice[row * p.len()..][..p.len()]);
            }
            let total = math::log_sum_exp(p);
            math::softmax(p);
            let label = match self.labels {
                Labels::Drawn { seed, first_token } => {
                    pick(p, uniform(seed, first_token + (first + row) as u64))
                }
                Labels::Given(labels) => labels[first + row] as usize,
                Labels::Taught(teacher) => return RowTarget::of_teacher(&teacher.target(first + row), p),
            };
            let logit = slices[label / SLICE][row * SLICE.min(vocab - label / SLICE * SLICE) + label % SLICE];
            (RowTarget::of_label(label as u32), total - f64::from(logit))
        });
        let (targets, losses): (Vec<RowTarget>, Vec<f64>) = rows.collect::<Vec<_>>().into_iter().unzip();
        self.sum += losses.iter().sum::<f64>();
        Ok(RowLogits { slices, p, targets })
    }

    /// Turns logits into the gradients of the projection's output and adds up their variances.
    fn through_softmax(&mut self, mut logits: RowLogits) -> RowLogits {
        let hyper = &self.model.hyper;
        let (vocab, cap, scale) = (self.model.vocab, hyper.logit_cap, 1.0 / hyper.logit_scale);
        let RowLogits { slices, p, targets } = &mut logits;
        let all = slices.par_iter_mut().zip(self.variances.0.par_chunks_mut(SLICE)).enumerate();
        all.for_each(|(slice, (values, variances))| {
            let width = variances.len();
            let first = slice * SLICE;
            let slope = |value: f32| cap.map_or(1.0, |cap| 1.0 - (value / cap) * (value / cap)) * scale;
            for ((values, p), target) in
                values.chunks_exact_mut(width).zip(p.chunks_exact(vocab)).zip(&*targets)
            {
                let p = &p[first..first + width];
                let known = target.known(first..first + width).iter().map(|&(id, expected)| {
                    let at = id as usize - first;
                    (at, (p[at] - expected) * slope(values[at]))
                });
                let known: Vec<(usize, f32)> = known.collect();
                for ((value, &p), variance) in values.iter_mut().zip(p).zip(&mut *variances) {
                    let slope = slope(*value);
                    *variance += f64::from(p * (1.0 - p) * slope * slope);
                    *value = p * target.keep() * slope;
                }
                known.into_iter().for_each(|(at, gradient)| values[at] = gradient);
            }
        });
        logits
    }

    /// Shows `observer` the gradients of the projection's weight and bias: `slices` are those of its output, and `normed` is
    /// its input, `[rows][hidden]`.
    fn show(&self, slices: &[Vec<f32>], normed: &[f32], observer: &mut dyn WeightObserver) {
        for (slice, gradient) in slices.iter().enumerate() {
            observer.product(self.head.tensor, slice * SLICE, gradient, normed, self.model.hyper.hidden);
            if let Some(bias) = self.head.bias_name() {
                observer.columns(bias, slice * SLICE, gradient, SLICE.min(self.model.vocab - slice * SLICE));
            }
        }
    }

    /// Fills `out` `[rows][hidden]` with the gradient of the projection's input, given that of its output. Slices are added
    /// in their order.
    fn back(&self, slices: &[Vec<f32>], out: &mut [f32]) -> Result<(), ModelError> {
        let mut part = vec![0.0; out.len()];
        for (slice, gradient) in slices.iter().enumerate() {
            self.backward(slice, &mut part, gradient)?;
            gradients::add(out, &part);
        }
        Ok(())
    }
}

/// Computes `y = x · w'` in parallel.
fn multiply(weight: &Packed, y: &mut [f32], x: &[f32]) {
    let (inputs, outputs) = (weight.inputs(), weight.outputs());
    y.par_chunks_mut(ROWS * outputs).zip(x.par_chunks(ROWS * inputs)).for_each(|(y, x)| weight.apply(y, x));
}
