//! Matrices inside slices, with any row and column stride. Every element is inside the slice.

/// A matrix to read: element `(i, j)` is `data[i * row_stride + j * column_stride]`.
#[derive(Debug, Clone, Copy)]
pub struct View<'a, T = f32> {
    pub(super) data: &'a [T],
    pub(super) shape: Shape,
}

/// A matrix to write, laid out as [`View`] is; no two elements share a place.
#[derive(Debug)]
pub struct ViewMut<'a> {
    pub(super) data: &'a mut [f32],
    pub(super) shape: Shape,
}

/// The rows and columns of a matrix and their strides, which the views' constructors check against the slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

impl<'a, T: Copy + Default> View<'a, T> {
    /// Makes a `[rows][columns]` matrix with the given strides, in elements.
    ///
    /// # Panics
    ///
    /// When an element is outside `data`.
    pub fn new(data: &'a [T], rows: usize, columns: usize, row_stride: usize, column_stride: usize) -> Self {
        let shape = Shape { rows, columns, row_stride, column_stride };
        shape.check(data.len());
        Self { data, shape }
    }

    /// Makes a matrix of the rows of `data` `[n][columns]`, which follow each other.
    ///
    /// # Panics
    ///
    /// When `data` is no whole number of rows.
    pub fn row_major(data: &'a [T], columns: usize) -> Self {
        Self { data, shape: Shape::row_major(data.len(), columns) }
    }

    /// Returns the same elements as a `[columns][rows]` matrix.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self { data: self.data, shape: self.shape.transposed() }
    }

    /// Returns the columns `range`.
    ///
    /// # Panics
    ///
    /// When there are no such columns.
    #[must_use]
    pub fn columns(mut self, range: std::ops::Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.shape.columns,
            "no columns {range:?}: {:?}",
            self.shape
        );
        self.shape.columns = range.len();
        if self.shape.rows > 0 && !range.is_empty() {
            self.data = &self.data[range.start * self.shape.column_stride..];
        }
        self
    }

    /// Returns the first `rows` rows.
    pub(super) fn first_rows(mut self, rows: usize) -> Self {
        self.shape.rows = self.shape.rows.min(rows);
        self
    }

    /// Copies rows `row..row + W` of the columns from `column` on to `out` `[columns][W]`, one column after the
    /// other. Rows that do not exist become 0.
    pub(super) fn interleave<const W: usize>(&self, row: usize, column: usize, out: &mut [[T; W]]) {
        let Shape { rows, row_stride, column_stride, .. } = self.shape;
        let rows = W.min(rows - row);
        if out.is_empty() || rows == 0 {
            return;
        }
        let data = &self.data[row * row_stride + column * column_stride..];
        if rows < W {
            out.fill([T::default(); W]);
        }
        if row_stride == 1 {
            for (k, out) in out.iter_mut().enumerate() {
                out[..rows].copy_from_slice(&data[k * column_stride..][..rows]);
            }
        } else if column_stride == 1 {
            transpose(data, row_stride, rows, out);
        } else {
            for (k, out) in out.iter_mut().enumerate() {
                for (r, out) in out[..rows].iter_mut().enumerate() {
                    *out = data[k * column_stride + r * row_stride];
                }
            }
        }
    }
}

impl<'a> ViewMut<'a> {
    /// Makes a `[rows][columns]` matrix with the given strides, in elements.
    ///
    /// # Panics
    ///
    /// When an element is outside `data`, or when two elements share a place.
    pub fn new(
        data: &'a mut [f32],
        rows: usize,
        columns: usize,
        row_stride: usize,
        column_stride: usize,
    ) -> Self {
        let shape = Shape { rows, columns, row_stride, column_stride };
        shape.check(data.len());
        assert!(shape.is_distinct(), "elements of the matrix share a place: {shape:?}");
        Self { data, shape }
    }

    /// Makes a matrix of the rows of `data` `[n][columns]`, which follow each other.
    ///
    /// # Panics
    ///
    /// When `data` is no whole number of rows.
    pub fn row_major(data: &'a mut [f32], columns: usize) -> Self {
        let shape = Shape::row_major(data.len(), columns);
        Self { data, shape }
    }

    /// Copies the elements of row `row` from `column` on to `out`.
    pub(super) fn read(&self, row: usize, column: usize, out: &mut [f32]) {
        let (at, step) = (self.shape.at(row, column), self.shape.column_stride);
        if step == 1 {
            out.copy_from_slice(&self.data[at..at + out.len()]);
        } else {
            out.iter_mut().enumerate().for_each(|(i, out)| *out = self.data[at + i * step]);
        }
    }

    /// Replaces the elements of row `row` from `column` on by `values`.
    pub(super) fn write(&mut self, row: usize, column: usize, values: &[f32]) {
        if values.is_empty() {
            return;
        }
        let (at, step) = (self.shape.at(row, column), self.shape.column_stride);
        if step == 1 {
            self.data[at..at + values.len()].copy_from_slice(values);
        } else {
            values.iter().enumerate().for_each(|(i, &value)| self.data[at + i * step] = value);
        }
    }
}

/// Copies `out[k][r] = data[r * stride + k]` for `r` below `rows`, in parts of 4 x 4, which the compiler vectorises.
fn transpose<T: Copy, const W: usize>(data: &[T], stride: usize, rows: usize, out: &mut [[T; W]]) {
    /// The number of columns at a time, which stay in the L1 cache while the rows are spread over them.
    const COLUMNS: usize = 64;
    for (c, out) in out.chunks_mut(COLUMNS).enumerate() {
        let columns = out.len();
        let row = |r: usize| &data[r * stride + c * COLUMNS..][..columns];
        let fours = rows - rows % 4;
        for r in (0..fours).step_by(4) {
            let rows = [row(r), row(r + 1), row(r + 2), row(r + 3)];
            let whole = columns - columns % 4;
            for k in (0..whole).step_by(4) {
                // These are loops because closures (array maps) were calls in some builds, which made calibration a
                // quarter slower.
                for j in k..k + 4 {
                    for (i, row) in rows.iter().enumerate() {
                        out[j][r + i] = row[j];
                    }
                }
            }
            for (out, k) in out[whole..].iter_mut().zip(whole..) {
                for (i, row) in rows.iter().enumerate() {
                    out[r + i] = row[k];
                }
            }
        }
        for r in fours..rows {
            out.iter_mut().zip(row(r)).for_each(|(out, &value)| out[r] = value);
        }
    }
}

impl Shape {
    fn row_major(len: usize, columns: usize) -> Self {
        let rows = len.checked_div(columns).unwrap_or(0);
        assert!(rows * columns == len, "{len} elements are no whole number of rows of {columns}");
        Self { rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// Returns the place of element `(row, column)` in the slice.
    fn at(self, row: usize, column: usize) -> usize {
        row * self.row_stride + column * self.column_stride
    }

    fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    /// Panics unless every element is inside a slice of `len` elements.
    fn check(self, len: usize) {
        let last = |n: usize, stride: usize| n.checked_sub(1).map(|last| last.checked_mul(stride));
        let inside = match (last(self.rows, self.row_stride), last(self.columns, self.column_stride)) {
            (None, _) | (_, None) => true,
            (Some(row), Some(column)) => {
                row.zip(column).and_then(|(row, column)| row.checked_add(column)).is_some_and(|at| at < len)
            }
        };
        assert!(inside, "matrix {self:?} reaches past its {len} elements");
    }

    /// Returns true if one dimension steps over the whole extent of the other. It is called after `check`, so that
    /// nothing overflows.
    fn is_distinct(self) -> bool {
        let steps_over = |outer: usize, outer_stride: usize, inner: usize, inner_stride: usize| {
            (inner == 1 || inner_stride > 0) && (outer == 1 || outer_stride > (inner - 1) * inner_stride)
        };
        self.rows == 0
            || self.columns == 0
            || steps_over(self.rows, self.row_stride, self.columns, self.column_stride)
            || steps_over(self.columns, self.column_stride, self.rows, self.row_stride)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_must_be_inside() {
        let data = [0.0; 12];
        View::new(&data, 3, 4, 4, 1);
        View::new(&data, 4, 3, 1, 4);
        View::new(&data, 2, 2, 10, 1);
        View::new(&data, 0, 5, 100, 100);
        for (rows, columns, row_stride, column_stride) in
            [(3, 5, 4, 1), (2, 2, 11, 1), (2, 1, usize::MAX, 1), (3, 3, usize::MAX / 2, usize::MAX / 2)]
        {
            let outside =
                std::panic::catch_unwind(|| View::new(&data, rows, columns, row_stride, column_stride));
            assert!(outside.is_err(), "{rows} {columns} {row_stride} {column_stride}");
        }
    }

    #[test]
    fn elements_to_write_must_not_share_a_place() {
        let distinct = |rows, columns, row_stride, column_stride| {
            Shape { rows, columns, row_stride, column_stride }.is_distinct()
        };
        assert!(distinct(3, 4, 4, 1) && distinct(3, 4, 1, 3) && distinct(1, 4, 0, 1) && distinct(1, 1, 0, 0));
        assert!(distinct(0, 4, 0, 0));
        assert!(
            !distinct(3, 4, 3, 1) && !distinct(3, 4, 1, 2) && !distinct(2, 2, 0, 1) && !distinct(2, 2, 1, 0)
        );
    }

    #[test]
    fn a_transposed_view_swaps_shape_and_strides() {
        let data: [f32; 6] = std::array::from_fn(|i| i as f32);
        let view = View::row_major(&data, 3).transposed();
        assert_eq!(view.shape, Shape { rows: 3, columns: 2, row_stride: 1, column_stride: 3 });
    }
}
