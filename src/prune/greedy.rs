//! The greedy choice of the columns of a weight that are cut, where the columns that stay make up for the cut ones.
//!
//! With `H` the second moments of the inputs and `F` the Fisher matrix of the outputs, an error `E` of a weight `W` costs
//! `1/2 tr(F E H E')` in KL divergence. Cutting column j and moving the others at best costs
//! `(w_j' F w_j) / (2 (H^-1)_jj)` and moves the weight by `-w_j (H^-1)_j: / (H^-1)_jj`; row and column j then leave `H^-1`
//! by a downdate (Hassibi and Stork, Second Order Derivatives for Network Pruning: Optimal Brain Surgeon, 1992).
//!
//! All prices need is the diagonal of `H^-1` and of `M = W' F W`. Both matrices change by matrices of low rank per cut, which
//! are put off and applied together, since a pass over the matrices costs far more than the rows that a cut reads.

use rayon::prelude::*;

use crate::symmetric::{add_scaled, dot, inverse};

/// Number of cuts whose changes are put off.
const PENDING: usize = 64;

/// A block of columns that is cut, and the cost of that.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct BlockCut {
    /// Number of the block.
    pub block: usize,
    /// KL divergence in nats per token, to second order, given the cuts before.
    pub price: f64,
}

/// The change by one cut: `H^-1` loses `h h' / pivot`, `M` loses `c v' + v c'`.
struct Change {
    h: Vec<f64>,
    pivot: f64,
    /// `h / pivot`.
    c: Vec<f64>,
    v: Vec<f64>,
}

/// The state between cuts.
struct Greedy {
    n: usize,
    inverse: Vec<f64>,
    cost: Vec<f64>,
    pending: Vec<Change>,
    /// The present diagonals of the inverse and of the cost.
    diagonals: Vec<[f64; 2]>,
}

/// Returns the `count` blocks of `width` neighbouring columns to cut, in order, out of the first `blocks`; ties go to the lower block.
///
/// `inverse` is `H^-1` and `cost` is `W' F W`, both `[n][n]`.
pub(super) fn choose(
    (inverse, cost): (Vec<f64>, Vec<f64>),
    n: usize,
    (blocks, width): (usize, usize),
    count: usize,
) -> Vec<BlockCut> {
    let diagonals = (0..n).map(|j| [inverse[j * n + j], cost[j * n + j]]).collect();
    let mut greedy = Greedy { n, inverse, cost, pending: Vec::new(), diagonals };
    let mut alive = vec![true; blocks];
    let mut cuts = Vec::with_capacity(count);
    while cuts.len() < count {
        let priced = (0..blocks).filter(|&b| alive[b]).map(|b| (b, greedy.price_of(b * width, width)));
        let cheapest = priced.min_by(|a, b| a.1.total_cmp(&b.1));
        let Some((block, price)) = cheapest else { break };
        alive[block] = false;
        (block * width..(block + 1) * width).for_each(|column| greedy.cut(column));
        if width > 1 {
            greedy.apply_pending();
        }
        cuts.push(BlockCut { block, price });
    }
    cuts
}

impl Greedy {
    fn price(&self, column: usize) -> f64 {
        let [inverse, cost] = self.diagonals[column];
        (cost / (2.0 * inverse)).max(0.0)
    }

    /// Returns the price of `width` columns from `first` on, `1/2 tr((H^-1_BB)^-1 M_BB)`. Of more than one column no change may be pending.
    ///
    /// Columns that are not independent have no price that is finite.
    fn price_of(&self, first: usize, width: usize) -> f64 {
        if width == 1 {
            return self.price(first);
        }
        let block = |matrix: &[f64]| -> Vec<f64> {
            let rows = matrix[first * self.n..(first + width) * self.n].chunks_exact(self.n);
            rows.flat_map(|row| &row[first..first + width]).copied().collect()
        };
        let inverted = inverse(block(&self.inverse), width);
        inverted.map_or(f64::INFINITY, |inverted| (0.5 * dot(&inverted, &block(&self.cost))).max(0.0))
    }

    fn cut(&mut self, r: usize) {
        let n = self.n;
        let mut h = self.inverse[r * n..(r + 1) * n].to_vec();
        let mut m = self.cost[r * n..(r + 1) * n].to_vec();
        self.pending.iter().for_each(|change| change.apply(r, &mut h, &mut m));
        let pivot = h[r];
        let c: Vec<f64> = h.iter().map(|h| h / pivot).collect();
        let half = 0.5 * m[r];
        let v: Vec<f64> = m.iter().zip(&c).map(|(m, c)| m - half * c).collect();
        for (j, [inverse, cost]) in self.diagonals.iter_mut().enumerate() {
            *inverse -= h[j] * c[j];
            *cost -= 2.0 * c[j] * v[j];
        }
        self.pending.push(Change { h, pivot, c, v });
        if self.pending.len() == PENDING {
            self.apply_pending();
        }
    }

    fn apply_pending(&mut self) {
        let (n, pending) = (self.n, &self.pending);
        let rows = self.inverse.par_chunks_mut(n).zip(self.cost.par_chunks_mut(n)).enumerate();
        rows.for_each(|(i, (h, m))| pending.iter().for_each(|change| change.apply(i, h, m)));
        self.pending.clear();
    }
}

impl Change {
    /// Applies the change to row `i` of the inverse, `h`, and of the cost, `m`.
    fn apply(&self, i: usize, h: &mut [f64], m: &mut [f64]) {
        add_scaled(h, -self.h[i] / self.pivot, &self.h);
        add_scaled(m, -self.c[i], &self.v);
        add_scaled(m, -self.v[i], &self.c);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cost_of_errors, noise, positive_definite};
    use super::super::weights::moved;
    use super::*;
    use crate::symmetric::{inverse, product_transposed, transposed};

    /// `W' F W` of a weight `[rows][n]`.
    fn cost(weight: &[f64], fisher: &[f64], rows: usize, n: usize) -> Vec<f64> {
        let columns = transposed(weight, n);
        product_transposed(&product_transposed(&columns, fisher, rows), &columns, rows)
    }

    #[test]
    fn prices_are_the_real_increases_and_each_is_the_least() {
        // Single columns, and blocks of three; what follows the blocks is a bias.
        for (width, blocks, count) in [(1, 11, 7), (3, 3, 2)] {
            let (n, rows) = (width * blocks + 1, 5);
            let (h, f, w) = (positive_definite(n, 1), positive_definite(rows, 2), noise(rows * n, 3));
            let real = |cut: &[usize]| {
                let kept: Vec<usize> =
                    (0..n).filter(|j| !cut.contains(&(j / width)) || *j == n - 1).collect();
                let new = moved(&w, &h, n, &kept).unwrap();
                let errors: Vec<f64> = w.iter().zip(&new).map(|(w, new)| w - new).collect();
                cost_of_errors(&errors, &h, &f, n)
            };
            let pair = (inverse(h.clone(), n).unwrap(), cost(&w, &f, rows, n));
            let cuts = choose(pair, n, (blocks, width), count);
            let (mut cut, mut sum) = (Vec::new(), 0.0);
            for step in cuts {
                let with = |b: usize| real(&[&cut[..], &[b]].concat()) - sum;
                for b in (0..blocks).filter(|b| !cut.contains(b)) {
                    assert!(with(b) >= step.price * (1.0 - 1e-9), "{b} is cheaper than {step:?}");
                }
                assert!((with(step.block) / step.price - 1.0).abs() < 1e-9, "{step:?}");
                sum += step.price;
                cut.push(step.block);
            }
            assert!(cut.len() == count && cut.iter().all(|&b| b < blocks));
        }
    }

    /// The same choice by the plain algorithm: after each cut, both matrices are those of the columns that stay, made anew.
    fn plain((h, w): (&[f64], &[f64]), f: &[f64], n: usize, count: usize) -> Vec<BlockCut> {
        let rows = w.len() / n;
        let (mut kept, mut w, mut cuts): (Vec<usize>, _, _) = ((0..n).collect(), w.to_vec(), Vec::new());
        for _ in 0..count {
            let block = kept.iter().flat_map(|&i| kept.iter().map(move |&j| h[i * n + j])).collect();
            let inverted = inverse(block, kept.len()).unwrap();
            let m = cost(&w, f, rows, n);
            let price = |at: usize| m[kept[at] * n + kept[at]] / (2.0 * inverted[at * kept.len() + at]);
            let priced = (0..kept.len()).map(|at| (at, price(at)));
            let (at, price) = priced.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
            cuts.push(BlockCut { block: kept.remove(at), price });
            w = moved(&w, h, n, &kept).unwrap();
        }
        cuts
    }

    #[test]
    fn put_off_changes_choose_as_the_plain_algorithm_does() {
        // More cuts than are put off, twice over, of a size that no batch divides.
        let (n, rows, count) = (150, 4, 2 * PENDING + 5);
        let (h, f, w) = (positive_definite(n, 7), positive_definite(rows, 8), noise(rows * n, 9));
        let expected = plain((&h, &w), &f, n, count);
        let cuts = choose((inverse(h, n).unwrap(), cost(&w, &f, rows, n)), n, (n, 1), count);
        assert_eq!(cuts.len(), count);
        for (cut, plain) in cuts.iter().zip(&expected) {
            assert_eq!(cut.block, plain.block);
            assert!((cut.price / plain.price - 1.0).abs() < 1e-8, "{cut:?} {plain:?}");
        }
    }

    #[test]
    fn the_sum_of_prices_is_the_closed_form_also_past_the_put_off_changes() {
        let (n, rows) = (200, 4);
        let (h, f, w) = (positive_definite(n, 4), positive_definite(rows, 5), noise(rows * n, 6));
        let inverted = inverse(h.clone(), n).unwrap();
        let cuts = choose((inverted.clone(), cost(&w, &f, rows, n)), n, (n, 1), 150);
        let columns: Vec<usize> = cuts.iter().map(|cut| cut.block).collect();
        let (s, all) = (columns.len(), transposed(&w, n));
        let w_s: Vec<f64> = columns.iter().flat_map(|&j| all[j * rows..(j + 1) * rows].to_vec()).collect();
        let block = columns.iter().flat_map(|&i| columns.iter().map(move |&j| (i, j)));
        let block: Vec<f64> = block.map(|(i, j)| inverted[i * n + j]).collect();
        // 1/2 tr(F W_S ((H^-1)_SS)^-1 W_S').
        let closed = cost_of_errors(&transposed(&w_s, rows), &inverse(block, s).unwrap(), &f, s);
        let sum: f64 = cuts.iter().map(|cut| cut.price).sum();
        assert!((sum / closed - 1.0).abs() < 1e-9, "{sum} {closed}");
    }
}
