//! The serial loop over columns that triangular solves, sequential rounding and coordinate descent share.

use super::{LANES, Lanes, STEP, Tiles};
use crate::isa::per_isa;

/// The step that settles a column once all earlier ones are settled.
pub(super) trait Column {
    /// Settles column `k` at `x`, which has the multiples of the earlier columns added. Returns the vector of which
    /// later columns get multiples.
    fn settle(&mut self, k: usize, x: &Lanes) -> Lanes;
}

/// Computes `y_k = settle(k, x_k + Σ_{j<k} c[k][j] y_j)` for every column k in order. `c` is square, and the part
/// below its diagonal is read.
#[inline(always)]
pub(super) fn serial(c: &Tiles, x: &[Lanes], column: &mut impl Column) {
    let (x, rest) = x.as_chunks::<STEP>();
    assert!(rest.is_empty(), "columns come in multiples of {STEP}");
    let mut y: Vec<Lanes> = Vec::with_capacity(x.len() * STEP);
    for (step, x) in x.iter().enumerate() {
        let first = step * STEP;
        let mut sums = *x;
        c.add_step(step, 0..first, &y, &mut sums);
        for i in 0..STEP {
            let settled = column.settle(first + i, &sums[i]);
            y.push(settled);
            for (later, sum) in sums.iter_mut().enumerate().skip(i + 1) {
                add(sum, c.at(first + later, first + i), &settled);
            }
        }
    }
}

#[inline(always)]
fn add(sum: &mut Lanes, factor: f32, y: &Lanes) {
    for l in 0..LANES {
        sum[l] = factor.mul_add(y[l], sum[l]);
    }
}

struct Keep<'a>(&'a mut [Lanes]);

impl Column for Keep<'_> {
    #[inline(always)]
    fn settle(&mut self, k: usize, x: &Lanes) -> Lanes {
        self.0[k] = *x;
        x.map(|x| -x)
    }
}

per_isa! {
    /// Solves `C y = x` for a unit lower triangular C: `c` is square, and the part below its diagonal is read. `x`
    /// and `y` are `[columns]`.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit.
    pub fn substitute, substitute_on(c: &Tiles, x: &[Lanes], y: &mut [Lanes]) {
        serial(c, x, &mut Keep(y));
    }
}
