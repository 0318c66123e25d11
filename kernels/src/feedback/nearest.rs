//! The points of a codebook nearest to what a unit of columns should be, for one row.
//!
//! With `c` the columns' centre, where their part of the loss is 0, a choice `ŵ` costs `Σ_k D_k (v_k + Σ_{j<k} L_kj v_j)²`,
//! `v = ŵ - c`, where L and D are the block of the factors `H = U D U'` on the diagonal, `L = U'`. Of all points those nearest by
//! its diagonal alone are found first, one in each of 32 classes, with the signs that are best for each; the whole form decides
//! between these. The points are side by side, and every class is searched in order: every instruction set finds the same.

use super::Lanes;
use crate::codec::{Points, Signs, UNIT, VectorCodec};

/// Classes of points.
const CLASSES: usize = 32;

/// What the columns of one point cost.
struct Form<const W: usize> {
    /// `[j][k]`: L_kj for j < k, else 0.
    columns: [[f32; W]; W],
    /// D.
    pivots: [f32; W],
    /// The diagonal of `L' D L`.
    diagonal: [f32; W],
    /// `[points / CLASSES]`: `Σ diagonal · level²`.
    squares: Vec<[f32; CLASSES]>,
}

/// What a unit of columns costs, all rows alike.
pub(super) struct Unit<const W: usize> {
    points: &'static Points,
    signs: Signs,
    /// L_kj, row k.
    lower: [[f32; UNIT]; UNIT],
    pivots: [f32; UNIT],
    /// Of each point of the unit, the later ones at their best.
    forms: Vec<Form<W>>,
}

/// What a row gets.
#[derive(Clone, Copy)]
pub(super) struct Settled {
    pub(super) codes: [u8; UNIT],
    pub(super) values: [f32; UNIT],
    /// What it costs.
    pub(super) loss: f32,
}

/// A point and what it costs.
#[derive(Clone, Copy)]
struct Found<const W: usize> {
    codes: [u8; W],
    /// Its values.
    values: [f32; W],
    loss: f32,
}

/// Which sign changes and halves of the codebook are open.
#[derive(Clone, Copy)]
enum Open {
    /// Any signs.
    Signs,
    /// Signs of which an odd number, or an even one, is negative.
    Parity(bool),
    /// Points from one of so many chunks to another, as they are.
    Chunks(usize, usize),
}

impl<const W: usize> Form<W> {
    #[inline(always)]
    fn new(lower: &[[f32; UNIT]; UNIT], pivots: &[f32; UNIT], first: usize, points: &Points) -> Self {
        let mut form =
            Self { columns: [[0.0; W]; W], pivots: [0.0; W], diagonal: [0.0; W], squares: Vec::new() };
        for k in 0..W {
            form.pivots[k] = pivots[first + k];
            form.diagonal[k] += form.pivots[k];
            for j in 0..k {
                let factor = lower[first + k][first + j];
                form.columns[j][k] = factor;
                form.diagonal[j] += form.pivots[k] * factor * factor;
            }
        }
        form.squares = vec![[0.0; CLASSES]; points.abreast().len() / W];
        for (squares, levels) in form.squares.iter_mut().zip(points.abreast().chunks_exact(W)) {
            for (levels, weight) in levels.iter().zip(form.diagonal) {
                for l in 0..CLASSES {
                    squares[l] = (weight * levels[l]).mul_add(levels[l], squares[l]);
                }
            }
        }
        form
    }

    /// `Σ_k D_k (v_k + Σ_{j<k} L_kj v_j)²`
    #[inline(always)]
    fn loss(&self, v: &[f32; W]) -> f32 {
        let mut r = *v;
        for (column, &v) in self.columns.iter().zip(v) {
            for (r, factor) in r.iter_mut().zip(column) {
                *r = factor.mul_add(v, *r);
            }
        }
        let mut loss = 0.0;
        for (r, pivot) in r.iter().zip(self.pivots) {
            loss = (pivot * r).mul_add(*r, loss);
        }
        loss
    }

    /// The point nearest to `center` under `step`.
    #[inline(always)]
    fn nearest(&self, points: &Points, center: &[f32; W], step: f32, open: Open) -> Found<W> {
        // Levels have the signs of the centre, so that products with it are positive; those with shifts have their own.
        let (mut signs, mut pull, mut negative) = ([1.0f32; W], [0.0; W], 0);
        for i in 0..W {
            let along = step * center[i];
            if !matches!(open, Open::Chunks(..)) && along < 0.0 {
                signs[i] = -1.0;
                negative += 1;
            }
            pull[i] = self.diagonal[i] * along * signs[i];
        }
        let turned = matches!(open, Open::Parity(odd) if (negative % 2 == 1) != odd);
        let (first, last) =
            if let Open::Chunks(first, last) = open { (first, last) } else { (0, self.squares.len()) };
        let classes = if turned {
            self.classes::<true>(points, &pull, step, first, last)
        } else {
            self.classes::<false>(points, &pull, step, first, last)
        };
        let mut best = Found { codes: [0; W], values: [0.0; W], loss: f32::INFINITY };
        let (mut number, mut best_signs) = (first * CLASSES, signs);
        for (l, &chunk) in classes.iter().enumerate() {
            let candidate = chunk as usize * CLASSES + l;
            let levels = points.levels::<W>(candidate);
            let mut signs = signs;
            if turned {
                let mut least = 0;
                for i in 1..W {
                    least = if levels[i] * pull[i] < levels[least] * pull[least] { i } else { least };
                }
                signs[least] = -signs[least];
            }
            let (mut values, mut v) = ([0.0; W], [0.0; W]);
            for i in 0..W {
                values[i] = step * (levels[i] * signs[i]);
                v[i] = values[i] - center[i];
            }
            let loss = self.loss(&v);
            if loss < best.loss {
                (best.values, best.loss) = (values, loss);
                (number, best_signs) = (candidate, signs);
            }
        }
        best.codes = points.codes(number);
        if !matches!(open, Open::Chunks(..)) {
            for (code, sign) in best.codes.iter_mut().zip(best_signs) {
                *code = points.signed(*code, sign < 0.0);
            }
        }
        best
    }

    /// In which chunk each class has its nearest point, by the diagonal alone; where a sign is to be turned, the best one is.
    #[inline(always)]
    fn classes<const TURNED: bool>(
        &self,
        points: &Points,
        pull: &[f32; W],
        step: f32,
        first: usize,
        last: usize,
    ) -> [u32; CLASSES] {
        let (mut chosen, mut least) = ([first as u32; CLASSES], [f32::INFINITY; CLASSES]);
        let square = step * step;
        let chunks = self.squares.iter().zip(points.abreast().chunks_exact(W)).enumerate();
        for (chunk, (squares, levels)) in chunks.take(last).skip(first) {
            let (mut along, mut turn) = ([0.0f32; CLASSES], [f32::INFINITY; CLASSES]);
            for (levels, pull) in levels.iter().zip(pull) {
                for l in 0..CLASSES {
                    let product = levels[l] * pull;
                    along[l] += product;
                    if TURNED {
                        turn[l] = if product < turn[l] { product } else { turn[l] };
                    }
                }
            }
            for l in 0..CLASSES {
                let along = if TURNED { (-2.0f32).mul_add(turn[l], along[l]) } else { along[l] };
                let distance = square.mul_add(squares[l], -2.0 * along);
                let nearer = distance < least[l];
                least[l] = if nearer { distance } else { least[l] };
                chosen[l] = if nearer { chunk as u32 } else { chosen[l] };
            }
        }
        chosen
    }
}

impl<const W: usize> Unit<W> {
    /// The cost that `lower` (row k: L_kj for j < k) and `pivots` say.
    #[inline(always)]
    pub(super) fn new(vectors: &VectorCodec, lower: [[f32; UNIT]; UNIT], pivots: [f32; UNIT]) -> Self {
        let points = (vectors.points)();
        // No closure: it would not be compiled for the instruction set.
        let mut forms = Vec::with_capacity(UNIT / W);
        for first in (0..UNIT).step_by(W) {
            forms.push(Form::new(&lower, &pivots, first, points));
        }
        Self { points, signs: vectors.signs, lower, pivots, forms }
    }

    /// The best codes found for a row, whose present ones are `codes`, with the unit's centre and the group's step.
    #[inline(always)]
    pub(super) fn settle(&self, center: &[f32; UNIT], step: f32, codes: &[u8; UNIT]) -> Settled {
        match self.signs {
            Signs::Free => self.points_in_turn(center, step, [Open::Signs; 2]),
            Signs::Even if W == UNIT => self.points_in_turn(center, step, [Open::Parity(false); 2]),
            Signs::Even => {
                let even = self.points_in_turn(center, step, [Open::Parity(false); 2]);
                let odd = self.points_in_turn(center, step, [Open::Parity(true); 2]);
                if odd.loss < even.loss { odd } else { even }
            }
            Signs::Shift => self.points_in_turn(center, step, [Open::Chunks(0, self.chunks()); 2]),
            Signs::SharedShift => {
                let half = self.chunks() / 2;
                let first = if codes[0] % 2 == 1 { 0 } else { half };
                self.points_in_turn(center, step, [Open::Chunks(first, first + half); 2])
            }
        }
    }

    fn chunks(&self) -> usize {
        self.forms[0].squares.len()
    }

    /// Each point nearest to what the ones before it make its centre.
    #[inline(always)]
    fn points_in_turn(&self, center: &[f32; UNIT], step: f32, open: [Open; 2]) -> Settled {
        let mut settled = Settled { codes: [0; UNIT], values: [0.0; UNIT], loss: 0.0 };
        let mut v = [0.0; UNIT];
        for ((p, form), open) in self.forms.iter().enumerate().zip(open) {
            let first = p * W;
            let mut own = [0.0; W];
            for k in 0..W {
                let row = &self.lower[first + k];
                let mut shift = 0.0f32;
                for j in 0..first {
                    shift = row[j].mul_add(v[j], shift);
                }
                for j in 0..k {
                    shift = row[first + j].mul_add(own[j] - center[first + j], shift);
                }
                own[k] = center[first + k] - shift;
            }
            let found = form.nearest(self.points, &own, step, open);
            settled.loss += found.loss;
            for i in 0..W {
                settled.codes[first + i] = found.codes[i];
                settled.values[first + i] = found.values[i];
                v[first + i] = found.values[i] - center[first + i];
            }
        }
        settled
    }

    /// What values cost.
    #[inline(always)]
    pub(super) fn loss(&self, center: &[f32; UNIT], values: &[f32; UNIT]) -> f32 {
        let mut loss = 0.0;
        for k in 0..UNIT {
            let mut r = values[k] - center[k];
            for j in 0..k {
                r = self.lower[k][j].mul_add(values[j] - center[j], r);
            }
            loss = (self.pivots[k] * r).mul_add(r, loss);
        }
        loss
    }
}

/// One row out of eight columns.
#[inline(always)]
pub(super) fn row<T: Copy + Default>(columns: &[[T; super::LANES]], lane: usize) -> [T; UNIT] {
    let mut row = [T::default(); UNIT];
    for (x, column) in row.iter_mut().zip(columns) {
        *x = column[lane];
    }
    row
}

/// What columns add up to: `x_k -= Σ_{j<k} L_kj (x_j - base_j)` in order, so that each meets the ones before it.
#[inline(always)]
pub(super) fn centers(x: &mut [Lanes; UNIT], base: &[Lanes], lower: &[[f32; UNIT]; UNIT]) {
    for (k, row) in lower.iter().enumerate().skip(1) {
        for j in 0..k {
            let factor = -row[j];
            let (before, rest) = x.split_at_mut(k);
            for l in 0..super::LANES {
                rest[0][l] = factor.mul_add(before[j][l] - base[j][l], rest[0][l]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::by_name;

    fn noise(seed: u64) -> impl FnMut() -> f32 {
        let mut state = seed | 1;
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        }
    }

    /// The least loss of all points with all signs that are legal.
    fn least(unit: &Unit<8>, center: &[f32; UNIT], step: f32, even: bool) -> f32 {
        let mut least = f32::INFINITY;
        for number in 0..unit.chunks() * CLASSES {
            let levels = unit.points.levels::<8>(number);
            for signs in (0..256u32).filter(|signs| !even || signs.count_ones() % 2 == 0) {
                let sign = |i: usize| if signs >> i & 1 == 1 { -1.0 } else { 1.0 };
                let values = std::array::from_fn(|i| step * levels[i] * sign(i));
                least = least.min(unit.loss(center, &values));
            }
        }
        least
    }

    #[test]
    fn what_is_found_is_nearly_the_best() {
        for (name, even) in [("IQ2_XXS", true), ("IQ2_S", false)] {
            let vectors = VectorCodec::of(by_name(name).unwrap()).unwrap();
            let mut next = noise(7);
            let (mut found, mut best) = (0.0, 0.0);
            for _ in 0..12 {
                let lower =
                    std::array::from_fn(|k| std::array::from_fn(|j| if j < k { 0.4 * next() } else { 0.0 }));
                let unit = Unit::<8>::new(vectors, lower, std::array::from_fn(|_| 1.5 + next()));
                let center = std::array::from_fn(|_| 2.0 * next() + next());
                let settled = unit.settle(&center, 0.4, &[0; UNIT]);
                let exact = unit.loss(&center, &settled.values);
                assert!(
                    (settled.loss - exact).abs() < 1e-4 * exact,
                    "{name}: {} is not {exact}",
                    settled.loss
                );
                let least = least(&unit, &center, 0.4, even);
                assert!(settled.loss > 0.9999 * least, "{name}: less than the least");
                (found, best) = (found + settled.loss, best + least);
            }
            assert!(found < 1.15 * best, "{name}: {} times the best", found / best);
        }
    }
}
