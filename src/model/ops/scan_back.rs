//! The gradient of a recurrence: of what it reads, and of the rates, biases and skips of its heads.

use kquant_kernels::math::{self, ScanGradients};
use rayon::prelude::*;

use super::Recorded;
use super::scan::{ChunkInput, RATE, SKIP, STEP_BIAS, ScanStep};
use super::scan_heads::HeadPlaces;
use crate::graph::Slot;
use crate::model::ModelError;
use crate::model::backward::Reverse;

/// A recurrence that was run, with what it read.
pub(super) struct ScanRecord<'a> {
    pub step: &'a ScanStep,
    /// Output of the convolution, `[tokens][channels]`.
    pub rows: Vec<f32>,
    /// Steps before softplus, `[tokens][heads]`.
    pub steps: Vec<f32>,
    /// Strengths before the sigmoid, `[tokens][heads]`; empty if they are the steps.
    pub strengths: Vec<f32>,
}

/// The gradients of what one head reads of a chunk, and of its weights token by token.
struct HeadGradients {
    /// Gradients of queries, keys and values, `[tokens][width]` each.
    parts: [Vec<f32>; 3],
    /// Gradients of step, strength, rate and skip, `[tokens]` each.
    rates: [Vec<f32>; 4],
}

impl ScanStep {
    /// Returns the gradients of head `head` over a chunk, given `d_out`, those of all heads' outputs.
    fn back(&self, head: usize, input: &ChunkInput, d_out: &[f32]) -> HeadGradients {
        let (gathered, raw) = self.gather(head, input);
        let (tokens, width) = (gathered.decays.len(), self.places.scan.value);
        let rows = d_out.chunks_exact(self.places.heads * width);
        let d_out: Vec<f32> = rows.flat_map(|row| &row[head * width..][..width]).copied().collect();
        let mut parts = gathered.parts.each_ref().map(|part| vec![0.0; part.len()]);
        let [mut decays, mut strengths] = [(); 2].map(|()| vec![0.0; tokens]);
        let [queries, keys, values] = &mut parts;
        let out = ScanGradients { queries, keys, values, decays: &mut decays, strengths: &mut strengths };
        self.places.scan.gradient(out, &d_out, &gathered.view());
        self.places.normed_gradient(&mut parts, &raw);
        let mut rates = [(); 4].map(|()| vec![0.0; tokens]);
        if let Some(skip) = &self.skip {
            math::add_scaled(&mut parts[2], &d_out, skip[head]);
            let products = d_out.chunks_exact(width).zip(raw[2].chunks_exact(width));
            for (sum, (d, value)) in rates[3].iter_mut().zip(products) {
                *sum = d.iter().zip(value).map(|(d, value)| d * value).sum();
            }
        }
        for token in 0..tokens {
            let given = [decays[token], strengths[token]];
            let found = self.rates(head, token, input);
            let found = found.gradients(self.rate[head], given, self.skip.is_none());
            for (rate, value) in rates.iter_mut().zip([found.step, found.strength, found.rate]) {
                rate[token] = value;
            }
        }
        HeadGradients { parts, rates }
    }

    /// Adds up the gradients of a chunk's heads in the rows of the convolution's output, `[tokens][channels]`.
    fn spread(&self, heads: &[HeadGradients], d_rows: &mut [f32]) {
        for (token, row) in d_rows.chunks_exact_mut(self.places.channels).enumerate() {
            for (head, gradients) in heads.iter().enumerate() {
                for ((first, width), part) in self.places.columns(head).into_iter().zip(&gradients.parts) {
                    math::add(&mut row[first..first + width], &part[token * width..][..width]);
                }
            }
        }
    }
}

impl Recorded for ScanRecord<'_> {
    fn backward(self: Box<Self>, reverse: &mut Reverse) -> Result<(), ModelError> {
        let Some(gradient) = reverse.gradients.take(Slot::Scanned) else { return Ok(()) };
        let (step, context) = (self.step, reverse.context);
        let HeadPlaces { heads, channels, scan, .. } = step.places;
        let chunks = step.chunks(context, [&self.rows, &self.steps, &self.strengths]);
        let chunks = chunks.zip(gradient.par_chunks(context * heads * scan.value));
        let all: Vec<Vec<HeadGradients>> = chunks
            .map(|(input, d)| (0..heads).into_par_iter().map(|head| step.back(head, &input, d)).collect())
            .collect();
        let mut d_rows = vec![0.0; self.rows.len()];
        let chunks = d_rows.par_chunks_mut(context * channels).zip(&all);
        chunks.for_each(|(d_rows, heads)| step.spread(heads, d_rows));
        reverse.gradients.add(Slot::Convolved, d_rows);
        let tokens = self.steps.len() / heads;
        // The gradients by token and head, `[tokens][heads]`.
        let side_by_side = |which: usize| -> Vec<f32> {
            (0..tokens * heads)
                .map(|at| all[at / heads / context][at % heads].rates[which][at / heads % context])
                .collect()
        };
        let d_step = side_by_side(0);
        if let Some(observer) = reverse.observer.weights() {
            let mut show = |name, values: &[f32]| {
                observer.columns(&format!("{}{name}", step.prefix), 0, values, heads);
            };
            show(STEP_BIAS, &d_step);
            show(RATE, &side_by_side(2));
            if step.skip.is_some() {
                show(SKIP, &side_by_side(3));
            }
        }
        reverse.gradients.add(Slot::Step, d_step);
        if step.skip.is_none() {
            reverse.gradients.add(Slot::Strength, side_by_side(1));
        }
        Ok(())
    }
}
