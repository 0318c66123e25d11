//! Block fields of 32 rows side by side.

use super::level::{Levels, with_levels};
use super::{LANES, Lanes};
use crate::codec::{Codec, Coded};
use crate::isa::per_isa;

/// The fields of 32 coded rows, one [`Lanes`] per place: [`Coded`] side by side, integers as the floats they are.
#[derive(Debug, Clone)]
pub struct Coding {
    /// `[superblocks]`
    pub d: Vec<Lanes>,
    /// `[superblocks]`
    pub dmin: Vec<Lanes>,
    /// `[groups]`
    pub scales: Vec<Lanes>,
    /// `[groups]`
    pub offsets: Vec<Lanes>,
    /// `[columns]`
    pub codes: Vec<[u8; LANES]>,
}

/// What the codes of each group decode to: `step * level - minimum`, and the way back.
#[derive(Debug, Clone, Default)]
pub struct Grid {
    /// `[groups]`
    pub step: Vec<Lanes>,
    /// `[groups]`, 0 where the step has no finite reciprocal.
    pub inverse: Vec<Lanes>,
    /// `[groups]`
    pub minimum: Vec<Lanes>,
}

impl Coding {
    /// Up to 32 rows of `columns` weights; the lanes without a row are all zero.
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

    /// One of the rows.
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

    /// Takes over the rows of `other` whose lanes are true.
    pub fn take(&mut self, other: &Self, lanes: &[bool; LANES]) {
        select(&mut self.d, &other.d, lanes);
        select(&mut self.dmin, &other.dmin, lanes);
        select(&mut self.scales, &other.scales, lanes);
        select(&mut self.offsets, &other.offsets, lanes);
        select(&mut self.codes, &other.codes, lanes);
    }

    /// What the decoder makes of the scales.
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

    /// What the decoder returns, to the bit: `out` `[columns]`.
    pub fn decode(&self, codec: &Codec, out: &mut [Lanes]) {
        decode(codec, &self.grid(codec), &self.codes, out);
    }
}

/// Writes a row's fields to lane `lane`.
fn spread<T: Copy, U: From<T>>(lanes: &mut [[U; LANES]], lane: usize, row: &[T]) {
    assert!(lanes.len() == row.len(), "a row has {} fields, not {}", row.len(), lanes.len());
    for (lanes, &x) in lanes.iter_mut().zip(row) {
        lanes[lane] = x.into();
    }
}

/// Takes over the lanes of `b` that are true.
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

/// What levels of group `g` decode to.
#[inline(always)]
pub(super) fn value(level: &Lanes, grid: &Grid, g: usize) -> Lanes {
    let (step, minimum) = (&grid.step[g], &grid.minimum[g]);
    let mut value = [0.0; LANES];
    for l in 0..LANES {
        value[l] = step[l] * level[l] - minimum[l];
    }
    value
}

/// Where `x` is on the scale of the levels of group `g`.
#[inline(always)]
pub(super) fn position(x: &Lanes, grid: &Grid, g: usize) -> Lanes {
    let (inverse, minimum) = (&grid.inverse[g], &grid.minimum[g]);
    let mut position = [0.0; LANES];
    for l in 0..LANES {
        position[l] = (x[l] + minimum[l]) * inverse[l];
    }
    position
}
