//! A second run of a layer that records what the gradients of its operations need.

use super::super::ModelError;
use super::super::ops::Recorded;
use super::super::rope::Ropes;
use super::super::steps::{BoundSteps, Positions};
use super::super::tile::Tile;

/// Runs the operations of a layer on `tile` and returns what the gradient of each one needs, those of weights included if
/// `weights` is set. Operations at the end are not run if no gradient needs their output.
pub(super) fn record<'s>(
    tile: &mut Tile,
    steps: &'s BoundSteps,
    ropes: &Ropes,
    weights: bool,
) -> Result<Vec<Box<dyn Recorded + 's>>, ModelError> {
    let last = if weights { steps.len().saturating_sub(1) } else { steps.last_recorded().unwrap_or(0) };
    let mut tape = Vec::new();
    for at in 0..steps.len() {
        tape.push(steps.record(at, tile, weights));
        if at < last {
            steps.run_one(at, tile, &mut Positions::of_chunks(ropes))?;
        }
    }
    Ok(tape)
}
