//! The work of a thread of the pool on a unit: read, check, encode.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::units::RowUnit;
use super::vanished::Vanished;
use super::{Job, PipelineError};
use crate::encode::{OutOfRange, Rows, encode_in_range};
use crate::plan::PlannedTensor;
use crate::tensor::{Fetched, first_non_finite};

/// Buffers of one thread, which are used again for every unit, since fresh memory would cost more than the work on it.
#[derive(Default)]
pub(super) struct Workspace {
    /// Stored bytes, where they are not mapped.
    stored: Vec<u8>,
    /// Weights of a piece in f32.
    weights: Vec<f32>,
}

/// A stock of buffers that are not in use.
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
    /// Returns a buffer of `bytes` bytes, whose content is unspecified.
    pub(super) fn sized(&self, bytes: usize) -> Vec<u8> {
        // A much larger buffer would hold memory that the budget does not count.
        let mut buffer = self.take().filter(|b| b.capacity() / 2 <= bytes).unwrap_or_default();
        buffer.resize(bytes, 0);
        buffer
    }
}

/// Returns the number of bytes that `unit` of `tensor` is encoded in.
pub(super) fn encoded_bytes(tensor: &PlannedTensor, unit: &RowUnit) -> usize {
    (tensor.bytes / tensor.mapped.rows().max(1) * (unit.rows.end - unit.rows.start)) as usize
}

/// Reads, checks and encodes `unit` into `out`, which is [`encoded_bytes`] long.
pub(super) fn encode(
    job: &Job,
    tensor: &PlannedTensor,
    (importance, vanished): (Option<&[f32]>, &Vanished),
    unit: &RowUnit,
    space: &mut Workspace,
    out: &mut [u8],
) -> Result<(), PipelineError> {
    let stashed = job.stash.and_then(|s| s.rows(&tensor.mapped.name, unit.rows.clone())).transpose()?;
    if let Some(encoded) = &stashed {
        out.copy_from_slice(encoded);
        if !vanished.so_far(tensor.block, out) {
            return Ok(());
        }
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
        if stashed.is_none() {
            encode_piece(job, tensor, (&fetched, rows), (&*weights, importance), out)?;
        }
        if !tensor.copy && vanished.so_far(tensor.block, out) {
            vanished.add(weights);
        }
    }
    Ok(())
}

/// Checks rows `rows` of `tensor`, whose weights are `weights`, and encodes them into `out`.
fn encode_piece(
    job: &Job,
    tensor: &PlannedTensor,
    (fetched, rows): (&Fetched, Range<u64>),
    (weights, importance): (&[f32], Option<&[f32]>),
    out: &mut [u8],
) -> Result<(), PipelineError> {
    let columns = tensor.mapped.columns();
    if tensor.copy {
        if let Some(at) = first_non_finite(weights, columns, rows.start) {
            return Err(non_finite(job, tensor, at));
        }
        return Ok(fetched.copy(rows, out)?);
    }
    let of = Rows { weights, columns: columns as usize };
    encode_in_range(tensor.encoder, tensor.block, of, importance, out).map_err(|at| {
        let error = OutOfRange::new((&tensor.mapped.name, tensor.block), of, at, rows.start);
        match error.value.is_finite() {
            true => error.into(),
            false => non_finite(job, tensor, (error.row, error.column, error.value)),
        }
    })
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
