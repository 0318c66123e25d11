//! A matrix of a linear map, packed for products in both directions.

use std::borrow::Cow;
use std::sync::OnceLock;

use kquant_kernels::math;
use kquant_kernels::rounding::Rounding;
use rayon::prelude::*;

use super::products::Packed;
use crate::text::for_blocks;

/// Number of rows that one task adds the bias to.
const BIASED: usize = 64;

/// A matrix `[outputs][inputs]` with its bias.
#[derive(Debug)]
pub(super) struct Matrix {
    weight: Packed,
    /// Bias of the outputs, `[outputs]`.
    bias: Option<Vec<f32>>,
    /// Rounding of the inputs before the product.
    rounding: Rounding,
    /// Transposed weight for the backward pass, which is made when it is first needed.
    transposed: OnceLock<Packed>,
}

impl Matrix {
    pub(super) fn new(weight: Packed, bias: Option<Vec<f32>>, rounding: Rounding) -> Self {
        Self { weight, bias, rounding, transposed: OnceLock::new() }
    }

    /// Returns the length of an input row.
    pub(super) fn inputs(&self) -> usize {
        self.weight.inputs()
    }

    /// Returns the length of an output row.
    pub(super) fn outputs(&self) -> usize {
        self.weight.outputs()
    }

    /// Returns true if the map adds a bias.
    pub(super) fn has_bias(&self) -> bool {
        self.bias.is_some()
    }

    /// Returns the number of weights.
    pub(super) fn weights(&self) -> usize {
        self.inputs() * self.outputs()
    }

    /// Computes `out = round(x) * weight' + bias` over chunks of `context` rows, with `x` `[rows][inputs]` and `out`
    /// `[rows][outputs]`.
    pub(super) fn apply(&self, context: usize, x: &[f32], out: &mut Vec<f32>) {
        self.multiply(context, &rounded(self.rounding, x, self.inputs()), out);
        if let Some(bias) = &self.bias {
            out.par_chunks_mut(bias.len() * BIASED).for_each(|out| math::add_bias(out, bias));
        }
    }

    /// Computes `out = x * weight'`, which is [`apply`](Self::apply) without rounding and without the bias.
    pub(super) fn multiply(&self, context: usize, x: &[f32], out: &mut Vec<f32>) {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        out.resize(x.len() / inputs * outputs, 0.0);
        for_blocks(context, (x, inputs), (out, outputs), |x, out| self.weight.apply(out, x));
    }

    /// Fills `out` `[rows][inputs]` with the gradient of the input, given that of the output, `[rows][outputs]`.
    pub(super) fn gradient(&self, context: usize, gradient: &[f32], out: &mut [f32]) {
        let transposed = self.transposed.get_or_init(|| self.weight.transposed());
        for_blocks(context, (gradient, self.outputs()), (out, self.inputs()), |gradient, out| {
            transposed.apply(out, gradient);
        });
    }
}

/// Returns `x`, with rows of `columns`, rounded by `rounding` in parallel.
pub(super) fn rounded(rounding: Rounding, x: &[f32], columns: usize) -> Cow<'_, [f32]> {
    if rounding == Rounding::Exact {
        return Cow::Borrowed(x);
    }
    let mut x = x.to_vec();
    x.par_chunks_mut(columns).for_each(|row| rounding.apply(row));
    Cow::Owned(x)
}
