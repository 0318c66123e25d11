//! Matrix products in f32.

use gemm::Parallelism;

use super::view::{View, ViewMut};

/// `out = alpha * a · b + beta * out`, with `out` `[m][n]`, `a` `[m][k]`, `b` `[k][n]`. With `beta` 0 what `out` held
/// does not matter, NaN included.
///
/// Single-threaded. The order of the sums depends on the shapes, on the instruction set and on the sizes of the caches,
/// and on nothing else: the same call on the same machine gives the same bits.
///
/// # Panics
///
/// When the shapes do not fit.
pub fn gemm(out: ViewMut, a: View, b: View, alpha: f32, beta: f32) {
    let (m, n, k) = (out.shape.rows, out.shape.columns, a.shape.columns);
    assert!(
        a.shape.rows == m && b.shape.rows == k && b.shape.columns == n,
        "shapes of the product do not fit: {:?} = {:?} · {:?}",
        out.shape,
        a.shape,
        b.shape
    );
    // A stride that is never taken may be anything, even past isize; the crate multiplies it all the same.
    let stride = |steps: usize, stride: usize| if steps > 1 { stride as isize } else { 1 };
    // SAFETY: the views' constructors checked that element (i, j) of each matrix is inside its slice, so that offsets
    // fit isize too; `out` is borrowed mutably, hence apart from `a` and `b`, and its elements are distinct.
    unsafe {
        gemm::gemm::<f32>(
            m,
            n,
            k,
            out.data.as_mut_ptr(),
            stride(n, out.shape.column_stride),
            stride(m, out.shape.row_stride),
            beta != 0.0,
            a.data.as_ptr(),
            stride(k, a.shape.column_stride),
            stride(m, a.shape.row_stride),
            b.data.as_ptr(),
            stride(n, b.shape.column_stride),
            stride(k, b.shape.row_stride),
            beta,
            alpha,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small integers: every product and sum is exact, so any order of summation gives the same bits.
    fn integers(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 37 + seed * 101) % 17) as f32 - 8.0).collect()
    }

    fn naive(x: &[f32], w: &[f32], inputs: usize, outputs: usize) -> Vec<f32> {
        let row = |x: &[f32]| -> Vec<f32> {
            w.chunks(inputs).map(|w| x.iter().zip(w).map(|(x, w)| x * w).sum()).collect()
        };
        let y: Vec<f32> = x.chunks(inputs).flat_map(row).collect();
        assert_eq!(y.len(), x.len() / inputs * outputs);
        y
    }

    /// `y = x · wᵀ`
    fn linear(y: &mut [f32], x: &[f32], w: &[f32], inputs: usize, outputs: usize) {
        let y = ViewMut::row_major(y, outputs);
        gemm(y, View::row_major(x, inputs), View::row_major(w, inputs).transposed(), 1.0, 0.0);
    }

    #[test]
    fn products_are_exact_on_integers() {
        for (rows, inputs, outputs) in [
            (1, 1, 1),
            (1, 33, 7),
            (2, 2, 3),
            (3, 64, 1),
            (5, 100, 31),
            (17, 257, 49),
            (130, 70, 200),
            (1, 300, 520),
        ] {
            let (x, w) = (integers(rows * inputs, rows), integers(outputs * inputs, outputs));
            let mut y = vec![f32::NAN; rows * outputs];
            linear(&mut y, &x, &w, inputs, outputs);
            assert_eq!(y, naive(&x, &w, inputs, outputs), "{rows}x{inputs}x{outputs}");
        }
    }

    #[test]
    fn strides_alpha_and_beta() {
        let (a, b) = (integers(40, 1), integers(60, 2));
        let mut out = vec![1.0; 50];
        // 3 x 4 inside rows of 10, from columns 0..4; b by columns; out every second element of rows of 16.
        gemm(
            ViewMut::new(&mut out, 3, 5, 16, 2),
            View::new(&a, 3, 4, 10, 1),
            View::new(&b, 4, 5, 1, 12),
            0.5,
            2.0,
        );
        for i in 0..3 {
            for j in 0..5 {
                let product: f32 = (0..4).map(|l| a[i * 10 + l] * b[j * 12 + l]).sum();
                assert_eq!(out[i * 16 + j * 2], 0.5 * product + 2.0);
                assert_eq!(out[i * 16 + j * 2 + 1], 1.0);
            }
        }
    }

    #[test]
    fn an_empty_sum_is_zero() {
        let mut out = [f32::NAN; 6];
        gemm(
            ViewMut::row_major(&mut out, 3),
            View::new(&[], 2, 0, 0, 1),
            View::new(&[], 0, 3, 3, 1),
            1.0,
            0.0,
        );
        assert_eq!(out, [0.0; 6]);
    }

    #[test]
    #[should_panic(expected = "do not fit")]
    fn shapes_must_fit() {
        linear(&mut [0.0; 6], &[0.0; 8], &[0.0; 12], 4, 3);
        linear(&mut [0.0; 9], &[0.0; 8], &[0.0; 12], 4, 3);
    }
}
