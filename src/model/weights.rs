//! Reading of weights from the file, decoded to f32 or bf16.

use std::ops::Range;

use kquant_kernels::rounding::Rounding;
use rayon::prelude::*;

use super::matrix::Matrix;
use super::ops::{NormWeights, Norms};
use super::products::{DECODE_STEP, Packed};
use super::{Model, ModelError};
use crate::graph::{NormKind, weight_name};
use crate::tensor::{MappedTensor, Replaced, TensorName, first_non_finite, read_rows};

/// The source of the weights of a layer's operations. Names lack `blk.N.` and `.weight`.
pub(super) struct WeightSource<'a> {
    pub model: &'a Model,
    /// Number of the layer.
    pub layer: usize,
    /// Weights of linear maps that take precedence over the model's.
    pub replaced: Option<&'a dyn Replaced>,
}

impl WeightSource<'_> {
    /// Returns the name `blk.N.{name}`.
    pub(super) fn full(&self, name: &str) -> String {
        format!("blk.{}.{name}", self.layer)
    }

    /// Reads all values of the tensor `blk.N.{name}.weight`.
    pub(super) fn values(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        self.model.values(self.model.tensor(&weight_name(self.layer, name))?)
    }

    /// Reads all values of the tensor `blk.N.{name}`, whose name has no end that says what it is.
    pub(super) fn whole(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        self.model.values(self.model.tensor(&self.full(name))?)
    }

    /// Reads the bias `blk.N.{name}.bias`, if there is one.
    pub(super) fn bias(&self, name: &str) -> Result<Option<Vec<f32>>, ModelError> {
        self.model.bias(&self.full(name))
    }

    /// Reads the bias that the linear map `name` adds, which a replacement takes precedence over as it does over its weights.
    fn bias_to_add(&self, name: &str) -> Result<Option<Vec<f32>>, ModelError> {
        let Some(mut bias) = self.bias(name)? else { return Ok(None) };
        let full = format!("{}.bias", self.full(name));
        self.replaced.and_then(|r| r.rows(&full, 0, &mut bias)).transpose()?;
        Ok(Some(bias))
    }

    /// Reads matrix number `matrix` of the linear map `name`, with its bias.
    pub(super) fn matrix(&self, name: &str, matrix: usize) -> Result<Matrix, ModelError> {
        let model = self.model;
        let tensor = model.tensor(&weight_name(self.layer, name))?;
        let outputs = tensor.rows_per_matrix();
        let start = matrix as u64 * outputs;
        let weight = model.packed_by(tensor, outputs, |first, out| {
            match self.replaced.and_then(|r| r.rows(&tensor.name, start + first, out)) {
                Some(read) => Ok(read?),
                None => model.rows(tensor, start + first, out),
            }
        })?;
        let own = |all: Vec<f32>| match all.chunks_exact(outputs as usize).nth(matrix) {
            Some(own) => Ok(own.to_vec()),
            None => Err(ModelError::Tensor {
                tensor: format!("{}.bias", self.full(name)),
                what: format!("has no part for matrix {matrix}"),
            }),
        };
        let bias = self.bias_to_add(name)?.map(own).transpose()?;
        Ok(Matrix::new(weight, bias, model.rounding(tensor)))
    }
}

impl Model {
    /// Reads the norm with the tensors `name.weight` and `name.bias`, whose rows, if there are several, are for one part of
    /// a row each.
    pub(super) fn norms(&self, name: &str, kind: NormKind) -> Result<Norms, ModelError> {
        let tensor = self.tensor(&self.norm_weight(name))?;
        let (weights, bias) = (self.values(tensor)?, self.bias(name)?);
        let width = (tensor.columns() as usize).max(1);
        let mut biases = bias.iter().flat_map(|bias| bias.chunks_exact(width));
        let norm = |weight: &[f32]| NormWeights {
            weight: weight.to_vec(),
            bias: biases.next().map(<[f32]>::to_vec),
        };
        let parts = weights.chunks_exact(width).map(norm).collect();
        Ok(Norms { kind, epsilon: self.hyper.epsilon, parts })
    }

    /// Returns the name of the weight of the norm `name`, which is `name` alone in files of the converter for Falcon H1.
    pub(super) fn norm_weight(&self, name: &str) -> String {
        if self.find(name).is_some() { name.to_owned() } else { format!("{name}.weight") }
    }

    /// Returns the rounding of activations before they are multiplied by `tensor`.
    pub(super) fn rounding(&self, tensor: &MappedTensor) -> Rounding {
        let stored = tensor.first_stored().filter(|_| self.rounds);
        let stored = stored.and_then(|index| self.opened.checkpoint.tensors().get(index));
        stored.and_then(|t| t.block).map_or(Rounding::Exact, Rounding::of)
    }

    /// Reads the bias `name.bias`, if there is one.
    pub(super) fn bias(&self, name: &str) -> Result<Option<Vec<f32>>, ModelError> {
        self.find(&format!("{name}.bias")).map(|t| self.values(t)).transpose()
    }

    /// Reads all values of a tensor, decoded in parallel.
    pub(crate) fn values(&self, tensor: &MappedTensor) -> Result<Vec<f32>, ModelError> {
        let mut values = vec![0.0; tensor.weights() as usize];
        self.rows(tensor, 0, &mut values)?;
        Ok(values)
    }

    /// Reads rows `rows` of a tensor, decoded in parallel.
    pub(crate) fn row_values(&self, tensor: &MappedTensor, rows: Range<u64>) -> Result<Vec<f32>, ModelError> {
        let mut values = vec![0.0; ((rows.end - rows.start) * tensor.columns()) as usize];
        self.rows(tensor, rows.start, &mut values)?;
        Ok(values)
    }

    /// Reads one matrix of a tensor that holds several, decoded in parallel.
    pub(crate) fn matrix_values(&self, tensor: &MappedTensor, matrix: usize) -> Result<Vec<f32>, ModelError> {
        let rows = tensor.rows_per_matrix();
        let mut values = vec![0.0; (rows * tensor.columns()) as usize];
        self.rows(tensor, matrix as u64 * rows, &mut values)?;
        Ok(values)
    }

    /// Reads rows of a tensor, decoded and packed in parallel.
    pub(super) fn packed(&self, tensor: &MappedTensor, rows: Range<u64>) -> Result<Packed, ModelError> {
        self.packed_by(tensor, rows.end - rows.start, |first, out| self.rows(tensor, rows.start + first, out))
    }

    /// Packs `outputs` rows that are as long as those of `tensor`, in parallel; `read` fills a buffer with rows, from the
    /// given row on.
    fn packed_by(
        &self,
        tensor: &MappedTensor,
        outputs: u64,
        read: impl Fn(u64, &mut [f32]) -> Result<(), ModelError> + Sync,
    ) -> Result<Packed, ModelError> {
        Packed::read(self.products, (tensor.columns() as usize, outputs as usize), read)
    }

    /// Reads rows of a tensor from `first` on, as many as `out` (`[rows][columns]`) holds.
    ///
    /// # Errors
    /// Fails when rows cannot be read, or a weight is NaN or infinite.
    pub(super) fn rows(&self, tensor: &MappedTensor, first: u64, out: &mut [f32]) -> Result<(), ModelError> {
        let columns = tensor.columns() as usize;
        let step = (DECODE_STEP / columns).max(1);
        out.par_chunks_mut(step * columns).enumerate().try_for_each(|(i, out)| {
            let start = first + (i * step) as u64;
            let end = start + (out.len() / columns) as u64;
            self.read(tensor, start..end, out)?;
            match first_non_finite(out, columns as u64, start) {
                None => Ok(()),
                Some((row, column, value)) => {
                    Err(ModelError::Weight { tensor: tensor.name.clone(), row, column, value })
                }
            }
        })
    }

    /// Reads rows `rows` of a tensor, from the overlay if that has them.
    pub(super) fn read(
        &self,
        tensor: &MappedTensor,
        rows: Range<u64>,
        out: &mut [f32],
    ) -> Result<(), ModelError> {
        match self.overlay.as_ref().and_then(|overlay| overlay.rows(&tensor.name, rows.start, out)) {
            Some(read) => Ok(read?),
            None => read_rows(self.opened.checkpoint.as_ref(), tensor, rows, out)
                .map_err(|e| ModelError::Read { what: e.to_string() }),
        }
    }

    /// Returns the bytes of the largest layer when it is packed.
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
