//! Work units: row ranges of one tensor, small enough for the memory budget.

use std::ops::Range;

use crate::plan::{Plan, PlannedTensor};

/// Largest unit, in weights: enough to keep a core busy for a while, small enough to spread over all of them.
const LARGEST_UNIT: u64 = 4 << 20;

/// Rows of one tensor, encoded by one thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    /// Index in the plan's tensors.
    pub tensor: usize,
    /// Rows of that tensor, all in one matrix.
    pub rows: Range<u64>,
    /// Bytes of buffers that it needs: f32 weights and encoded rows.
    pub cost: u64,
}

/// A row that is larger than the whole budget.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RowTooLarge {
    pub tensor: usize,
    pub bytes: u64,
}

/// Bytes of buffers for one row: weights as f32, then encoded.
fn row_cost(tensor: &PlannedTensor) -> u64 {
    let rows = tensor.mapped.rows().max(1);
    tensor.mapped.columns() * 4 + tensor.bytes.div_ceil(rows)
}

/// All units in the order of the output. `memory` is shared by `threads` units at work and as many waiting to be written.
pub(super) fn split(plan: &Plan, memory: u64, threads: usize) -> Result<Vec<Unit>, RowTooLarge> {
    let share = memory / (2 * threads as u64 + 1);
    let mut units = Vec::new();
    for (index, tensor) in plan.tensors.iter().enumerate() {
        let row = row_cost(tensor);
        if row > memory {
            return Err(RowTooLarge { tensor: index, bytes: row });
        }
        let per_unit = (share / row).min(LARGEST_UNIT / tensor.mapped.columns().max(1)).max(1);
        let per_matrix = tensor.mapped.rows_per_matrix().max(1);
        let mut start = 0;
        while start < tensor.mapped.rows() {
            let matrix_end = (start / per_matrix + 1) * per_matrix;
            let end = (start + per_unit).min(matrix_end).min(tensor.mapped.rows());
            units.push(Unit { tensor: index, rows: start..end, cost: row * (end - start) });
            start = end;
        }
    }
    Ok(units)
}
