//! Prices of the tensors that read one input.

use kquant_kernels::block::BlockType;

use super::error::PriceError;
use super::measure::{Costs, Pricing};
use super::rounded::{RoundedError, Rounding};
use super::sample::Sample;
use crate::context::Context;
use crate::encode::feedback::{Damping, Feedback, FeedbackError, Hessian, losses_of_rows};
use crate::statistics::{GroupHessians, Half, HessianFile};
use crate::tensor::MappedTensor;

/// Matrices of a tensor, experts or heads, that are measured.
const MATRICES: usize = 8;

/// A tensor under way.
struct Priced<'a> {
    tensor: &'a MappedTensor,
    types: Vec<&'static BlockType>,
    /// The rows that are measured, the same in each matrix; none where nothing is known of the outputs.
    rows: Option<Sample>,
    /// Sums over the matrices so far.
    costs: Costs,
}

/// What enters one matrix.
struct MatrixInput {
    /// The factored Hessian, where rows are rounded with feedback.
    feedback: Option<Feedback>,
    /// The Hessian that errors are measured by: of held-out text where feedback was fitted to the other half.
    measured_by: Hessian,
}

impl Pricing<'_> {
    /// Costs of `tensors`, all of `group`, at the types that each can have; `None` for a tensor of whose inputs or outputs `file` knows nothing.
    pub(super) fn linear(
        &self,
        group: &GroupHessians,
        tensors: &[&MappedTensor],
        file: &HessianFile,
        context: &Context,
    ) -> Result<Vec<Option<Costs>>, PriceError> {
        if tensors.is_empty() {
            return Ok(Vec::new());
        }
        check(group, tensors, self.uses_fishers(), context)?;
        let mut priced = Vec::new();
        for &tensor in tensors {
            let types = self.types_for(tensor);
            let rows = self.sampled(tensor, file)?;
            let costs = vec![Some(0.0); types.len()];
            priced.push(Priced { tensor, types, rows, costs });
        }
        let all = u64::from(file.description().chunks) * u64::from(file.description().cut.context);
        let tokens = |matrix: usize| Half::ALL.iter().map(|&half| group.tokens(matrix, half)).sum::<u64>();
        let shares: Vec<f64> = (0..group.matrices()).map(|m| tokens(m) as f64 / all.max(1) as f64).collect();
        let matrices = Sample::new(&shares, MATRICES);
        let mut any = false;
        for (&matrix, &share) in matrices.parts.iter().zip(&matrices.factors) {
            Self::check_cancelled(context)?;
            let Some(mut input) = self.input(group, matrix, tensors)? else { continue };
            any = true;
            self.price_matrix(&mut priced, (matrix, share), &mut input, file)?;
        }
        Ok(priced.into_iter().map(|p| p.rows.filter(|_| any).map(|_| p.costs)).collect())
    }

    /// The rows of `tensor` to measure, weighted by what an error of each output costs.
    fn sampled(&self, tensor: &MappedTensor, file: &HessianFile) -> Result<Option<Sample>, PriceError> {
        let Some(fisher) = file.fisher(&tensor.name)? else { return Ok(None) };
        let rows = tensor.rows_per_matrix();
        if fisher.columns as u64 != rows {
            return Err(other_model(tensor, "outputs", fisher.columns as u64, rows));
        }
        let weights = match self.layers {
            Some(layers) => layers.output_costs(fisher),
            None => fisher.diagonal().into_iter().map(f64::from).collect(),
        };
        Ok(Some(Sample::new(&weights, Self::sampled_rows(tensor.columns() as usize))))
    }

    /// What enters matrix `matrix`; `None` where no token does.
    fn input(
        &self,
        group: &GroupHessians,
        matrix: usize,
        tensors: &[&MappedTensor],
    ) -> Result<Option<MatrixInput>, PriceError> {
        let [train, held_out] = Half::ALL.map(|half| group.read(matrix, half));
        let (train, held_out) = (train?, held_out?);
        let Some(train) = train.or_else(|| held_out.clone()) else { return Ok(None) };
        if self.layers.is_none() {
            return Ok(Some(MatrixInput { feedback: None, measured_by: train }));
        }
        let damping = Damping::for_tokens(train.columns, train.tokens);
        let measured_by = held_out.unwrap_or_else(|| train.clone());
        match Feedback::new(train, damping) {
            Ok(feedback) => Ok(Some(MatrixInput { feedback: Some(feedback), measured_by })),
            Err(FeedbackError::Inactive) => Ok(None),
            Err(source) => Err(factor_error(tensors.first().map_or("", |t| &t.name), source)),
        }
    }

    /// Adds what errors of one matrix cost, `share` of the tokens being its own.
    fn price_matrix(
        &self,
        priced: &mut [Priced],
        (matrix, share): (usize, f64),
        input: &mut MatrixInput,
        file: &HessianFile,
    ) -> Result<(), PriceError> {
        let mut weights = Vec::new();
        for p in priced.iter() {
            weights.push(match &p.rows {
                Some(sample) => self.read(p.tensor, matrix, &sample.parts)?,
                None => Vec::new(),
            });
        }
        // Types that round several columns together want another order, which takes the factors anew: they come last.
        let mut units: Vec<usize> = self.types.iter().map(|block| self.unit_of(block)).collect();
        units.sort_unstable();
        units.dedup();
        for unit in units {
            for (p, weights) in priced.iter_mut().zip(&weights) {
                let Some(sample) = &p.rows else { continue };
                let importance = self.importance(p.tensor, matrix, file);
                let rounding = Rounding {
                    encoder: self.encoder,
                    layers: self.layers,
                    importance: importance.as_deref(),
                };
                let rows = Self::rows(p.tensor, matrix, &sample.parts, weights);
                for (block, cost) in p.types.iter().zip(&mut p.costs).filter(|(b, _)| self.unit_of(b) == unit)
                {
                    if !self.can_have(block, importance.is_some()) {
                        *cost = None;
                        continue;
                    }
                    let errors = rows.errors(block, input.feedback.as_mut(), &rounding);
                    let errors = errors.map_err(|error| rounded_error(&p.tensor.name, error))?;
                    let lost = 0.5 * share * sample.total(&losses_of_rows(&input.measured_by, &errors));
                    *cost = cost.map(|cost| cost + lost);
                }
            }
        }
        Ok(())
    }

    /// The importance of the columns of matrix `matrix` as the encoder is given it, `[columns]`.
    pub(super) fn importance(
        &self,
        tensor: &MappedTensor,
        matrix: usize,
        file: &HessianFile,
    ) -> Option<Vec<f32>> {
        let columns = tensor.columns() as usize;
        let all = file.importance().entries.get(&tensor.name)?.importance();
        let all = self.encoder.prepare_importance(&all, columns);
        all.chunks_exact(columns).nth(matrix).map(<[f32]>::to_vec)
    }
}

/// Checks shapes and memory before any work on a group.
fn check(
    group: &GroupHessians,
    tensors: &[&MappedTensor],
    both_sides: bool,
    context: &Context,
) -> Result<(), PriceError> {
    let (columns, matrices) = (group.columns() as u64, group.matrices() as u64);
    let mut needed = 0;
    for tensor in tensors {
        if tensor.columns() != columns {
            return Err(other_model(tensor, "columns", columns, tensor.columns()));
        }
        if tensor.matrices() != matrices {
            return Err(other_model(tensor, "matrices", matrices, tensor.matrices()));
        }
        let rows = tensor.rows_per_matrix();
        // Both halves of the Hessian, one being unpacked, and its factors; the Fisher matrix, unpacked and factored.
        let squares = 6 * columns * columns + if both_sides { 5 } else { 3 } * rows * rows;
        needed = needed.max(4 * squares);
    }
    if needed > context.memory {
        let tensor = tensors.first().map_or_else(String::new, |t| t.name.clone());
        return Err(PriceError::Memory { tensor, needed });
    }
    Ok(())
}

fn other_model(tensor: &MappedTensor, what: &'static str, found: u64, expected: u64) -> PriceError {
    PriceError::OtherModel { tensor: tensor.name.clone(), what, found, expected }
}

fn factor_error(tensor: &str, source: FeedbackError) -> PriceError {
    PriceError::Factor { tensor: tensor.to_owned(), source }
}

/// Says which tensor could not be rounded.
pub(super) fn rounded_error(tensor: &str, error: RoundedError) -> PriceError {
    match error {
        RoundedError::Range(error) => error.into(),
        RoundedError::Factor(source) => factor_error(tensor, source),
    }
}
