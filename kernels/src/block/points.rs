//! Codebooks in which the encoders of the i-quants search for the nearest point.
//!
//! Weights are rounded to levels, coordinate by coordinate. If no point of the codebook has these levels, the points
//! nearest to them by plain distance, their neighbours, are compared by the weighted distance to the weights
//! themselves.
//!
//! Source: ggml's `iq2xs_init_impl`, `iq3xs_init_impl` and `iq2_find_best_neighbour`. Lists of neighbours are made
//! without sorting all points, which takes 8 ms (IQ3_XXS) to 97 ms (IQ1) at the first use of a type. A nearest
//! neighbour kept by each lane and compared once at the end took 10 % longer by AVX-512: not taken.

use super::contenders::{Contenders, Room};
use crate::lanes::Simd;

/// The number of neighbours that are compared at once; lists are filled up to a multiple of it.
pub(super) const AT_ONCE: usize = 16;

/// A bound above all squared distances; those of four coordinates of eight levels are the largest.
const FARTHEST: usize = 4 * 7 * 7 + 1;

/// A codebook of points with `D` coordinates, each the index of a level. The code of a point is its coordinates, packed
/// with the first in the lowest bits.
pub(super) struct Codebook<const D: usize> {
    /// `2 * level + 1` for each coordinate of each point.
    points: Vec<[f32; D]>,
    /// The point or the list of neighbours of each code.
    entries: Vec<Entry>,
    /// The neighbours, nearest first, one list after the other.
    neighbours: Vec<Run<D>>,
    /// The largest `2 * level + 1`.
    top: f32,
    /// True if many lists are longer than a run.
    long: bool,
}

/// [`AT_ONCE`] neighbours side by side.
pub(super) struct Run<const D: usize> {
    pub(super) numbers: [u16; AT_ONCE],
    /// `2 * level + 1` for each coordinate.
    pub(super) odds: [[u8; AT_ONCE]; D],
}

#[derive(Clone, Copy)]
enum Entry {
    /// The point with this index has the code.
    Point(u16),
    /// No point has the code; `count` neighbours are in the runs from `start` on.
    Neighbours { start: u32, count: u32 },
    /// Some coordinate of the code is no level.
    None,
}

/// The point that was found for some weights.
#[derive(Clone, Copy, Default)]
pub(super) struct Found {
    /// The index of the point in the codebook.
    pub(super) number: u16,
    /// True if the point has the levels that were asked for.
    pub(super) exact: bool,
}

impl<const D: usize> Codebook<D> {
    /// The number of bits of a level in a code.
    pub(super) const BITS: usize = 16 / D;
    const MASK: u16 = (1 << Self::BITS) - 1;

    /// Makes a codebook and finds the neighbours of every code whose levels are below `levels`: the points at the
    /// `distances` least distances.
    pub(super) fn new(codes: &[u16], levels: u16, distances: usize) -> Self {
        let last = (0..D).fold(0, |code, i| code | (levels - 1) << (Self::BITS * i));
        let mut book = Self {
            points: codes
                .iter()
                .map(|&code| std::array::from_fn(|i| f32::from(Self::odd(code, i))))
                .collect(),
            entries: vec![Entry::None; usize::from(last) + 1],
            neighbours: Vec::new(),
            top: f32::from(2 * levels - 1),
            long: false,
        };
        for (number, &code) in codes.iter().enumerate() {
            book.entries[usize::from(code)] = Entry::Point(number as u16);
        }
        let by_coordinate = std::array::from_fn(|i| codes.iter().map(|&code| Self::level(code, i)).collect());
        for code in 0..=last {
            let valid = (0..D).all(|i| Self::level(code, i) < levels);
            if valid && matches!(book.entries[usize::from(code)], Entry::None) {
                book.add_neighbours(codes, &by_coordinate, code, distances);
            }
        }
        let lists = book.entries.iter().filter(|entry| matches!(entry, Entry::Neighbours { .. })).count();
        book.long = 2 * book.neighbours.len() > 3 * lists;
        book
    }

    /// Adds the neighbours of `code`. `levels` `[D][points]` are the levels of the points, coordinate by coordinate.
    fn add_neighbours(&mut self, codes: &[u16], levels: &[Vec<u16>; D], code: u16, distances: usize) {
        let mut squares = vec![0u16; codes.len()];
        for (i, levels) in levels.iter().enumerate() {
            let own = Self::level(code, i);
            for (square, level) in squares.iter_mut().zip(levels) {
                *square += level.abs_diff(own).pow(2);
            }
        }
        // Only the first few distances are asked for, so that the points are selected before they are sorted.
        let mut present = [false; FARTHEST];
        squares.iter().for_each(|&square| present[usize::from(square)] = true);
        let reach = (0..FARTHEST).filter(|&square| present[square]).take(distances).last().unwrap_or(0);
        let mut near: Vec<u16> = (0..codes.len())
            .filter(|&number| usize::from(squares[number]) <= reach)
            .map(|number| number as u16)
            .collect();
        near.sort_by_key(|&number| squares[usize::from(number)]);
        let start = self.neighbours.len() as u32;
        for run in near.chunks(AT_ONCE) {
            // Repeated points come after their first occurrence, which is taken where they are as near.
            let numbers: [u16; AT_ONCE] = std::array::from_fn(|i| run[i.min(run.len() - 1)]);
            let odds =
                std::array::from_fn(|i| numbers.map(|number| Self::odd(codes[usize::from(number)], i)));
            self.neighbours.push(Run { numbers, odds });
        }
        self.entries[usize::from(code)] = Entry::Neighbours { start, count: near.len() as u32 };
    }

    fn level(code: u16, coordinate: usize) -> u16 {
        code >> (Self::BITS * coordinate) & Self::MASK
    }

    fn odd(code: u16, coordinate: usize) -> u8 {
        2 * Self::level(code, coordinate) as u8 + 1
    }

    /// Returns `2 * level + 1` for each coordinate of a point.
    #[inline(always)]
    pub(super) fn odds(&self, number: u16) -> &[f32; D] {
        &self.points[usize::from(number)]
    }

    /// Returns the point with this code, or else the neighbour for which `Σ weights·(value - x)²` is least; of equals
    /// the one nearer to the code.
    #[inline(always)]
    pub(super) fn find<V: Simd>(
        &self,
        code: u16,
        x: &[f32; D],
        weights: &[f32; D],
        value: impl Value,
    ) -> Found {
        match self.entries[usize::from(code)] {
            Entry::Point(number) => Found { number, exact: true },
            Entry::None => Found::default(),
            Entry::Neighbours { start, count } => {
                Found { number: nearest::<V, D>(self.runs(start, count), x, weights, value), exact: false }
            }
        }
    }

    /// Returns true if [`find_each`](Self::find_each) is faster than [`find`](Self::find): lists of less than a vector
    /// (IQ2_S, IQ3) gain nothing by it.
    #[inline(always)]
    pub(super) fn has_long_lists(&self) -> bool {
        self.long
    }

    /// Finds what [`find`](Self::find) returns for each of `codes` under its scale. Runs of equal codes share their
    /// sums.
    #[inline(always)]
    pub(super) fn find_each<V: Simd>(
        &self,
        codes: &[u16],
        x: &[f32; D],
        weights: &[f32; D],
        scales: &[f32],
        found: &mut [Found],
        room: &mut Room,
    ) {
        let mut first = 0;
        while first < codes.len() {
            let mut end = first + 1;
            while end < codes.len() && codes[end] == codes[first] {
                end += 1;
            }
            match self.entries[usize::from(codes[first])] {
                Entry::Neighbours { start, count } if end - first > 1 => {
                    let points = (self.runs(start, count), count as usize);
                    let contenders = Contenders::new::<V>(points, x, weights, self.top, room);
                    for c in first..end {
                        found[c] = Found { number: contenders.nearest::<V>(scales[c]), exact: false };
                    }
                }
                _ => {
                    let same = self.find::<V>(codes[first], x, weights, Odd(scales[first]));
                    found[first..end].fill(same);
                }
            }
            first = end;
        }
    }

    #[inline(always)]
    fn runs(&self, start: u32, count: u32) -> &[Run<D>] {
        &self.neighbours[start as usize..][..(count as usize).div_ceil(AT_ONCE)]
    }
}

/// Returns the neighbour of least weighted squared distance, summed in the order of the coordinates; the first of
/// equals.
#[inline(always)]
pub(super) fn nearest<V: Simd, const D: usize>(
    runs: &[Run<D>],
    x: &[f32; D],
    weights: &[f32; D],
    value: impl Value,
) -> u16 {
    let (mut number, mut least) = (runs[0].numbers[0], f32::MAX);
    for run in runs {
        for first in (0..AT_ONCE).step_by(V::WIDTH) {
            let mut distance = V::splat(0.0);
            for i in 0..D {
                let deviation = value.of(V::from_bytes(&run.odds[i][first..])) - V::splat(x[i]);
                distance = distance + V::splat(weights[i]) * deviation * deviation;
            }
            // Weights can overflow, and a distance of NaN must not be the least.
            let far = V::splat(f32::MAX);
            let (nearest, place) = V::select(distance.less(far), distance, far).least();
            if nearest < least {
                (least, number) = (nearest, run.numbers[first + place]);
            }
        }
    }
    number
}

/// The value that a coordinate stands for.
pub(super) trait Value: Copy {
    /// Returns the value of a coordinate, given `2 * level + 1`.
    fn of<V: Simd>(self, odd: V) -> V;
}

/// Values that are odd multiples of a scale, as the magnitudes of IQ2 and IQ3 are.
#[derive(Clone, Copy)]
pub(super) struct Odd(pub(super) f32);

impl Value for Odd {
    #[inline(always)]
    fn of<V: Simd>(self, odd: V) -> V {
        V::splat(self.0) * odd
    }
}

/// Values that are a scale times -1, 0 or 1 plus a shift, as those of IQ1 are.
#[derive(Clone, Copy)]
pub(super) struct Shifted {
    pub(super) scale: f32,
    pub(super) shift: f32,
}

impl Shifted {
    /// Returns the value in units of the scale, which is exact.
    #[inline(always)]
    pub(super) fn unit<V: Simd>(self, odd: V) -> V {
        odd * V::splat(0.5) + V::splat(self.shift - 1.5)
    }
}

impl Value for Shifted {
    #[inline(always)]
    fn of<V: Simd>(self, odd: V) -> V {
        V::splat(self.scale) * self.unit(odd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::codebook;

    #[test]
    fn points_are_found_and_their_neighbours_elsewhere() {
        let book = Codebook::<8>::new(&codebook::IQ2_XXS, 3, 2);
        for (number, &code) in codebook::IQ2_XXS.iter().enumerate() {
            let found = book.find::<f32>(code, &[0.0; 8], &[1.0; 8], Odd(1.0));
            assert_eq!((usize::from(found.number), found.exact), (number, true));
        }
        // No point has the levels 2, 1, 1, 1, 1, 1, 1, 2. With all weight on the first coordinate its value decides.
        let mut weights = [0.0; 8];
        weights[0] = 1.0;
        for (value, levels) in [(1.0, 1.0..=3.0), (5.0, 5.0..=5.0)] {
            let found = book.find::<f32>(0x9556, &[value; 8], &weights, Odd(1.0));
            assert!(!found.exact && levels.contains(&book.odds(found.number)[0]), "{value}");
        }
    }

    #[test]
    fn under_many_scales_the_same_points_are_found_as_under_each() {
        let book = Codebook::<8>::new(&codebook::IQ2_XS, 3, 2);
        let noise = |k: usize| (k * 7919 % 20011) as f32 / 20011.0;
        let mut room = Room::NEW;
        // Some of these weights are zero, and some make distances overflow or underflow.
        for (seed, weight) in (0..4000).zip([1.0, 1e-3, 0.0, 1e36, 1e-34, 1e-40].into_iter().cycle()) {
            let x = std::array::from_fn(|i| 5.0 * noise(8 * seed + i) - f32::from(i == seed % 50));
            let weights = std::array::from_fn(|i| weight * noise(3 * seed + 11 * i));
            let code = (0..8).fold(0, |code, i| code | ((seed / 3usize.pow(i) % 3) as u16) << (2 * i));
            let scales: [f32; 13] = std::array::from_fn(|c| 0.8 + 0.03 * c as f32);
            let mut found = [Found::default(); 13];
            book.find_each::<f32>(&[code; 13], &x, &weights, &scales, &mut found, &mut room);
            for (found, scale) in found.iter().zip(scales) {
                let alone = book.find::<f32>(code, &x, &weights, Odd(scale));
                assert_eq!(found.number, alone.number, "{seed} {scale}");
            }
        }
    }

    #[test]
    fn every_code_has_a_point_or_neighbours() {
        let book = Codebook::<4>::new(&codebook::IQ3_XXS, 8, 2);
        let lists = book.entries.iter().filter(|e| matches!(e, Entry::Neighbours { .. })).count();
        assert_eq!(lists, 8usize.pow(4) - 256);
    }
}
