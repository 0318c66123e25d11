//! Scales of weights that are stored a byte each: one for all, for each row or for each block.

use kquant_kernels::block;

use super::super::ReadError;
use super::parts::Parts;

/// Side of the square blocks that share a scale if the configuration does not say, as in DeepSeek V3.
const DEFAULT_BLOCK: u64 = 128;

/// The scales of one tensor: one per block of `rows x columns` weights.
pub(crate) struct Scales {
    /// Values of the scales, `[grid_rows][grid_columns]`.
    values: Vec<f32>,
    grid_columns: u64,
    rows: u64,
    columns: u64,
}

impl Scales {
    /// Reads the scales in tensor `scale` for tensor `weight`; `block` is the size that the configuration gives
    /// (`[rows, columns]`), if it does.
    ///
    /// # Errors
    /// Fails when shape or type do not fit, or when the scales cannot be read.
    pub(super) fn read(
        parts: &Parts,
        weight: usize,
        scale: usize,
        block: Option<[u64; 2]>,
    ) -> Result<Self, ReadError> {
        let (w, s) = (parts.tensor(weight), parts.tensor(scale));
        let decode = block::by_name(s.dtype.name()).map(|b| b.decode).ok_or_else(|| {
            parts.fault(scale, "scales of this type are not supported; F32, F16 or BF16 is".into())
        })?;
        let mut values = vec![0.0; s.shape.iter().product::<u64>() as usize];
        decode(&parts.file.data(scale)?, &mut values);
        let shape_error = |expected: String| {
            parts.fault(scale, format!("does not fit `{}` {:?}: expected {expected}", w.name, w.shape))
        };
        let [rows, columns] = w.shape[..] else {
            return Err(shape_error("the weight to have two dimensions".into()));
        };
        if values.len() == 1 {
            return Ok(Self { values, grid_columns: 1, rows: rows.max(1), columns: columns.max(1) });
        }
        // There is one scale per row, or one per square block.
        let (block_rows, block_columns) = match s.shape[..] {
            [r] | [r, 1] if r == rows => (1, columns.max(1)),
            _ => block.map_or((DEFAULT_BLOCK, DEFAULT_BLOCK), |[r, c]| (r.max(1), c.max(1))),
        };
        let grid = [rows.div_ceil(block_rows), columns.div_ceil(block_columns)];
        if s.shape[..] != grid && s.shape[..] != grid[..1] {
            return Err(shape_error(format!("{grid:?} for blocks of {block_rows} x {block_columns}")));
        }
        Ok(Self { values, grid_columns: grid[1], rows: block_rows, columns: block_columns })
    }

    /// Multiplies `out`, the weights from column `at.1` of row `at.0` on, by the scales of their blocks.
    pub(crate) fn apply(&self, at: (u64, u64), row_length: u64, out: &mut [f32]) {
        let (mut row, mut column) = at;
        let mut rest = out;
        while !rest.is_empty() {
            // The run ends with the block or the row.
            let run = (self.columns - column % self.columns).min(row_length - column).min(rest.len() as u64);
            let (weights, others) = rest.split_at_mut(run as usize);
            let scale = self.values[((row / self.rows) * self.grid_columns + column / self.columns) as usize];
            weights.iter_mut().for_each(|weight| *weight *= scale);
            (rest, column) = (others, column + run);
            if column == row_length {
                (row, column) = (row + 1, 0);
            }
        }
    }
}
