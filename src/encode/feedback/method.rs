//! Rounding with feedback as a method of calibrated encoding.

use std::sync::atomic::Ordering;

use kquant_kernels::block::BlockType;

use super::{BothSides, Damping, Feedback, Hessian, Losses, Options, codec_for, encode, unit_of};
use crate::encode::{LayerMethod, LayerTensor, Needs};

/// Rows encoded between two looks at the cancel flag.
const SLAB: usize = 1024;

/// Least damping of a Fisher matrix, as a fraction of its mean diagonal: the matrix is of the original model while the written model differs. The value is chosen, not
/// derived.
const LEAST_FISHER_DAMPING: f64 = 0.03;

/// Rounding with feedback over columns, or over columns and rows.
#[derive(Debug, Clone)]
pub struct FeedbackMethod {
    /// How much work is done.
    pub options: Options,
    /// True if errors are fed back over rows as well.
    pub both_sides: bool,
}

impl LayerMethod for FeedbackMethod {
    fn needs(&self) -> Needs {
        Needs { fishers: self.both_sides }
    }

    fn unit(&self, block: &BlockType) -> Option<usize> {
        codec_for(block).map(|_| unit_of(block))
    }

    fn encode(&self, tensor: &LayerTensor, out: &mut [u8]) -> Option<Losses> {
        let &LayerTensor { block, inputs, outputs, held_out, targets, cancel } = tensor;
        let codec = codec_for(block)?;
        if let Some(outputs) = outputs {
            let options = &self.options;
            return BothSides { inputs, outputs, held_out, codec, targets, options, cancel }.encode(out);
        }
        let columns = inputs.columns();
        let row_bytes = columns / codec.block.elements * codec.block.bytes;
        let mut losses = Losses::default();
        for (targets, out) in targets.chunks(SLAB * columns).zip(out.chunks_mut(SLAB * row_bytes)) {
            if cancel.load(Ordering::Relaxed) {
                return None;
            }
            losses.add(&encode(inputs, held_out, codec, targets, &self.options, out));
        }
        Some(losses)
    }

    fn output_costs(&self, fisher: Hessian) -> Vec<f64> {
        let diagonal: Vec<f64> = fisher.diagonal().into_iter().map(f64::from).collect();
        if !self.both_sides {
            return diagonal;
        }
        // What is left of an output's cost when the outputs after it make up for its error is its pivot.
        match factored_fisher(fisher) {
            Ok(factored) => factored.pivots().into_iter().map(f64::from).collect(),
            Err(_) => diagonal,
        }
    }

    fn operations(&self, rows: u64, columns: usize, with_outputs: bool) -> f64 {
        self.options.operations(rows, columns, with_outputs)
    }
}

/// Factors the Fisher matrix of outputs, damped as feedback over rows needs it.
///
/// # Errors
/// Fails as [`Feedback::new`] does.
pub fn factored_fisher(fisher: Hessian) -> Result<Feedback, super::FeedbackError> {
    let damping = Damping::for_tokens(fisher.columns, fisher.tokens);
    Feedback::new(fisher, Damping { mean: damping.mean.max(LEAST_FISHER_DAMPING), ..damping })
}
