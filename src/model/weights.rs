//! A layer's weights, decoded to f32 or bf16.

use std::borrow::Cow;
use std::ops::Range;

use kquant_kernels::rounding::Rounding;
use rayon::prelude::*;

use super::products::{DECODE_STEP, Packed};
use super::{Model, ModelError};
use crate::graph::Op;
use crate::tensor::{MappedTensor, Replaced, TensorName, first_non_finite, read_rows};

/// A linear map.
#[derive(Debug)]
pub(super) struct Matrix {
    pub weight: Packed,
    /// `[outputs]`
    pub bias: Option<Vec<f32>>,
    /// What its inputs are rounded to before the product.
    pub rounding: Rounding,
}

/// Weight and bias of a norm, as wide as what it is taken over.
#[derive(Debug)]
pub(super) struct Norm {
    pub weight: Vec<f32>,
    pub bias: Option<Vec<f32>>,
}

/// Cuts `values` values, whole rows, into runs and says which of `norms` each meets: one meets all, several meet the parts of a
/// row in turn.
pub(super) fn runs(norms: &[Norm], values: usize) -> impl Iterator<Item = (Range<usize>, &Norm)> {
    let length = if let [first, _, ..] = norms { first.weight.len() } else { values };
    let starts = (0..values).step_by(length.max(1));
    starts.map(move |start| start..start + length).zip(norms.iter().cycle())
}

/// What one operation needs.
#[derive(Debug)]
pub(super) enum Weights {
    /// One, or one for each part of a row.
    Norms(Vec<Norm>),
    Linear(Matrix),
    Matrices(Vec<Matrix>),
    Values(Vec<f32>),
    None,
}

impl Model {
    /// Decodes the weights of layer `layer`, one entry per operation.
    pub(super) fn layer_weights(&self, layer: usize) -> Result<Vec<Weights>, ModelError> {
        self.ops(layer).iter().map(|op| self.weights_of(layer, op, None)).collect()
    }

    /// Decodes what operation `op` of layer `layer` needs; linear maps as `replaced` has them.
    pub(super) fn weights_of(
        &self,
        layer: usize,
        op: &Op,
        replaced: Option<&dyn Replaced>,
    ) -> Result<Weights, ModelError> {
        let name = |name: &str| format!("blk.{layer}.{name}");
        match op {
            Op::Norm { name: n, .. } => self.norms(&name(n)).map(Weights::Norms),
            Op::Linear { name: n, .. } => self.matrix(&name(n), 0, replaced).map(Weights::Linear),
            Op::Matrices { name: n, .. } => {
                let count = self.tensor(&format!("{}.weight", name(n)))?.matrices() as usize;
                let matrices = (0..count).map(|matrix| self.matrix(&name(n), matrix, replaced));
                matrices.collect::<Result<_, _>>().map(Weights::Matrices)
            }
            Op::Attention { sinks: Some(n) } => {
                self.values(self.tensor(&format!("{}.weight", name(n)))?).map(Weights::Values)
            }
            Op::Route { bias: n } => Ok(self.bias(&name(n))?.map_or(Weights::None, Weights::Values)),
            _ => Ok(Weights::None),
        }
    }

    /// The norm `name.weight`, `name.bias`, or those of the parts of a row.
    pub(super) fn norms(&self, name: &str) -> Result<Vec<Norm>, ModelError> {
        let tensor = self.tensor(&format!("{name}.weight"))?;
        let (weights, bias) = (self.values(tensor)?, self.bias(name)?);
        let width = (tensor.columns() as usize).max(1);
        let mut biases = bias.iter().flat_map(|bias| bias.chunks_exact(width));
        let norm =
            |weight: &[f32]| Norm { weight: weight.to_vec(), bias: biases.next().map(<[f32]>::to_vec) };
        Ok(weights.chunks_exact(width).map(norm).collect())
    }

    /// Matrix number `matrix` of the linear map `name.weight`, `name.bias`.
    fn matrix(
        &self,
        name: &str,
        matrix: usize,
        replaced: Option<&dyn Replaced>,
    ) -> Result<Matrix, ModelError> {
        let tensor = self.tensor(&format!("{name}.weight"))?;
        let outputs = tensor.rows_per_matrix();
        let start = matrix as u64 * outputs;
        let weight = self.packed_by(tensor, outputs, |first, out| {
            match replaced.and_then(|r| r.rows(&tensor.name, start + first, out)) {
                Some(read) => Ok(read?),
                None => self.rows(tensor, start + first, out),
            }
        })?;
        let bias = self.bias(name)?.map(|all| {
            let own = all.chunks_exact(outputs as usize).nth(matrix);
            own.map(<[f32]>::to_vec).unwrap_or_default()
        });
        Ok(Matrix { weight, bias, rounding: self.rounding(tensor) })
    }

    /// What activations that meet `tensor` are rounded to.
    pub(super) fn rounding(&self, tensor: &MappedTensor) -> Rounding {
        let stored = tensor.first_stored().filter(|_| self.rounds);
        let stored = stored.and_then(|index| self.opened.checkpoint.tensors().get(index));
        stored.and_then(|t| t.block).map_or(Rounding::Exact, Rounding::of)
    }

    /// The bias `name.bias`, if there is one.
    pub(super) fn bias(&self, name: &str) -> Result<Option<Vec<f32>>, ModelError> {
        self.find(&format!("{name}.bias")).map(|t| self.values(t)).transpose()
    }

    /// All of a tensor, decoded in parallel.
    pub(crate) fn values(&self, tensor: &MappedTensor) -> Result<Vec<f32>, ModelError> {
        let mut values = vec![0.0; tensor.weights() as usize];
        self.rows(tensor, 0, &mut values)?;
        Ok(values)
    }

    /// Rows `rows` of a tensor, decoded in parallel.
    pub(crate) fn row_values(&self, tensor: &MappedTensor, rows: Range<u64>) -> Result<Vec<f32>, ModelError> {
        let mut values = vec![0.0; ((rows.end - rows.start) * tensor.columns()) as usize];
        self.rows(tensor, rows.start, &mut values)?;
        Ok(values)
    }

    /// One matrix of a tensor of several, decoded in parallel.
    pub(crate) fn matrix_values(&self, tensor: &MappedTensor, matrix: usize) -> Result<Vec<f32>, ModelError> {
        let rows = tensor.rows_per_matrix();
        let mut values = vec![0.0; (rows * tensor.columns()) as usize];
        self.rows(tensor, matrix as u64 * rows, &mut values)?;
        Ok(values)
    }

    /// Rows of a tensor, decoded and packed in parallel.
    pub(super) fn packed(&self, tensor: &MappedTensor, rows: Range<u64>) -> Result<Packed, ModelError> {
        self.packed_by(tensor, rows.end - rows.start, |first, out| self.rows(tensor, rows.start + first, out))
    }

    /// `outputs` rows as long as those of `tensor`, packed in parallel; `read` fills a buffer with rows from one on.
    fn packed_by(
        &self,
        tensor: &MappedTensor,
        outputs: u64,
        read: impl Fn(u64, &mut [f32]) -> Result<(), ModelError> + Sync,
    ) -> Result<Packed, ModelError> {
        Packed::read(self.products, (tensor.columns() as usize, outputs as usize), read)
    }

    /// Rows of a tensor from `first` on, as many as `out` (`[rows][columns]`) holds.
    ///
    /// # Errors
    /// When a weight is NaN or infinite.
    pub(super) fn rows(&self, tensor: &MappedTensor, first: u64, out: &mut [f32]) -> Result<(), ModelError> {
        let columns = tensor.columns() as usize;
        let step = (DECODE_STEP / columns).max(1);
        out.par_chunks_mut(step * columns).enumerate().try_for_each(|(i, out)| {
            let start = first + (i * step) as u64;
            let end = start + (out.len() / columns) as u64;
            read_rows(self.opened.checkpoint.as_ref(), tensor, start..end, out)
                .map_err(|e| ModelError::Read { what: e.to_string() })?;
            match first_non_finite(out, columns as u64, start) {
                None => Ok(()),
                Some((row, column, value)) => {
                    Err(ModelError::Weight { tensor: tensor.name.clone(), row, column, value })
                }
            }
        })
    }

    /// Bytes of the largest layer, packed.
    pub(super) fn layer_bytes(&self) -> u64 {
        let mut bytes = vec![0; self.hyper.layers];
        for tensor in &self.input.tensors {
            if let Some(sum) = TensorName(&tensor.name).layer().and_then(|l| bytes.get_mut(l as usize)) {
                *sum += tensor.weights() * self.products.weight_bytes();
            }
        }
        bytes.into_iter().max().unwrap_or(0)
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
