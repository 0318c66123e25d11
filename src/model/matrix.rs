//! One matrix of a linear map, packed for products in both directions.

use std::borrow::Cow;
use std::sync::OnceLock;

use kquant_kernels::math;
use kquant_kernels::rounding::Rounding;
use rayon::prelude::*;

use super::products::Packed;
use crate::text::for_blocks;

/// Rows that get their bias at a time.
const BIASED: usize = 64;

/// A matrix `[outputs][inputs]` with its bias.
#[derive(Debug)]
pub(super) struct Matrix {
    weight: Packed,
    /// `[outputs]`
    bias: Option<Vec<f32>>,
    /// How inputs are rounded before the product.
    rounding: Rounding,
    /// The weight for the backward pass, made when it is first asked for.
    transposed: OnceLock<Packed>,
}

impl Matrix {
    pub(super) fn new(weight: Packed, bias: Option<Vec<f32>>, rounding: Rounding) -> Self {
        Self { weight, bias, rounding, transposed: OnceLock::new() }
    }

    /// Length of the rows that enter.
    pub(super) fn inputs(&self) -> usize {
        self.weight.inputs()
    }

    /// Length of the rows that leave.
    pub(super) fn outputs(&self) -> usize {
        self.weight.outputs()
    }

    /// Number of weights.
    pub(super) fn weights(&self) -> usize {
        self.inputs() * self.outputs()
    }

    /// `out = round(x) * weight' + bias` over chunks of `context` rows: x `[rows][inputs]`, out `[rows][outputs]`.
    pub(super) fn apply(&self, context: usize, x: &[f32], out: &mut Vec<f32>) {
        self.multiply(context, &rounded(self.rounding, x, self.inputs()), out);
        if let Some(bias) = &self.bias {
            out.par_chunks_mut(bias.len() * BIASED).for_each(|out| math::add_bias(out, bias));
        }
    }

    /// `out = x * weight'`: [`apply`](Self::apply) without rounding and without the bias.
    pub(super) fn multiply(&self, context: usize, x: &[f32], out: &mut Vec<f32>) {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        out.resize(x.len() / inputs * outputs, 0.0);
        for_blocks(context, (x, inputs), (out, outputs), |x, out| self.weight.apply(out, x));
    }

    /// Fills `out` `[rows][inputs]` with the gradient of what entered, from that of what left, `[rows][outputs]`.
    pub(super) fn gradient(&self, context: usize, gradient: &[f32], out: &mut [f32]) {
        let transposed = self.transposed.get_or_init(|| self.weight.transposed());
        for_blocks(context, (gradient, self.outputs()), (out, self.inputs()), |gradient, out| {
            transposed.apply(out, gradient);
        });
    }
}

/// `x` rounded as `rounding` says, in parallel.
pub(super) fn rounded(rounding: Rounding, x: &[f32], columns: usize) -> Cow<'_, [f32]> {
    if rounding == Rounding::Exact {
        return Cow::Borrowed(x);
    }
    let mut x = x.to_vec();
    x.par_chunks_mut(columns).for_each(|row| rounding.apply(row));
    Cow::Owned(x)
}
