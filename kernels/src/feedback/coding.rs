//! Scales, offsets and codes of 32 rows side by side, and what they decode to.

use super::level::{Levels, with_levels};
use super::{LANES, Lanes};
use crate::codec::{Codec, Coded};
use crate::isa::per_isa;

/// 32 rows of [`Coded`] side by side, with one [`Lanes`] for each place. Integers are stored as floats.
#[derive(Debug, Clone)]
pub struct Coding {
    /// The scales of the scales, `[superblocks]`.
    pub d: Vec<Lanes>,
    /// The scales of the offsets, `[superblocks]`.
    pub dmin: Vec<Lanes>,
    /// The integer scales, `[groups]`.
    pub scales: Vec<Lanes>,
    /// The integer offsets, `[groups]`.
    pub offsets: Vec<Lanes>,
    /// Indices into the type's levels, `[columns]`.
    pub codes: Vec<[u8; LANES]>,
}

/// The line on which each group of 32 rows decodes: `step * level - minimum`, and the inverse of the step.
#[derive(Debug, Clone, Default)]
pub struct Grid {
    /// The factors of the levels, `[groups]`.
    pub step: Vec<Lanes>,
    /// The reciprocals of the steps, `[groups]`; 0 for steps without a finite reciprocal.
    pub inverse: Vec<Lanes>,
    /// The offsets that are subtracted, `[groups]`.
    pub minimum: Vec<Lanes>,
}

impl Coding {
    /// Puts up to 32 rows of `columns` weights side by side; lanes without a row are all zero.
    ///
    /// # Panics
    ///
    /// When the rows are more, or not as long as `codec` and `columns` say.
    pub fn of_rows(codec: &Codec, columns: usize, rows: &[Coded]) -> Self {
        let (superblocks, groups) = (columns / codec.superblock, columns / codec.group);
        let mut coding = Self {
            d: vec![[0.0; LANES]; superblocks],
            dmin: vec![[0.0; LANES]; superblocks],
            scales: vec![[0.0; LANES]; groups],
            offsets: vec![[0.0; LANES]; groups],
            codes: vec![[0; LANES]; columns],
        };
        for (l, row) in rows.iter().enumerate() {
            spread(&mut coding.d, l, &row.d);
            spread(&mut coding.dmin, l, &row.dmin);
            spread(&mut coding.scales, l, &row.scales);
            spread(&mut coding.offsets, l, &row.offsets);
            spread(&mut coding.codes, l, &row.codes);
        }
        coding
    }

    /// Returns the row in lane `lane`.
    pub fn row(&self, lane: usize) -> Coded {
        let integers = |x: &[Lanes]| x.iter().map(|x| x[lane] as i16).collect();
        Coded {
            d: self.d.iter().map(|x| x[lane]).collect(),
            dmin: self.dmin.iter().map(|x| x[lane]).collect(),
            scales: integers(&self.scales),
            offsets: integers(&self.offsets),
            codes: self.codes.iter().map(|x| x[lane]).collect(),
        }
    }

    /// Replaces the rows whose lanes are true by those of `other`.
    pub fn take(&mut self, other: &Self, lanes: &[bool; LANES]) {
        select(&mut self.d, &other.d, lanes);
        select(&mut self.dmin, &other.dmin, lanes);
        select(&mut self.scales, &other.scales, lanes);
        select(&mut self.offsets, &other.offsets, lanes);
        select(&mut self.codes, &other.codes, lanes);
    }

    /// Returns the lines on which the decoder computes weights.
    pub fn grid(&self, codec: &Codec) -> Grid {
        let shared = codec.superblock / codec.group;
        let product = |float: &[Lanes], integers: &[Lanes]| -> Vec<Lanes> {
            let float = |g: usize| float[g / shared];
            integers.iter().enumerate().map(|(g, x)| std::array::from_fn(|l| float(g)[l] * x[l])).collect()
        };
        let step = product(&self.d, &self.scales);
        let reciprocal = |x: f32| Some(1.0 / x).filter(|x| x.is_finite()).unwrap_or(0.0);
        let inverse = step.iter().map(|step| step.map(reciprocal)).collect();
        Grid { step, inverse, minimum: product(&self.dmin, &self.offsets) }
    }

    /// Decodes to `out` `[columns]`, to the bit as the type's decoder does.
    pub fn decode(&self, codec: &Codec, out: &mut [Lanes]) {
        decode(codec, &self.grid(codec), &self.codes, out);
    }
}

/// Writes the numbers of a row to lane `lane`.
fn spread<T: Copy, U: From<T>>(lanes: &mut [[U; LANES]], lane: usize, row: &[T]) {
    assert!(lanes.len() == row.len(), "a row has {} fields, not {}", row.len(), lanes.len());
    for (lanes, &x) in lanes.iter_mut().zip(row) {
        lanes[lane] = x.into();
    }
}

/// Replaces the lanes of `a` that are true in `lanes` by those of `b`.
pub(super) fn select<T: Copy>(a: &mut [[T; LANES]], b: &[[T; LANES]], lanes: &[bool; LANES]) {
    for (a, b) in a.iter_mut().zip(b) {
        for l in 0..LANES {
            a[l] = if lanes[l] { b[l] } else { a[l] };
        }
    }
}

per_isa! {
    fn decode, decode_on(codec: &Codec, grid: &Grid, codes: &[[u8; LANES]], out: &mut [Lanes]) {
        with_levels!(codec.levels, levels => decode_with(levels, codec.group, grid, codes, out));
    }
}

#[inline(always)]
fn decode_with(levels: impl Levels, group: usize, grid: &Grid, codes: &[[u8; LANES]], out: &mut [Lanes]) {
    for (g, (codes, out)) in codes.chunks(group).zip(out.chunks_mut(group)).enumerate() {
        for (codes, out) in codes.iter().zip(out) {
            *out = value(&levels.of(codes), grid, g);
        }
    }
}

/// Returns the weights that levels of group `g` decode to.
#[inline(always)]
pub(super) fn value(level: &Lanes, grid: &Grid, g: usize) -> Lanes {
    let (step, minimum) = (&grid.step[g], &grid.minimum[g]);
    let mut value = [0.0; LANES];
    for l in 0..LANES {
        value[l] = step[l] * level[l] - minimum[l];
    }
    value
}

/// Returns the position of `x` on the scale of the levels of group `g`.
#[inline(always)]
pub(super) fn position(x: &Lanes, grid: &Grid, g: usize) -> Lanes {
    let (inverse, minimum) = (&grid.inverse[g], &grid.minimum[g]);
    let mut position = [0.0; LANES];
    for l in 0..LANES {
        position[l] = (x[l] + minimum[l]) * inverse[l];
    }
    position
}
