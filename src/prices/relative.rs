//! Prices by an importance matrix alone: relative errors of outputs.
//!
//! Without gradients it is not known what an error of an output costs, and without the full Hessian not how errors of columns add up. What is left is
//! `sum h_j e_ij^2 / sum h_j w_ij^2`, h the mean squares of the inputs: the error of each tensor's outputs relative to the outputs themselves, which
//! orders types well within a tensor and roughly between tensors.

use std::collections::BTreeMap;

use kquant_formats::imatrix::Imatrix;
use kquant_kernels::block::BlockType;

use super::error::PriceError;
use super::linear::rounded_error;
use super::measure::{Costs, Pricing};
use super::rounded::Rounding;
use super::sample::Sample;
use crate::context::Context;
use crate::model::{EMBEDDING, OUTPUT};
use crate::plan::{Division, Inventory};
use crate::recipe::{PriceList, PriceUnit};
use crate::tensor::MappedTensor;

/// Matrices of a tensor that are measured.
const MATRICES: usize = 8;

impl Pricing<'_> {
    /// Prices every tensor by `imatrix`, as relative errors; a tensor that it lacks as if all columns counted alike.
    ///
    /// # Errors
    /// [`PriceError`]: a weight that a type cannot hold, or cancellation.
    pub fn by_importance(&self, imatrix: &Imatrix, context: &Context) -> Result<PriceList, PriceError> {
        let inventory = Inventory::new(self.model.opened(), self.model.converted(), Division::OneFile)?;
        let (mut costs, mut done) = (BTreeMap::new(), 0);
        for tensor in self.convertible(&inventory) {
            costs.insert(tensor.name.clone(), self.relative(tensor, imatrix)?);
            done += tensor.weights();
            self.advance(context, done, &tensor.name)?;
        }
        let origin = self.origin(PriceUnit::RelativeError, imatrix.datasets.clone(), 0);
        Ok(self.list(&inventory, &costs, origin))
    }

    fn relative(&self, tensor: &MappedTensor, imatrix: &Imatrix) -> Result<Costs, PriceError> {
        let (columns, rows) = (tensor.columns() as usize, tensor.rows_per_matrix() as usize);
        let sample = Sample::new(&vec![1.0; rows], Self::sampled_rows(columns));
        let matrices = Sample::new(&vec![1.0; tensor.matrices() as usize], MATRICES);
        let other =
            || imatrix.entries.get(OUTPUT).filter(|_| tensor.name == EMBEDDING && self.model.is_tied());
        let entry = imatrix.entries.get(&tensor.name).or_else(other);
        let known =
            entry.map(|e| e.importance()).filter(|all| all.len() == columns * tensor.matrices() as usize);
        let prepared = known.map(|all| self.encoder.prepare_importance(&all, columns));
        let types = self.types_for(tensor);
        let (mut errors_of, mut whole) = (vec![0.0; types.len()], 0.0);
        for &matrix in &matrices.parts {
            let importance = prepared.as_ref().and_then(|all| all.chunks_exact(columns).nth(matrix));
            let weights = self.read(tensor, matrix, &sample.parts)?;
            whole += weighted_squares(&weights, importance, columns);
            let rows = Self::rows(tensor, matrix, &sample.parts, &weights);
            let rounding = Rounding { encoder: self.encoder, layers: None, importance };
            let possible =
                types.iter().zip(&mut errors_of).filter(|(t, _)| self.can_have(t, prepared.is_some()));
            for (block, sum) in possible {
                let errors = rows.errors(block, None, &rounding);
                let errors = errors.map_err(|error| rounded_error(&tensor.name, error))?;
                *sum += weighted_squares(&errors, importance, columns);
            }
        }
        let relative = |error: f64| if whole > 0.0 { error / whole } else { 0.0 };
        let cost = |(block, error): (&&'static BlockType, f64)| {
            self.can_have(block, prepared.is_some()).then(|| relative(error))
        };
        Ok(types.iter().zip(errors_of).map(cost).collect())
    }
}

/// `sum h_j x_ij^2` over the rows `x` `[..][columns]`, h the `importance` or 1.
fn weighted_squares(x: &[f32], importance: Option<&[f32]>, columns: usize) -> f64 {
    let square = |(j, &x): (usize, &f32)| f64::from(importance.map_or(1.0, |h| h[j])) * f64::from(x).powi(2);
    x.chunks_exact(columns).flat_map(|row| row.iter().enumerate().map(square)).sum()
}
