//! The path from hidden states to logits: the final norm and the output projection, in slices of the vocabulary.

use kquant_kernels::math;
use rayon::prelude::*;

use super::matrix::rounded;
use super::ops::Norms;
use super::products::Packed;
use super::{EMBEDDING, Model, ModelError, OUTPUT, OUTPUT_BIAS, OUTPUT_NAME};

/// Number of outputs that one task computes.
pub(super) const SLICE: usize = 2048;

/// The output projection, whose weights are held packed where memory allows and otherwise decoded slice by slice.
pub struct Head<'a> {
    pub(super) model: &'a Model,
    /// The norm before the projection, if there is one.
    pub(super) norms: Option<Norms>,
    pub(super) tensor: &'static str,
    /// Bias of the logits, `[vocab]`.
    bias: Option<Vec<f32>>,
    /// Weights of each slice, if they are held.
    held: Option<Vec<Packed>>,
}

/// Logits of some rows, stored in slices of the vocabulary.
pub struct Logits {
    /// Logits of each slice, `[rows][slice]`.
    slices: Vec<Vec<f32>>,
    vocab: usize,
}

impl Model {
    /// Prepares the output projection, whose weights are held if they take no more than `memory` bytes.
    ///
    /// # Errors
    /// Fails when weights cannot be read.
    pub fn head(&self, memory: u64) -> Result<Head<'_>, ModelError> {
        let name = if self.find(OUTPUT).is_some() { OUTPUT } else { EMBEDDING };
        let tensor = self.tensor(name)?;
        let norms = self.graph.final_norm_name.map(|name| self.norms(name, self.graph.final_norm));
        let (norms, bias) = (norms.transpose()?, self.bias(OUTPUT_NAME)?);
        let mut head = Head { model: self, norms, tensor: name, bias, held: None };
        if tensor.weights() * self.products.weight_bytes() <= memory {
            let slices = 0..self.vocab.div_ceil(SLICE);
            head.held = Some(slices.map(|slice| head.slice(slice)).collect::<Result<_, _>>()?);
        }
        Ok(head)
    }
}

impl Head<'_> {
    /// Reads the weights of slice `slice`.
    pub(super) fn slice(&self, slice: usize) -> Result<Packed, ModelError> {
        let first = slice * SLICE;
        let last = self.model.vocab.min(first + SLICE);
        self.model.packed(self.model.tensor(self.tensor)?, first as u64..last as u64)
    }

    /// Returns the name of the tensor of the logits' bias, if there is one.
    pub(super) fn bias_name(&self) -> Option<&'static str> {
        self.bias.as_ref().map(|_| OUTPUT_BIAS)
    }

    /// Returns the input of the projection, which is the final norm of `hidden` (`[rows][hidden]`).
    pub fn normed(&self, hidden: &[f32]) -> Vec<f32> {
        let Some(norms) = &self.norms else { return hidden.to_vec() };
        let mut normed = vec![0.0; hidden.len()];
        norms.apply(hidden, &mut normed);
        normed
    }

    /// Applies everything that follows the product: bias, scale and soft cap.
    pub(super) fn finish(&self, slice: usize, logits: &mut [f32]) {
        let hyper = &self.model.hyper;
        if let Some(bias) = &self.bias {
            let first = slice * SLICE;
            math::add_bias(logits, &bias[first..bias.len().min(first + SLICE)]);
        }
        if hyper.logit_scale != 1.0 {
            logits.iter_mut().for_each(|logit| *logit /= hyper.logit_scale);
        }
        if let Some(cap) = hyper.logit_cap {
            math::soft_cap(logits, cap);
        }
    }

    /// Returns the logits for the output of [`Head::normed`].
    ///
    /// # Errors
    /// Fails when weights cannot be read.
    pub fn logits(&self, normed: &[f32]) -> Result<Logits, ModelError> {
        let (hidden, vocab) = (self.model.hyper.hidden, self.model.vocab);
        let rounding = self.model.rounding(self.model.tensor(self.tensor)?);
        let normed = &*rounded(rounding, normed, hidden);
        let rows = normed.len() / hidden;
        let slices = (0..vocab.div_ceil(SLICE)).into_par_iter().map(|slice| {
            let decoded;
            let weight = match &self.held {
                Some(held) => &held[slice],
                None => {
                    decoded = self.slice(slice)?;
                    &decoded
                }
            };
            let mut out = vec![0.0; rows * weight.outputs()];
            weight.apply(&mut out, normed);
            self.finish(slice, &mut out);
            Ok(out)
        });
        Ok(Logits { slices: slices.collect::<Result<_, ModelError>>()?, vocab })
    }
}

impl Logits {
    /// Replaces the content of `out` by the logits of row `row`, `[vocab]`.
    pub fn row(&self, row: usize, out: &mut Vec<f32>) {
        out.clear();
        for (i, slice) in self.slices.iter().enumerate() {
            let width = SLICE.min(self.vocab - i * SLICE);
            out.extend_from_slice(&slice[row * width..][..width]);
        }
    }
}
