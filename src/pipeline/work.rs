//! What a thread of the pool does with a unit: read, check, encode.

use std::sync::{Mutex, PoisonError};

use super::units::Unit;
use super::{Job, PipelineError};
use crate::encode::Rows;
use crate::plan::PlannedTensor;
use crate::tensor::{Fetched, first_non_finite};

/// Buffers of one thread, used again for every unit: fresh memory costs more than what is done with it.
#[derive(Default)]
pub(super) struct Workspace {
    /// Stored bytes, where they are not mapped.
    stored: Vec<u8>,
    /// A piece in f32.
    weights: Vec<f32>,
}

/// Buffers between two uses.
pub(super) struct Spare<T>(Mutex<Vec<T>>);

impl<T> Spare<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    pub(super) fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    pub(super) fn put(&self, buffer: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

impl Spare<Vec<u8>> {
    /// A buffer of `bytes` bytes, none of them zeroed on purpose.
    pub(super) fn sized(&self, bytes: usize) -> Vec<u8> {
        // One that is much too large would hold memory that the budget does not know of.
        let mut buffer = self.take().filter(|b| b.capacity() / 2 <= bytes).unwrap_or_default();
        buffer.resize(bytes, 0);
        buffer
    }
}

/// Bytes that `unit` of `tensor` is encoded in.
pub(super) fn encoded_bytes(tensor: &PlannedTensor, unit: &Unit) -> usize {
    (tensor.bytes / tensor.mapped.rows().max(1) * (unit.rows.end - unit.rows.start)) as usize
}

/// Reads, checks and encodes `unit` into `out`, [`encoded_bytes`] long.
pub(super) fn encode(
    job: &Job,
    tensor: &PlannedTensor,
    importance: Option<&[f32]>,
    unit: &Unit,
    space: &mut Workspace,
    out: &mut [u8],
) -> Result<(), PipelineError> {
    if let Some(encoded) = job.stash.and_then(|s| s.rows(&tensor.mapped.name, unit.rows.clone())) {
        out.copy_from_slice(&encoded?);
        return Ok(());
    }
    let columns = tensor.mapped.columns();
    let matrix = unit.rows.start / tensor.mapped.rows_per_matrix().max(1);
    let importance = importance.map(|all| &all[(matrix * columns) as usize..][..columns as usize]);
    let fetched = Fetched::new(job.checkpoint, &tensor.mapped, unit.rows.clone(), &mut space.stored)?;
    let row_bytes = out.len() / (unit.rows.end - unit.rows.start).max(1) as usize;
    let pieces = unit.rows.clone().step_by(unit.piece as usize);
    for (start, out) in pieces.zip(out.chunks_mut(unit.piece as usize * row_bytes)) {
        let rows = start..(start + unit.piece).min(unit.rows.end);
        let count = ((rows.end - rows.start) * columns) as usize;
        if space.weights.len() < count {
            space.weights.resize(count, 0.0);
        }
        let weights = &mut space.weights[..count];
        fetched.decode(rows.clone(), weights)?;
        if let Some(at) = first_non_finite(weights, columns, rows.start) {
            return Err(non_finite(job, tensor, at));
        }
        if tensor.copy {
            fetched.copy(rows, out)?;
        } else {
            let rows = Rows { weights, columns: columns as usize };
            job.encoder.encode(tensor.block, rows, importance, out);
        }
    }
    Ok(())
}

fn non_finite(job: &Job, tensor: &PlannedTensor, (row, column, value): (u64, u64, f32)) -> PipelineError {
    PipelineError::NonFinite {
        tensor: tensor.mapped.name.clone(),
        source_name: tensor.mapped.source_name(job.checkpoint).to_owned(),
        row,
        column,
        value,
    }
}
