//! The parts of the factorisation `H = U D U'` that are not matrix products. The caller cuts H into blocks.

use crate::isa::per_isa;

per_isa! {
    /// Factors a symmetric block `a` `[n][n]`, of which the lower triangle is read, as `U D U'` with U unit upper
    /// triangular. `a` becomes `U'`, and D, the pivots, goes to `pivots` `[n]`. Returns false if a pivot is not
    /// positive or is below its `least` `[n]`; the contents are then undefined.
    pub fn factor_block, factor_block_on(a: &mut [f64], pivots: &mut [f64], least: &[f64]) -> bool {
        let n = pivots.len();
        for k in (0..n).rev() {
            let (above, row) = a.split_at_mut(k * n);
            let pivot = row[k];
            // The condition is written so that NaN fails too.
            if !(pivot >= least[k] && pivot > 0.0) {
                return false;
            }
            pivots[k] = pivot;
            for i in 0..k {
                let factor = row[i] / pivot;
                for (a, r) in above[i * n..][..i + 1].iter_mut().zip(&row[..i + 1]) {
                    *a = (-factor).mul_add(*r, *a);
                }
            }
            for r in &mut row[..k] {
                *r /= pivot;
            }
            row[k] = 1.0;
            row[k + 1..n].fill(0.0);
        }
        true
    }
}

per_isa! {
    /// Computes `row -= Σ_k factors[k] * panel[k]`, in the order of k. `panel` has rows of `stride` elements, of
    /// which the first `row.len()` are read.
    pub fn subtract_outer, subtract_outer_on(row: &mut [f64], factors: &[f64], panel: &[f64], stride: usize) {
        for (factor, panel) in factors.iter().zip(panel.chunks(stride)) {
            for (x, p) in row.iter_mut().zip(panel) {
                *x = (-factor).mul_add(*p, *x);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factors_give_the_block_back() {
        let n = 24;
        let root: Vec<f64> = (0..n * n).map(|i| ((i * i * 31 + i * 7) % 101) as f64 / 50.0 - 1.0).collect();
        let mut a = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..n {
                a[i * n + j] = (0..n).map(|k| root[i * n + k] * root[j * n + k]).sum::<f64>();
            }
            a[i * n + i] += 0.1;
        }
        let (mut lower, mut pivots) = (a.clone(), vec![0.0; n]);
        assert!(factor_block(&mut lower, &mut pivots, &vec![0.0; n]));
        for i in 0..n {
            for j in 0..n {
                let back: f64 = (0..n).map(|k| lower[k * n + i] * pivots[k] * lower[k * n + j]).sum();
                assert!((back - a[i * n + j]).abs() < 1e-9, "{i} {j}: {back} is not {}", a[i * n + j]);
            }
        }
        assert!(
            !factor_block(&mut a.clone(), &mut pivots, &vec![1e9; n]),
            "pivots under the least are refused"
        );
        a[0] = -1.0;
        assert!(!factor_block(&mut a, &mut pivots, &vec![0.0; n]), "an indefinite block is refused");
    }
}
