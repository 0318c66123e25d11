//! Weights that make up for columns that are cut.

use crate::symmetric::{inverse, product_transposed};

/// Returns the weight `[rows][n]` with columns outside of `kept` zero that is nearest to `target` `[rows][n]` for inputs of
/// second moments `h` `[n][n]`: `target H_:K H_KK^-1` in the kept columns K, which are sorted. Returns `None` if `H_KK` is not
/// positive definite.
///
/// The Fisher matrix of the outputs plays no part here: the least squares are the same for each of its factors.
pub(super) fn moved(target: &[f64], h: &[f64], n: usize, kept: &[usize]) -> Option<Vec<f64>> {
    let k = kept.len();
    let rows_of_kept: Vec<f64> = kept.iter().flat_map(|&i| &h[i * n..(i + 1) * n]).copied().collect();
    let block = rows_of_kept.chunks_exact(n).flat_map(|row| kept.iter().map(|&j| row[j])).collect();
    let inverted = inverse(block, k)?;
    let gains = product_transposed(target, &rows_of_kept, n);
    let new = product_transposed(&gains, &inverted, k);
    Some(spread(&new, kept, n))
}

/// Returns `values` `[rows][kept]` in the columns `kept` of rows of `n` columns, with zeros elsewhere.
fn spread(values: &[f64], kept: &[usize], n: usize) -> Vec<f64> {
    let mut out = vec![0.0; values.len() / kept.len() * n];
    for (out, values) in out.chunks_exact_mut(n).zip(values.chunks_exact(kept.len())) {
        kept.iter().zip(values).for_each(|(&j, &value)| out[j] = value);
    }
    out
}

/// Returns `weight` with columns outside of `kept` zero, the others as they are.
pub(super) fn masked(weight: &[f64], n: usize, kept: &[usize]) -> Vec<f64> {
    let mut out = vec![0.0; weight.len()];
    for (out, weight) in out.chunks_exact_mut(n).zip(weight.chunks_exact(n)) {
        kept.iter().for_each(|&j| out[j] = weight[j]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cost_of_errors, noise, positive_definite};
    use super::*;

    #[test]
    fn moved_weights_are_least_squares() {
        let (n, rows, kept) = (9, 3, [0, 2, 3, 7]);
        let (h, f, w) = (positive_definite(n, 1), positive_definite(rows, 2), noise(rows * n, 3));
        let cost = |new: &[f64]| {
            let errors: Vec<f64> = w.iter().zip(new).map(|(w, new)| w - new).collect();
            cost_of_errors(&errors, &h, &f, n)
        };
        let new = moved(&w, &h, n, &kept).unwrap();
        assert!(cost(&new) < 0.9 * cost(&masked(&w, n, &kept)));
        for at in (0..rows * n).filter(|at| kept.contains(&(at % n))) {
            for step in [-1e-3, 1e-3] {
                let mut other = new.clone();
                other[at] += step;
                assert!(cost(&other) > cost(&new), "{at}");
            }
        }
        assert!(new.iter().enumerate().all(|(at, &v)| kept.contains(&(at % n)) || v == 0.0));
        let all: Vec<usize> = (0..n).collect();
        assert!(moved(&w, &h, n, &all).unwrap().iter().zip(&w).all(|(a, b)| (a - b).abs() < 1e-10));
    }
}
