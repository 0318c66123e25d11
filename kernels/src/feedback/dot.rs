//! Sums of products over columns, for 32 rows at once.

use super::{LANES, Lanes};
use crate::isa::per_isa;

per_isa! {
    /// Returns `Σ_j a_j b_j` for every row, as one chain in the order of j.
    pub fn dot, dot_on(a: &[Lanes], b: &[Lanes]) -> Lanes {
        sum_of_products(a, b)
    }
}

#[inline(always)]
pub(super) fn sum_of_products(a: &[Lanes], b: &[Lanes]) -> Lanes {
    let mut sum = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for l in 0..LANES {
            sum[l] = a[l].mul_add(b[l], sum[l]);
        }
    }
    sum
}
