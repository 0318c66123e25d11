//! Checks for weights that their types cannot hold, before a pass and while it encodes.

use kquant_kernels::block::Limits;

use super::CalibratedError;
use crate::encode::{OutOfRange, Rows, first_outside, first_overflow};
use crate::model::Model;
use crate::plan::{Plan, PlannedTensor};

/// Number of rows read at a time.
const SLAB: u64 = 4096;

/// The largest weight whose square, summed by feedback, stays well in the range of f32: 2^63.
const PAST_SQUARES: f32 = 9_223_372_036_854_775_808.0;

/// Checks that `tensor`'s type can hold `weights`, which are rows from `first_row` on.
pub(super) fn check_weights(
    tensor: &PlannedTensor,
    weights: &[f32],
    first_row: u64,
) -> Result<(), OutOfRange> {
    let at = first_outside(weights, &tensor.block.limits);
    at.map_or(Ok(()), |at| Err(error(tensor, weights, at, first_row)))
}

/// Checks that `weights`, which are rows from `first_row` on, can be rounded with feedback.
pub(super) fn check_squares(
    tensor: &PlannedTensor,
    weights: &[f32],
    first_row: u64,
) -> Result<(), OutOfRange> {
    let all = tensor.block.limits;
    let limits = Limits { low: all.low.max(-PAST_SQUARES), high: all.high.min(PAST_SQUARES), ..all };
    let Some(at) = first_outside(weights, &limits) else { return Ok(()) };
    let error = error(tensor, weights, at, first_row);
    let kind =
        if all.holds(error.value) { "rounding with feedback, which squares weights," } else { error.kind };
    Err(OutOfRange { kind, ..error })
}

/// Checks that `bytes`, the encoding of `weights`, have no infinite scale.
pub(super) fn check_scales(
    tensor: &PlannedTensor,
    weights: &[f32],
    bytes: &[u8],
    first_row: u64,
) -> Result<(), OutOfRange> {
    let at = first_overflow(tensor.block, weights, bytes);
    at.map_or(Ok(()), |at| Err(error(tensor, weights, at, first_row)))
}

fn error(tensor: &PlannedTensor, weights: &[f32], at: usize, first_row: u64) -> OutOfRange {
    let rows = Rows { weights, columns: tensor.mapped.columns() as usize };
    OutOfRange::new((&tensor.mapped.name, tensor.block), rows, at, first_row)
}

/// Checks the matrices outside of layers, which are encoded last, so that a run of hours does not fail at its end.
pub(super) fn check_outside_of_layers(model: &Model, plan: &Plan) -> Result<(), CalibratedError> {
    let last = |t: &&PlannedTensor| !t.copy && !t.mapped.name.starts_with("blk.");
    for tensor in plan.tensors.iter().filter(last) {
        let rows = tensor.mapped.rows();
        for first in (0..rows).step_by(SLAB as usize) {
            let weights = model.row_values(&tensor.mapped, first..rows.min(first + SLAB))?;
            check_weights(tensor, &weights, first)?;
        }
    }
    Ok(())
}
