//! Encoding of the embedding table with feedback over its columns.
//!
//! The error `e` of a row that is looked up enters the stream unchanged and costs `e G e'`, with G the Fisher matrix of
//! the stream after the lookup, which is the same for every row. If the table is the output projection as well, the error
//! also changes a logit by `e x'`, with x the final norm's output; with `p (1 - p)` for the curvature of the softmax this
//! costs `S e H e'`, with S the sum of `p (1 - p)` over the vocabulary and H the mean outer product of x.

use super::input::{Input, MatrixMethod};
use super::moments::MeanMoments;
use super::outputs::OutputFishers;
use super::range::{check_scales, check_squares};
use super::report::CalibrationReport;
use crate::encode::feedback::{Hessian, Losses};
use crate::layerwise::CalibratedError;
use crate::model::{EMBEDDING, Model, OUTPUT};
use crate::plan::PlannedTensor;
use crate::tensor::Stash;

/// Number of rows encoded at a time.
const SLAB: u64 = 4096;

/// Encodes the table `tensor` of `model` into `stash` if the cost of its errors is known and its type supports feedback;
/// returns whether it did.
pub(super) fn encode_embedding(
    (model, tensor): (&Model, &PlannedTensor),
    outputs: &OutputFishers,
    method: &MatrixMethod,
    stash: &mut Stash,
    report: &mut CalibrationReport,
) -> Result<bool, CalibratedError> {
    let (Some(unit), false) = (method.layers.unit(tensor.block), tensor.copy) else { return Ok(false) };
    let hessian = match cost(model, outputs)? {
        Cost::Known(hessian) => hessian,
        Cost::Unknown => return Ok(false),
        Cost::OfLookupAlone => {
            report.notes.push(format!(
                "{EMBEDDING} is the output projection as well, of which the statistics say nothing: it is encoded without \
                 feedback; make them with `kquant calibrate --fisher --output-tensor`"
            ));
            return Ok(false);
        }
    };
    let names = [EMBEDDING.to_owned()];
    let Some(input) = Input::new(MeanMoments { hessian, cross: None }, None, (&names, unit))? else {
        return Ok(false);
    };
    let (rows, columns) = (tensor.mapped.rows(), tensor.mapped.columns() as usize);
    let row_bytes = columns / tensor.block.elements * tensor.block.bytes;
    let (mut bytes, mut losses) = (vec![0; tensor.bytes as usize], Losses::default());
    let start = std::time::Instant::now();
    for (first, out) in (0..rows).step_by(SLAB as usize).zip(bytes.chunks_mut(SLAB as usize * row_bytes)) {
        let weights = model.row_values(&tensor.mapped, first..rows.min(first + SLAB))?;
        check_squares(tensor, &weights, first)?;
        losses.add(&input.round(tensor.block, &weights, method, out)?);
        check_scales(tensor, &weights, out, first)?;
    }
    report.steps.rounding.add(start, method.layers.operations(rows, columns, false));
    report.tensors.push(input.report(tensor, 0.0, &losses));
    stash.insert(&tensor.mapped.name, tensor.block, columns, bytes)?;
    Ok(true)
}

/// The cost of errors in the table's columns.
enum Cost {
    Known(Hessian),
    /// The cost was not collected.
    Unknown,
    /// The table is the output projection as well, and the cost of errors there is not known.
    OfLookupAlone,
}

fn cost(model: &Model, outputs: &OutputFishers) -> Result<Cost, CalibratedError> {
    let Some(mut lookup) = outputs.fisher(EMBEDDING)? else { return Ok(Cost::Unknown) };
    if model.find(OUTPUT).is_some() {
        return Ok(Cost::Known(lookup));
    }
    let Some((inputs, curvature)) = outputs.output_role()? else { return Ok(Cost::OfLookupAlone) };
    let scale = model.hyper.embedding_scale * model.hyper.embedding_scale;
    for (lookup, input) in lookup.mean.iter_mut().zip(&inputs.mean) {
        *lookup = scale * *lookup + curvature * input;
    }
    Ok(Cost::Known(lookup))
}
