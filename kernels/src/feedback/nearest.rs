//! The points of a codebook that cost least for a unit of 8 columns of one row, given the factors of the Hessian.
//!
//! Let c be the columns' centre, at which their part of the loss is 0, and `v = ŵ - c` for a choice ŵ. The choice costs
//! `Σ_k D_k (v_k + Σ_{j<k} L_kj v_j)²`, where D and `L = U'` are the unit's block of the factors `H = U D U'`.
//!
//! The search has two stages. First the points that are nearest by the diagonal m of that form alone are found, one
//! in each of 32 classes, with the signs that are best for each. By the diagonal a point costs
//! `step² Σ m level² - 2 step Σ m |c| level`, of which the first sum is the same for all rows; where the number of
//! signs must change its parity, the least `4 step m |c| level` of the point is added. This stage is exact. Then the
//! whole form decides between the 32 points, which comes within 15 % of the best of all points and signs on forms
//! with strong coupling, and mostly is the best (see the test). IQ3_XXS tries both parities of its first point.
//!
//! Points are in the lanes, and every class is searched in order, so that every instruction set finds the same
//! points. Rows in the lanes were not tried, because the candidates to compare would have to be kept for each row.

use super::Lanes;
use crate::codec::{Points, Signs, UNIT, VectorCodec};

/// The number of classes of points; class l holds every 32nd point from point l on.
const CLASSES: usize = 32;

/// The quadratic form by which the columns of one point cost.
struct Form<const W: usize> {
    /// The factors L_kj for j < k, else 0, as `[j][k]`.
    columns: [[f32; W]; W],
    /// The pivots D.
    pivots: [f32; W],
    /// The diagonal of `L' D L`.
    diagonal: [f32; W],
    /// The sums `Σ diagonal · level²` of all points, `[points / CLASSES][CLASSES]`.
    squares: Vec<[f32; CLASSES]>,
}

/// The quadratic form by which a unit of columns costs, the same for all rows.
pub(super) struct Unit<const W: usize> {
    points: &'static Points,
    signs: Signs,
    /// The factors L_kj as `[k][j]`.
    lower: [[f32; UNIT]; UNIT],
    /// The pivots D.
    pivots: [f32; UNIT],
    /// The form of each point of the unit, where the points after it make up for its errors.
    forms: Vec<Form<W>>,
}

/// The result for one row: codes and values of the unit's columns.
#[derive(Clone, Copy)]
pub(super) struct Settled {
    pub(super) codes: [u8; UNIT],
    pub(super) values: [f32; UNIT],
    /// The loss of the unit's columns.
    pub(super) loss: f32,
}

/// A point with signs, and its loss.
#[derive(Clone, Copy)]
struct SignedPoint<const W: usize> {
    codes: [u8; W],
    /// The weights that the codes decode to.
    values: [f32; W],
    loss: f32,
}

/// The choices that are open for a point.
#[derive(Clone, Copy)]
enum Open {
    /// The signs may be any.
    Signs,
    /// An odd number of signs is negative if true, an even number if false.
    Parity(bool),
    /// The points have their own signs; those from one chunk of 32 points up to another are open.
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

    /// Returns `Σ_k D_k (v_k + Σ_{j<k} L_kj v_j)²`.
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

    /// Returns the best point found for `center` under the scale `step`.
    #[inline(always)]
    fn nearest(&self, points: &Points, center: &[f32; W], step: f32, open: Open) -> SignedPoint<W> {
        // Levels get the signs of the centre, so that products with it are positive; points with shifts keep their own.
        let (mut signs, mut weighted_center, mut negative) = ([1.0f32; W], [0.0; W], 0);
        for i in 0..W {
            let along = step * center[i];
            if !matches!(open, Open::Chunks(..)) && along < 0.0 {
                signs[i] = -1.0;
                negative += 1;
            }
            weighted_center[i] = self.diagonal[i] * along * signs[i];
        }
        let flipped = matches!(open, Open::Parity(odd) if (negative % 2 == 1) != odd);
        let (first, last) =
            if let Open::Chunks(first, last) = open { (first, last) } else { (0, self.squares.len()) };
        let classes = if flipped {
            self.classes::<true>(points, &weighted_center, step, first, last)
        } else {
            self.classes::<false>(points, &weighted_center, step, first, last)
        };
        let mut best = SignedPoint { codes: [0; W], values: [0.0; W], loss: f32::INFINITY };
        let (mut number, mut best_signs) = (first * CLASSES, signs);
        for (l, &chunk) in classes.iter().enumerate() {
            let candidate = chunk as usize * CLASSES + l;
            let levels = points.levels::<W>(candidate);
            let mut signs = signs;
            if flipped {
                let mut least = 0;
                for i in 1..W {
                    least = if levels[i] * weighted_center[i] < levels[least] * weighted_center[least] {
                        i
                    } else {
                        least
                    };
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

    /// Returns the chunk in which each class has its nearest point by the diagonal alone. With `FLIPPED` the sign
    /// whose change costs least is changed.
    #[inline(always)]
    fn classes<const FLIPPED: bool>(
        &self,
        points: &Points,
        weighted_center: &[f32; W],
        step: f32,
        first: usize,
        last: usize,
    ) -> [u32; CLASSES] {
        let (mut chosen, mut least) = ([first as u32; CLASSES], [f32::INFINITY; CLASSES]);
        let square = step * step;
        let chunks = self.squares.iter().zip(points.abreast().chunks_exact(W)).enumerate();
        for (chunk, (squares, levels)) in chunks.take(last).skip(first) {
            let (mut along, mut cheapest) = ([0.0f32; CLASSES], [f32::INFINITY; CLASSES]);
            for (levels, weighted_center) in levels.iter().zip(weighted_center) {
                for l in 0..CLASSES {
                    let product = levels[l] * weighted_center;
                    along[l] += product;
                    if FLIPPED {
                        cheapest[l] = if product < cheapest[l] { product } else { cheapest[l] };
                    }
                }
            }
            for l in 0..CLASSES {
                let along = if FLIPPED { (-2.0f32).mul_add(cheapest[l], along[l]) } else { along[l] };
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
    /// Makes the form of a unit from `lower`, which holds L_kj for j < k as `[k][j]`, and the pivots.
    #[inline(always)]
    pub(super) fn new(vectors: &VectorCodec, lower: [[f32; UNIT]; UNIT], pivots: [f32; UNIT]) -> Self {
        let points = (vectors.points)();
        // A closure here would not be compiled for the instruction set.
        let mut forms = Vec::with_capacity(UNIT / W);
        for first in (0..UNIT).step_by(W) {
            forms.push(Form::new(&lower, &pivots, first, points));
        }
        Self { points, signs: vectors.signs, lower, pivots, forms }
    }

    /// Returns the best codes found for a row, given the unit's centre, the group's step and the present codes, of
    /// which a shared shift is kept.
    #[inline(always)]
    pub(super) fn settle(&self, center: &[f32; UNIT], step: f32, codes: &[u8; UNIT]) -> Settled {
        match self.signs {
            Signs::Free => self.choose_points(center, step, [Open::Signs; 2]),
            Signs::Even if W == UNIT => self.choose_points(center, step, [Open::Parity(false); 2]),
            Signs::Even => {
                let even = self.choose_points(center, step, [Open::Parity(false); 2]);
                let odd = self.choose_points(center, step, [Open::Parity(true); 2]);
                if odd.loss < even.loss { odd } else { even }
            }
            Signs::Shift => self.choose_points(center, step, [Open::Chunks(0, self.chunks()); 2]),
            Signs::SharedShift => {
                let half = self.chunks() / 2;
                let first = if codes[0] % 2 == 1 { 0 } else { half };
                self.choose_points(center, step, [Open::Chunks(first, first + half); 2])
            }
        }
    }

    fn chunks(&self) -> usize {
        self.forms[0].squares.len()
    }

    /// Chooses the points of the unit one after the other; the errors of earlier points move the centre of later ones.
    #[inline(always)]
    fn choose_points(&self, center: &[f32; UNIT], step: f32, open: [Open; 2]) -> Settled {
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

    /// Returns the loss of any values of the unit's columns.
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

/// Returns one row of eight columns.
#[inline(always)]
pub(super) fn row<T: Copy + Default>(columns: &[[T; super::LANES]], lane: usize) -> [T; UNIT] {
    let mut row = [T::default(); UNIT];
    for (x, column) in row.iter_mut().zip(columns) {
        *x = column[lane];
    }
    row
}

/// Computes the centres of columns: `x_k -= Σ_{j<k} L_kj (x_j - base_j)` in the order of k, with the x_j already
/// changed.
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

    /// Returns the least loss of all points with all legal signs.
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
