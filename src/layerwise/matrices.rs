//! Tensors of several matrices, each with inputs of its own: those of experts, and of heads of latent attention.
//!
//! Each matrix is rounded with the Hessian of the rows that are routed to it, blended with its layer's where these are
//! few ([`pool`]). Earlier losses are not corrected, because the original's rows may have been routed to other experts.

use std::ops::Range;
use std::time::Instant;

use super::CalibratedError;
use super::input::{Halves, Input, MatrixMethod, encode_plainly, unit_of};
use super::moments::MeanMoments;
use super::pass::SequentialPass;
use super::report::{Steps, TensorReport};
use super::streams::Side;
use crate::encode::feedback::{Feedback, Hessian};
use crate::graph::Group;
use crate::model::Model;
use crate::model::stages::Stage;
use crate::plan::PlannedTensor;
use crate::statistics::pool;
use crate::statistics::pool::{Common, Use, of_mean_square};
use crate::text::is_held_out;

/// Divisor of the memory: Hessians of several matrices may take this part of it at a time.
const SHARE: u64 = 8;

impl SequentialPass<'_> {
    /// Encodes the weights of `group`, which comes after `stage`, matrix by matrix.
    pub(super) fn encode_matrices(
        &mut self,
        layer: usize,
        stage: &Stage,
        group: &Group,
    ) -> Result<(), CalibratedError> {
        let names = self.stages.tensors(layer, group)?;
        let planned = |name: &String| self.tensors.get(name.as_str()).copied();
        let tensors: Vec<&PlannedTensor> =
            names.iter().filter_map(planned).filter(|t| !t.copy && t.block.quantized).collect();
        let Some(&first) = tensors.first() else { return Ok(()) };
        let (matrices, columns) = (first.mapped.matrices() as usize, first.mapped.columns() as usize);
        let outputs = tensors.iter().map(|t| self.job.outputs.feedback(&t.mapped.name));
        let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
        let tensors: Vec<_> = tensors.into_iter().zip(outputs.iter().map(Option::as_ref)).collect();
        let mut encoded = vec![Vec::new(); tensors.len()];
        let common = Common::of(&first.mapped.name);
        let (mut layer_halves, mut unreached) = (None, 0);
        // Each batch is as large as the memory allows, because every batch goes through the text again.
        let bytes = 8 * (columns as u64).pow(2).max(1);
        let batch = ((self.job.memory / SHARE / bytes) as usize).clamp(1, matrices.max(1));
        for start in (0..matrices).step_by(batch) {
            let range = start..matrices.min(start + batch);
            let halves = self.matrix_moments(stage, (matrices, columns), range.clone())?;
            for (matrix, halves) in range.zip(halves) {
                let means = halves.means();
                unreached += u64::from(common.is_some() && means.0.is_none() && means.1.is_none());
                let layer_halves = match common.filter(|_| needs_layer(&means, columns)) {
                    Some(_) if layer_halves.is_some() => layer_halves.as_ref(),
                    Some(common) => Some(&*layer_halves.insert(self.layer_means(stage, common, columns)?)),
                    None => None,
                };
                self.encode_matrix(&tensors, matrix, (means, layer_halves), &mut encoded)?;
            }
        }
        self.report.unreached.add(layer as u32, unreached, matrices as u64);
        for ((tensor, _), bytes) in tensors.into_iter().zip(encoded) {
            self.stash.insert(&tensor.mapped.name, tensor.block, columns, bytes)?;
        }
        Ok(())
    }

    /// Gathers the moments of the inputs of the matrices `wanted` in the quantized stream.
    fn matrix_moments(
        &mut self,
        stage: &Stage,
        shape: (usize, usize),
        wanted: Range<usize>,
    ) -> Result<Vec<Halves>, CalibratedError> {
        let start = Instant::now();
        let mut operations = 0.0;
        let mut halves: Vec<Halves> = wanted.clone().map(|_| Halves::new(shape.1, 0)).collect();
        let blocks = self.job.chunks.tokens().len().div_ceil(self.block);
        for tile in 0..self.streams.len() {
            self.check_cancelled()?;
            let state = self.streams.take(tile, Side::Quantized)?;
            for first in (0..self.tokens(tile)).step_by(self.block) {
                let tokens = first..self.tokens(tile).min(first + self.block);
                let rows = self.stages.matrix_inputs(stage, &state, shape, tokens)?;
                let block = (tile * self.tile + first) / self.block;
                for (halves, x) in halves.iter_mut().zip(&rows[wanted.clone()]).filter(|(_, x)| !x.is_empty())
                {
                    halves.add_block(block, blocks, x);
                    operations += (x.len() / shape.1) as f64 * halves.operations();
                }
            }
            self.streams.put(tile, Side::Quantized, state)?;
        }
        self.report.steps.moments.add(start, operations);
        Ok(halves)
    }

    /// Gathers the moments of the inputs of all experts of the coming group in the quantized stream, for both halves of
    /// the text.
    fn layer_means(
        &mut self,
        stage: &Stage,
        common: Common,
        columns: usize,
    ) -> Result<LayerMeans, CalibratedError> {
        let start = Instant::now();
        let (mut halves, mut squares) = (Halves::new(columns, 0), [(0.0, 0); 2]);
        let blocks = self.job.chunks.tokens().len().div_ceil(self.block);
        for tile in 0..self.streams.len() {
            self.check_cancelled()?;
            let state = self.streams.take(tile, Side::Quantized)?;
            let x = stage.input(&state)?;
            let width = x.len() / self.tokens(tile);
            for (i, x) in x.chunks(self.block * width).enumerate() {
                let block = tile * self.tile / self.block + i;
                match common {
                    Common::Input => halves.add_block(block, blocks, x),
                    Common::Scale => {
                        let (sum, rows) = &mut squares[usize::from(is_held_out(block, blocks))];
                        *sum += x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
                        *rows += (x.len() / columns) as u64;
                    }
                }
            }
            self.streams.put(tile, Side::Quantized, state)?;
        }
        self.report.steps.moments.add(start, 0.0);
        let of_squares = |(sum, rows): (f64, u64)| {
            (rows > 0).then(|| of_mean_square(sum / (rows * columns as u64) as f64, columns, rows))
        };
        Ok(match common {
            Common::Input => {
                let (train, held_out) = halves.means();
                [train, held_out].map(|means| means.map(|means| means.hessian))
            }
            Common::Scale => squares.map(of_squares),
        })
    }

    /// Encodes matrix `matrix` of each of `tensors`, with the statistics of its outputs if known, and appends it to
    /// `out`.
    fn encode_matrix(
        &mut self,
        tensors: &[(&PlannedTensor, Option<&Feedback>)],
        matrix: usize,
        (own, layer): ((Option<MeanMoments>, Option<MeanMoments>), Option<&LayerMeans>),
        out: &mut [Vec<u8>],
    ) -> Result<(), CalibratedError> {
        let start = Instant::now();
        let columns = tensors.first().map_or(0, |(t, _)| t.mapped.columns() as usize);
        let names: Vec<String> = tensors.iter().map(|(t, _)| matrix_name(&t.mapped.name, matrix)).collect();
        let mut input =
            matrix_input(own, layer, (&names, unit_of(self.job.layers, tensors.iter().map(|&(t, _)| t))))?;
        self.report.steps.factors.add(start, Input::factor_operations(columns));
        for (&(tensor, outputs), out) in tensors.iter().zip(out) {
            let method = self.job.method(outputs);
            let steps = &mut self.report.steps;
            let (bytes, report) = encode_one(self.job.model, tensor, matrix, input.as_mut(), &method, steps)?;
            self.report.tensors.extend(report);
            out.extend(bytes);
        }
        Ok(())
    }
}

/// The Hessians of the inputs of all matrices of a layer, for the training half of the text and the held-out half.
pub(super) type LayerMeans = [Option<Hessian>; 2];

/// Returns true if the training or the held-out statistics of a matrix of `columns` columns are to be blended with its
/// layer's.
pub(super) fn needs_layer(
    (train, held_out): &(Option<MeanMoments>, Option<MeanMoments>),
    columns: usize,
) -> bool {
    let tokens = |means: &Option<MeanMoments>| means.as_ref().map_or(0, |means| means.hessian.tokens);
    Use::Fit.needs_layer(columns, tokens(train)) || Use::Judge.needs_layer(columns, tokens(held_out))
}

/// Returns the input of one matrix, blended with the inputs of all of its `layer`; `None` if no token reached the matrix.
pub(super) fn matrix_input(
    (train, held_out): (Option<MeanMoments>, Option<MeanMoments>),
    layer: Option<&LayerMeans>,
    names: (&[String], usize),
) -> Result<Option<Input>, CalibratedError> {
    let tokens = train.as_ref().map_or(0, |means| means.hessian.tokens);
    let pooled = |own: Option<MeanMoments>, half: usize, to: Use| {
        let own = own.map(|means| means.hessian);
        match layer.and_then(|layer| layer[half].as_ref()) {
            Some(layer) => {
                let pooled = pool::pool(own, layer, to);
                (Some(MeanMoments { hessian: pooled.hessian, cross: None }), pooled.layer)
            }
            None => (own.map(|hessian| MeanMoments { hessian, cross: None }), 0.0),
        }
    };
    let (train, share) = pooled(train, 0, Use::Fit);
    let (held_out, _) = pooled(held_out, 1, Use::Judge);
    // Held-out rows without training rows are of no use.
    let Some(train) = train else { return Ok(None) };
    Ok(Input::new(train, held_out, names)?.map(|input| input.pooled(tokens, share)))
}

/// Encodes matrix `matrix` of `tensor` with the statistics of its `input` or, without these, as if all columns were
/// equally important.
pub(super) fn encode_one(
    model: &Model,
    tensor: &PlannedTensor,
    matrix: usize,
    input: Option<&mut Input>,
    method: &MatrixMethod,
    steps: &mut Steps,
) -> Result<(Vec<u8>, Option<TensorReport>), CalibratedError> {
    let weights = model.matrix_values(&tensor.mapped, matrix)?;
    let one = matrix_of(tensor, matrix);
    // Errors name rows by their number in the tensor, because the type belongs to the tensor.
    let of_tensor = |error: CalibratedError| match error {
        CalibratedError::Range(error) => {
            let first_row = matrix as u64 * tensor.mapped.rows_per_matrix();
            error.within(&tensor.mapped.name, first_row).into()
        }
        other => other,
    };
    if let Some(input) = input {
        let encoded = input.encode(&one, weights, true, method, steps).map_err(of_tensor)?;
        let (bytes, report) = encoded.into_parts();
        return Ok((bytes.unwrap_or_default(), report));
    }
    let mut bytes = vec![0; one.bytes as usize];
    let importance = vec![1.0; one.mapped.columns() as usize];
    encode_plainly(&one, &weights, &importance, &mut bytes).map_err(|error| of_tensor(error.into()))?;
    Ok((bytes, None))
}

/// Returns the name of matrix `matrix` of the tensor `name` for reports.
pub(super) fn matrix_name(name: &str, matrix: usize) -> String {
    format!("{name}[{matrix}]")
}

/// Returns matrix `matrix` of `tensor` as a tensor.
fn matrix_of(tensor: &PlannedTensor, matrix: usize) -> PlannedTensor {
    let mut one = tensor.clone();
    one.bytes = tensor.bytes / tensor.mapped.matrices().max(1);
    one.mapped.shape.truncate(2);
    one.mapped.name = matrix_name(&tensor.mapped.name, matrix);
    one
}
