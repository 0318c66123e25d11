//! Work units: ranges of rows of one tensor, small enough for the memory budget.

use std::ops::Range;

use crate::checkpoint::Checkpoint;
use crate::plan::{Plan, PlannedTensor};
use crate::tensor::{RowOrder, Source, head_rows};

/// Largest unit, in bytes of buffers: large enough that passing it on costs next to nothing, small enough that its bytes are
/// still in a cache when the next stage takes them.
const LARGEST_UNIT: u64 = 3 << 20;

/// Number of weights that are decoded and encoded at once, few enough to stay in the second-level cache as f32.
const PIECE: u64 = 32 << 10;

/// Bytes of a page, which the disk reads even for a single column. Output rows of a transposed tensor are columns of the
/// input, so that as many are made at once as a page holds.
const PAGE: u64 = 4096;

/// Units in flight per thread: one at work, the others waiting to be encoded, hashed or written.
const IN_FLIGHT: u64 = 4;

/// Rows of one tensor that one thread encodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowUnit {
    /// Index of the tensor in the plan.
    pub tensor: usize,
    /// Rows of the tensor, all in one matrix.
    pub rows: Range<u64>,
    /// Number of rows that are decoded and encoded at once.
    pub piece: u64,
    /// Bytes of memory that the unit needs: stored rows, encoded rows, and f32 weights of a piece.
    pub cost: u64,
}

/// The error for a row that needs more than the whole budget.
#[derive(Debug, PartialEq, Eq)]
/// Index of the tensor in the plan.
pub(super) struct RowTooLarge {
    /// Bytes that one row needs.
    pub tensor: usize,
    pub bytes: u64,
}

/// The memory and alignment that rows of a tensor need.
struct Need {
    /// Bytes of a row as stored plus as encoded.
    row: u64,
    /// Bytes of a row as f32.
    weights: u64,
    /// Number of rows in a piece.
    piece: u64,
    /// Number of rows of which a unit has a multiple where memory allows.
    together: u64,
}

impl Need {
    fn of(tensor: &PlannedTensor, checkpoint: &dyn Checkpoint) -> Self {
        let mapped = tensor.mapped.unselected();
        let columns = mapped.columns();
        let stored = mapped.first_stored().and_then(|index| checkpoint.tensors().get(index));
        let (elements, bytes) = stored.map_or((1, 0), |info| info.stored);
        let gathered = stored.and_then(|info| info.gathered).map_or(1, |gathered| gathered.together.max(1));
        // Where rows become columns, the rows between them are fetched as well.
        let step = match &mapped.source {
            Source::Tensor { rows: RowOrder::Transposed { step, .. }, .. } => Some(*step),
            _ => None,
        };
        let transposed = step.is_some();
        let bytes_of_row = match stored.and_then(|info| info.gathered) {
            // Gathered rows are decoded while they are fetched.
            Some(_) if transposed => columns.saturating_mul(4),
            _ => columns.div_ceil(elements.max(1)).saturating_mul(bytes),
        };
        // Rows of which some columns are taken are decoded whole first, and those that were changed are read as f32.
        let whole = tensor.mapped.has_selected_columns() || matches!(mapped.source, Source::Changed { .. });
        let taken = if whole { columns.saturating_mul(8) } else { 0 };
        let per_row = bytes_of_row.saturating_mul(step.unwrap_or(1)).saturating_add(taken);
        let piece = (PIECE / columns.max(1)).max(if transposed { 32 } else { 1 });
        let together = match head_rows(&tensor.mapped) {
            Some(head) => head * gathered.div_ceil(head),
            None if transposed => gathered.max(PAGE * elements / bytes.max(1)),
            None => gathered,
        };
        let encoded = tensor.bytes.div_ceil(tensor.mapped.rows().max(1));
        Self { row: per_row + encoded, weights: columns * 4, piece, together: together.max(1) }
    }

    /// Returns the bytes that a unit of `rows` rows needs.
    fn cost(&self, rows: u64) -> u64 {
        self.row * rows + self.weights * rows.min(self.piece)
    }

    /// Returns the largest number of rows that cost no more than `bytes`, but at least one.
    fn fitting(&self, bytes: u64) -> u64 {
        let rows = match bytes.checked_sub(self.cost(self.piece)) {
            Some(left) => self.piece + left / self.row.max(1),
            None => bytes / (self.row + self.weights).max(1),
        };
        rows.max(1)
    }

    /// Returns the number of rows of a unit that should use `share` bytes and must not use more than `memory`.
    fn rows(&self, share: u64, memory: u64) -> u64 {
        let rows = self.fitting(share.min(LARGEST_UNIT)).max(self.together.min(self.fitting(memory / 2)));
        if rows > self.together { rows - rows % self.together } else { rows }
    }
}

/// Returns all units in the order of the output, and the bytes that those in flight may use. These are at most `memory`,
/// which `threads` units at work and others waiting share, and no more than is useful.
pub(super) fn split(
    plan: &Plan,
    checkpoint: &dyn Checkpoint,
    memory: u64,
    threads: usize,
) -> Result<(Vec<RowUnit>, u64), RowTooLarge> {
    let in_flight = IN_FLIGHT * (threads as u64 + 1);
    let share = memory / in_flight;
    let mut units: Vec<RowUnit> = Vec::new();
    for (index, tensor) in plan.tensors.iter().enumerate() {
        let need = Need::of(tensor, checkpoint);
        if need.cost(1) > memory {
            return Err(RowTooLarge { tensor: index, bytes: need.cost(1) });
        }
        let per_unit = need.rows(share, memory);
        let per_matrix = tensor.mapped.rows_per_matrix().max(1);
        let mut start = 0;
        while start < tensor.mapped.rows() {
            let matrix_end = (start / per_matrix + 1) * per_matrix;
            let end = (start + per_unit).min(matrix_end).min(tensor.mapped.rows());
            let cost = need.cost(end - start);
            units.push(RowUnit { tensor: index, rows: start..end, piece: need.piece, cost });
            start = end;
        }
    }
    let largest = units.iter().map(|u| u.cost).max().unwrap_or(0);
    Ok((units, memory.min(largest.saturating_mul(in_flight))))
}

#[cfg(test)]
mod tests {
    use kquant_formats::source::Extent;
    use kquant_kernels::block;

    use super::*;
    use crate::checkpoint::{ReadError, TensorInfo};
    use crate::tensor::{Keep, MappedTensor};

    /// A checkpoint of one F16 tensor that is never read.
    struct Half(TensorInfo);

    impl Checkpoint for Half {
        fn tensors(&self) -> &[TensorInfo] {
            std::slice::from_ref(&self.0)
        }

        fn find(&self, _: &str) -> Option<usize> {
            None
        }

        fn extent(&self, _: usize) -> Result<Extent<'_>, ReadError> {
            Err(ReadError("no bytes".into()))
        }

        fn decode(&self, _: usize, _: (u64, u64), _: &[u8], _: &mut [f32]) -> Result<(), ReadError> {
            Err(ReadError("no bytes".into()))
        }
    }

    /// Returns the units of a Q8_0 tensor of `shape` (columns first), and the bytes that they may use together.
    fn units(shape: &[u64], rows: RowOrder, memory: u64) -> Result<(Vec<RowUnit>, u64), RowTooLarge> {
        let half = Half(TensorInfo {
            name: "w".into(),
            shape: shape.iter().rev().copied().collect(),
            dtype: "F16",
            block: block::by_name("F16"),
            stored: (1, 2),
            gathered: None,
            shard: 0,
        });
        let mapped = MappedTensor {
            name: "w".into(),
            shape: shape.to_vec(),
            source: Source::Tensor { index: 0, rows },
            keep: Keep::Source,
        };
        let tensor = PlannedTensor {
            source_type: "F16",
            block: block::by_name("Q8_0").unwrap(),
            copy: false,
            encoder: crate::encode::ENCODERS[0],
            importance: false,
            fallback: None,
            file: 0,
            offset: 0,
            bytes: mapped.weights() / 32 * 34,
            mapped,
        };
        let plan = Plan {
            tensors: vec![tensor],
            files: Vec::new(),
            file_name: String::new(),
            warnings: Vec::new(),
            notes: Vec::new(),
        };
        split(&plan, &half, memory, 2)
    }

    /// Asserts that the units cover the rows, each once and in order.
    fn assert_covered(units: &[RowUnit], rows: u64) {
        let mut next = 0;
        for unit in units {
            assert!(unit.rows.start == next && unit.rows.end > next, "{unit:?}");
            next = unit.rows.end;
        }
        assert_eq!(next, rows);
    }

    #[test]
    fn no_unit_needs_more_than_its_share() {
        for (memory, most) in
            [(64 << 10, 8 << 10), (1 << 20, 88 << 10), (128 << 20, LARGEST_UNIT), (2 << 30, LARGEST_UNIT)]
        {
            let (units, in_use) = units(&[1024, 5000], RowOrder::Same, memory).unwrap();
            assert_covered(&units, 5000);
            assert!(in_use <= memory && in_use <= 12 * LARGEST_UNIT, "{memory}: {in_use}");
            // A row takes 7232 bytes, more than a twelfth of the smallest budget.
            assert!(units.iter().all(|u| u.cost <= most), "{memory}: {:?}", units[0]);
        }
        assert_eq!(
            units(&[1024, 8], RowOrder::Same, 7000).unwrap_err(),
            RowTooLarge { tensor: 0, bytes: 7232 }
        );
    }

    #[test]
    fn units_end_with_matrices_and_heads() {
        let (experts, _) = units(&[64, 3000, 5], RowOrder::Same, 1 << 30).unwrap();
        assert_covered(&experts, 15_000);
        assert!(experts.iter().all(|u| u.rows.start / 3000 == (u.rows.end - 1) / 3000));
        let (heads, _) = units(&[1024, 4096], RowOrder::RotaryPairs { heads: 32 }, 1 << 30).unwrap();
        assert_covered(&heads, 4096);
        assert!(heads.iter().all(|u| u.rows.start % 128 == 0 && u.rows.end % 128 == 0));
    }

    /// A page of the input serves as many output rows as it has columns; narrower units would read it once per unit.
    #[test]
    fn transposed_units_are_as_wide_as_a_page() {
        let (wide, _) = units(&[12_288, 49_152], RowOrder::TRANSPOSED, 2 << 30).unwrap();
        assert_covered(&wide, 49_152);
        assert!(wide.iter().all(|u| u.rows.start % 2048 == 0 && u.rows.end - u.rows.start == 2048));
        let (tight, in_use) = units(&[768, 3072], RowOrder::TRANSPOSED, 1 << 20).unwrap();
        assert_covered(&tight, 3072);
        assert!(tight.iter().all(|u| u.cost <= 512 << 10) && in_use <= 1 << 20);
    }
}
