//! A layer run again, with what its gradients need kept.

use super::super::ModelError;
use super::super::tile::{Attend, Layer, Tile};
use super::super::weights::Weights;
use super::gradients::copied;
use crate::graph::{By, Op, Slot};

/// What one operation read.
#[derive(Debug, Default)]
pub(super) struct Read {
    slots: Vec<(Slot, Vec<f32>)>,
    /// Width of the first slot that it reads.
    pub width: usize,
}

impl Read {
    /// What was in `slot`, `[tokens][width]`.
    pub(super) fn of(&self, slot: Slot) -> &[f32] {
        self.slots.iter().find(|(s, _)| *s == slot).map_or(&[], |(_, values)| values.as_slice())
    }
}

/// Slots whose contents the gradient of `op` needs.
fn needed(op: &Op) -> Vec<Slot> {
    match op {
        Op::Norm { .. } | Op::Attention { .. } | Op::Activate(_) | Op::Route { .. } | Op::Combine => {
            op.reads()
        }
        Op::Matrices { by: By::Routes, .. } => vec![Slot::Routes],
        _ => Vec::new(),
    }
}

/// Runs the operations of a layer on `tile` and returns what each read. Operations at the end that no gradient needs are not
/// run.
pub(super) fn record(
    tile: &mut Tile,
    ops: &[Op],
    weights: &[Weights],
    layer: &Layer,
) -> Result<Vec<Read>, ModelError> {
    let needs = |op: &Op| !needed(op).is_empty() || matches!(op, Op::Matrices { .. });
    let last = ops.iter().rposition(needs).unwrap_or(0);
    let mut tape = Vec::new();
    for (at, (op, weights)) in ops.iter().zip(weights).enumerate() {
        let keep = |slot: Slot| (slot, copied(tile.buffer(slot)));
        let width = op.reads().first().map_or(0, |&slot| tile.width(slot));
        tape.push(Read { slots: needed(op).into_iter().map(keep).collect(), width });
        if at < last {
            let (op, weights) = (std::slice::from_ref(op), std::slice::from_ref(weights));
            tile.run(op, weights, layer, &mut Attend::Chunks, &mut None)?;
        }
    }
    Ok(tape)
}
