//! A second run of a layer that records what the gradients of its operations need.

use super::super::ModelError;
use super::super::ops::Recorded;
use super::super::rope::Ropes;
use super::super::steps::{BoundSteps, Positions};
use super::super::tile::Tile;

/// Runs the operations of a layer on `tile` and returns what the gradient of each one needs. Operations at the end are not
/// run if no gradient needs their output.
pub(super) fn record<'s>(
    tile: &mut Tile,
    steps: &'s BoundSteps,
    ropes: &Ropes,
) -> Result<Vec<Box<dyn Recorded + 's>>, ModelError> {
    let last = steps.last_recorded().unwrap_or(0);
    let mut tape = Vec::new();
    for at in 0..steps.len() {
        tape.push(steps.record(at, tile));
        if at < last {
            steps.run_one(at, tile, &mut Positions::of_chunks(ropes))?;
        }
    }
    Ok(tape)
}
