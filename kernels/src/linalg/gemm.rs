//! Matrix products in f32.

use super::blocked::{BlockedProduct, F32};
use super::view::{View, ViewMut};
use crate::isa::Isa;

/// Computes `out = alpha * a · b + beta * out` on one thread, with `out` `[m][n]`, `a` `[m][k]`, `b` `[k][n]`.
///
/// Element `(i, j)` starts from `beta * out[i][j]`, or from 0 when `beta` is 0, whatever `out` held, NaN included.
/// For every l in order the fused `(alpha * a[i][l]) * b[l][j]` is added. This gives the same bits on every machine,
/// and `k` may be cut into calls that go on with `beta` 1.
///
/// # Panics
///
/// When the shapes do not fit.
pub fn gemm(out: ViewMut, a: View, b: View, alpha: f32, beta: f32) {
    gemm_on(Isa::current(), out, a, b, alpha, beta);
}

pub(crate) fn gemm_on(isa: Isa, out: ViewMut, a: View, b: View, alpha: f32, beta: f32) {
    let (m, n, k) = (out.shape.rows, out.shape.columns, a.shape.columns);
    assert!(
        a.shape.rows == m && b.shape.rows == k && b.shape.columns == n,
        "shapes of the product do not fit: {:?} = {:?} · {:?}",
        out.shape,
        a.shape,
        b.shape
    );
    BlockedProduct { arithmetic: F32 { isa, alpha }, a, b: &b, beta, upper: false }.write(out);
}

/// Computes the first `m` rows of `alpha * x' · x + beta * out` on and right of the diagonal, on one thread: `out` is
/// `[m][n]`, `x` is `[k][n]`, `m <= n`. Elements `(i, j)` with `j < i` are left alone; the others are those of
/// [`gemm`] to the bit.
///
/// A whole `[n][n]` matrix can be cut into strips: its rows from r on are the first rows of the product of the
/// columns from r on. [`mirror`] fills the other half.
///
/// # Panics
///
/// When the shapes do not fit.
pub fn syrk(out: ViewMut, x: View, alpha: f32, beta: f32) {
    syrk_on(Isa::current(), out, x, alpha, beta);
}

fn syrk_on(isa: Isa, out: ViewMut, x: View, alpha: f32, beta: f32) {
    let m = out.shape.rows;
    assert!(
        x.shape.columns == out.shape.columns && m <= x.shape.columns,
        "shapes do not fit: {:?} of the products of the columns of {:?}",
        out.shape,
        x.shape
    );
    let a = x.transposed().first_rows(m);
    BlockedProduct { arithmetic: F32 { isa, alpha }, a, b: &x, beta, upper: true }.write(out);
}

/// Makes `matrix` `[n][n]` symmetric: every element left of the diagonal becomes the element opposite to it.
///
/// # Panics
///
/// When `matrix` is no square.
pub fn mirror(matrix: &mut [f32], n: usize) {
    /// The rows and columns of a part: both sides of the diagonal, 4 KiB each, stay in the L1 cache.
    const PART: usize = 32;
    assert!(n.checked_mul(n) == Some(matrix.len()), "{} elements are no square of {n}", matrix.len());
    for row in (0..n).step_by(PART) {
        for column in (0..=row).step_by(PART) {
            for i in row..n.min(row + PART) {
                for j in column..i.min(column + PART) {
                    matrix[i * n + j] = matrix[j * n + i];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::linalg::blocked::{INPUTS, ROWS};
    use crate::linalg::tests::{bits, noise};

    /// The layout of a matrix in its slice.
    #[derive(Debug, Clone, Copy)]
    enum MatrixLayout {
        Rows,
        Columns,
        Spread,
    }

    impl MatrixLayout {
        /// Returns the strides of a `[rows][columns]` matrix and the length of its slice.
        fn strides(self, rows: usize, columns: usize) -> (usize, usize, usize) {
            let len = |rs, cs| rows.saturating_sub(1) * rs + columns.saturating_sub(1) * cs + 1;
            let (rs, cs) = match self {
                Self::Rows => (columns + 3, 1),
                Self::Columns => (1, rows + 2),
                Self::Spread => (2 * columns + 1, 2),
            };
            (rs, cs, len(rs, cs))
        }

        fn view(self, data: &[f32], rows: usize, columns: usize) -> View<'_> {
            let (rs, cs, _) = self.strides(rows, columns);
            View::new(data, rows, columns, rs, cs)
        }

        fn noise(self, rows: usize, columns: usize, seed: usize) -> Vec<f32> {
            noise(self.strides(rows, columns).2, seed)
        }
    }

    /// Computes the product by its definition.
    fn naive(out: &mut [f32], out_layout: MatrixLayout, (a, b): (View, View), (alpha, beta): (f32, f32)) {
        let (m, n, k) = (a.shape.rows, b.shape.columns, a.shape.columns);
        let (rs, cs, _) = out_layout.strides(m, n);
        for i in 0..m {
            for j in 0..n {
                let out = &mut out[i * rs + j * cs];
                let start = if beta == 0.0 { 0.0 } else { beta * *out };
                let element = |v: &View, i, j| v.data[i * v.shape.row_stride + j * v.shape.column_stride];
                *out =
                    (0..k).fold(start, |sum, l| (alpha * element(&a, i, l)).mul_add(element(&b, l, j), sum));
            }
        }
    }

    /// Compares with the definition on every instruction set.
    fn check((m, n, k): (usize, usize, usize), layouts: [MatrixLayout; 3], (alpha, beta): (f32, f32)) {
        let (a, b) = (layouts[0].noise(m, k, 1), layouts[1].noise(k, n, 2));
        let (a, b) = (layouts[0].view(&a, m, k), layouts[1].view(&b, k, n));
        let before = layouts[2].noise(m, n, 3);
        let (rs, cs, _) = layouts[2].strides(m, n);
        let mut expected = before.clone();
        naive(&mut expected, layouts[2], (a, b), (alpha, beta));
        for isa in Isa::available() {
            let mut out = before.clone();
            gemm_on(isa, ViewMut::new(&mut out, m, n, rs, cs), a, b, alpha, beta);
            assert!(bits(&out) == bits(&expected), "{isa:?} {m}x{n}x{k} {layouts:?} {alpha} {beta}");
        }
    }

    fn layout() -> impl Strategy<Value = MatrixLayout> {
        prop_oneof![Just(MatrixLayout::Rows), Just(MatrixLayout::Columns), Just(MatrixLayout::Spread)]
    }

    fn factor() -> impl Strategy<Value = f32> {
        prop_oneof![Just(0.0f32), Just(1.0), Just(-0.3), Just(2.5)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_instruction_set_gives_the_chain_of_the_definition(
            shape in (1usize..40, 1usize..75, 0usize..40),
            layouts in [layout(), layout(), layout()],
            factors in (factor(), factor()),
        ) {
            check(shape, layouts, factors);
        }
    }

    #[test]
    fn blocks_do_not_show() {
        check(
            (3, 33, 2 * INPUTS + 7),
            [MatrixLayout::Rows, MatrixLayout::Columns, MatrixLayout::Rows],
            (0.5, 1.5),
        );
        check((ROWS + 5, 35, 6), [MatrixLayout::Columns, MatrixLayout::Rows, MatrixLayout::Rows], (1.0, 0.0));
    }

    #[test]
    fn inputs_may_be_cut_into_calls() {
        let (m, n, k) = (20, 50, 90);
        let (a, b) = (noise(m * k, 1), noise(k * n, 2));
        let (a, b) = (View::row_major(&a, k), View::row_major(&b, n));
        let mut whole = vec![0.0; m * n];
        gemm(ViewMut::row_major(&mut whole, n), a, b, 0.7, 0.0);
        for cut in [1, 7, 64, 89] {
            let mut parts = vec![f32::NAN; m * n];
            for first in (0..k).step_by(cut) {
                let inputs = cut.min(k - first);
                let a = View::new(&a.data[first..], m, inputs, k, 1);
                let b = View::row_major(&b.data[first * n..(first + inputs) * n], n);
                let beta = if first == 0 { 0.0 } else { 1.0 };
                gemm(ViewMut::row_major(&mut parts, n), a, b, 0.7, beta);
            }
            assert!(bits(&parts) == bits(&whole), "cut at {cut}");
        }
    }

    #[test]
    fn what_out_held_counts_only_with_beta() {
        let mut out = [f32::NAN, f32::INFINITY];
        let one = View::new(&[3.0], 1, 1, 1, 1);
        gemm(ViewMut::row_major(&mut out, 2), one, View::new(&[1.0, 2.0], 1, 2, 2, 1), 1.0, 0.0);
        assert_eq!(out, [3.0, 6.0]);
        let mut out = [f32::NAN; 6];
        let (a, b) = (View::new(&[], 2, 0, 0, 1), View::new(&[], 0, 3, 3, 1));
        gemm(ViewMut::row_major(&mut out, 3), a, b, 1.0, 0.0);
        assert_eq!(out, [0.0; 6]);
        out.fill(1.5);
        gemm(ViewMut::row_major(&mut out, 3), a, b, 1.0, 2.0);
        assert_eq!(out, [3.0; 6]);
    }

    #[test]
    fn syrk_is_the_upper_part_of_gemm() {
        for (m, n, k) in [(1, 1, 1), (7, 7, 3), (13, 40, 20), (70, 70, 65), (40, 130, 9), (100, 100, 0)] {
            let (x, before) = (noise(k * n, 1), noise(m * n, 2));
            let x = View::new(&x, k, n, n, 1);
            let mut product = before.clone();
            gemm(ViewMut::row_major(&mut product, n), x.transposed().first_rows(m), x, 0.3, 1.0);
            let mut expected = before.clone();
            for (i, (row, product)) in expected.chunks_mut(n).zip(product.chunks(n)).enumerate() {
                row[i..].copy_from_slice(&product[i..]);
            }
            for isa in Isa::available() {
                let mut out = before.clone();
                syrk_on(isa, ViewMut::row_major(&mut out, n), x, 0.3, 1.0);
                assert!(bits(&out) == bits(&expected), "{isa:?} {m}x{n}x{k}");
            }
        }
    }

    #[test]
    fn strips_make_the_whole_and_mirror_the_other_half() {
        let (n, k) = (75, 31);
        let x = noise(k * n, 5);
        let view = View::row_major(&x, n);
        let mut whole = vec![0.0; n * n];
        gemm(ViewMut::row_major(&mut whole, n), view.transposed(), view, 1.0, 0.0);
        let mut strips = vec![0.0; n * n];
        for (s, strip) in strips.chunks_mut(20 * n).enumerate() {
            let (rows, first) = (strip.len() / n, s * 20);
            let out = ViewMut::new(&mut strip[first..], rows, n - first, n, 1);
            syrk(out, View::new(&x[first..], k, n - first, n, 1), 1.0, 0.0);
        }
        mirror(&mut strips, n);
        // x' · x is symmetric to the bit: a product does not depend on the order of its factors.
        assert!(bits(&strips) == bits(&whole));
    }

    #[test]
    #[should_panic(expected = "do not fit")]
    fn shapes_must_fit() {
        let mut out = [0.0; 9];
        gemm(
            ViewMut::row_major(&mut out, 3),
            View::row_major(&[0.0; 8], 4),
            View::new(&[0.0; 12], 4, 3, 3, 1),
            1.0,
            0.0,
        );
    }
}
