//! Nearest points of a codebook: what the encoders of the i-quants search in.
//!
//! Weights are rounded to levels, coordinate by coordinate. Where no point of the codebook has these levels, the points
//! nearest to them by plain distance are tried, by the weighted distance to the weights themselves. Source: ggml's
//! `iq2xs_init_impl`, `iq3xs_init_impl` and `iq2_find_best_neighbour`.

/// Candidates that are compared at once; lists are filled up to a multiple.
const AT_ONCE: usize = 16;

/// A codebook of points with `D` coordinates, each a level; a code is the levels of a point, the first in the lowest bits.
pub(super) struct Codebook<const D: usize> {
    /// The code of each point.
    points: &'static [u16],
    /// For each code the number of its point, or where its list of neighbours begins.
    entries: Vec<Entry>,
    /// Codes of the neighbours, nearest first, list after list.
    neighbours: Vec<[u16; AT_ONCE]>,
    /// Their numbers.
    numbers: Vec<[u16; AT_ONCE]>,
}

#[derive(Clone, Copy)]
enum Entry {
    /// A point has these levels.
    Point(u16),
    /// The nearest ones, from this place on, so many times [`AT_ONCE`].
    Neighbours { start: u32, runs: u32 },
    /// Some coordinate is no level.
    None,
}

/// The point that was found for some weights.
#[derive(Clone, Copy, Default)]
pub(super) struct Found {
    /// Its number.
    pub(super) number: u16,
    /// Whether it has the very levels that were asked for.
    pub(super) exact: bool,
}

impl<const D: usize> Codebook<D> {
    /// Bits of a level in a code.
    const BITS: usize = 16 / D;
    const MASK: u16 = (1 << Self::BITS) - 1;

    /// Finds the neighbours of every code whose levels are below `levels`: the points at the `distances` least distances.
    pub(super) fn new(points: &'static [u16], levels: u16, distances: usize) -> Self {
        let codes = usize::from((0..D).fold(0, |code, i| code | (levels - 1) << (Self::BITS * i))) + 1;
        let mut book =
            Self { points, entries: vec![Entry::None; codes], neighbours: Vec::new(), numbers: Vec::new() };
        for (number, &code) in points.iter().enumerate() {
            book.entries[usize::from(code)] = Entry::Point(number as u16);
        }
        for code in 0..codes as u32 {
            let valid = (0..D).all(|i| Self::level(code as u16, i) < levels);
            if valid && matches!(book.entries[code as usize], Entry::None) {
                book.add_neighbours(code as u16, distances);
            }
        }
        book
    }

    fn add_neighbours(&mut self, code: u16, distances: usize) {
        let squared = |point: u16| -> u16 {
            (0..D).map(|i| Self::level(code, i).abs_diff(Self::level(point, i)).pow(2)).sum()
        };
        let mut by_distance: Vec<(u16, u16)> =
            self.points.iter().enumerate().map(|(number, &point)| (squared(point), number as u16)).collect();
        by_distance.sort_unstable();
        let mut seen = 0;
        let mut last = None;
        let near: Vec<u16> = by_distance
            .iter()
            .take_while(|&&(distance, _)| {
                seen += usize::from(last != Some(distance));
                last = Some(distance);
                seen <= distances
            })
            .map(|&(_, number)| number)
            .collect();
        let start = self.numbers.len() as u32;
        for run in near.chunks(AT_ONCE) {
            // What is repeated is never the first of its distance.
            let numbers = std::array::from_fn(|i| run[i.min(run.len() - 1)]);
            self.numbers.push(numbers);
            self.neighbours.push(numbers.map(|number| self.points[usize::from(number)]));
        }
        let runs = self.numbers.len() as u32 - start;
        self.entries[usize::from(code)] = Entry::Neighbours { start, runs };
    }

    #[inline(always)]
    fn level(code: u16, coordinate: usize) -> u16 {
        code >> (Self::BITS * coordinate) & Self::MASK
    }

    /// The levels of a point.
    #[inline(always)]
    pub(super) fn levels(&self, number: u16) -> [u8; D] {
        let code = self.points[usize::from(number)];
        std::array::from_fn(|i| Self::level(code, i) as u8)
    }

    /// The point with these `levels`, or else the neighbour for which `Σ weights·(values[level] - x)²` is least, the nearest
    /// of several.
    #[inline(always)]
    pub(super) fn find(
        &self,
        levels: &[u8; D],
        x: &[f32; D],
        weights: &[f32; D],
        value: impl Value,
    ) -> Found {
        match self.entries[usize::from(code_of(levels))] {
            Entry::Point(number) => Found { number, exact: true },
            Entry::None => Found::default(),
            Entry::Neighbours { start, runs } => {
                let lists = start as usize..(start + runs) as usize;
                let mut number = self.numbers[lists.start][0];
                let mut least = f32::MAX;
                for list in lists {
                    let distances = distances(&self.neighbours[list], x, weights, value);
                    for (&distance, &candidate) in distances.iter().zip(&self.numbers[list]) {
                        if distance < least {
                            (least, number) = (distance, candidate);
                        }
                    }
                }
                Found { number, exact: false }
            }
        }
    }
}

/// What a level stands for.
pub(super) trait Value: Copy {
    fn of(self, level: u16) -> f32;
}

/// Odd multiples of a scale: magnitudes.
#[derive(Clone, Copy)]
pub(super) struct Odd(pub(super) f32);

impl Value for Odd {
    #[inline(always)]
    fn of(self, level: u16) -> f32 {
        self.0 * f32::from(2 * level + 1)
    }
}

/// A scale times -1, 0 or 1, shifted.
#[derive(Clone, Copy)]
pub(super) struct Shifted {
    pub(super) scale: f32,
    pub(super) shift: f32,
}

impl Shifted {
    /// Without the scale.
    #[inline(always)]
    pub(super) fn unit(self, level: u16) -> f32 {
        f32::from(level) - 1.0 + self.shift
    }
}

impl Value for Shifted {
    #[inline(always)]
    fn of(self, level: u16) -> f32 {
        self.scale * self.unit(level)
    }
}

/// The weighted squared distances of points to `x`, summed in the order of the coordinates.
#[inline(always)]
fn distances<const D: usize>(
    codes: &[u16; AT_ONCE],
    x: &[f32; D],
    weights: &[f32; D],
    value: impl Value,
) -> [f32; AT_ONCE] {
    let mut distances = [0.0; AT_ONCE];
    for i in 0..D {
        for (distance, &code) in distances.iter_mut().zip(codes) {
            let deviation = value.of(code >> (16 / D * i) & ((1 << (16 / D)) - 1)) - x[i];
            *distance += weights[i] * deviation * deviation;
        }
    }
    distances
}

/// The levels as a code.
#[inline(always)]
fn code_of<const D: usize>(levels: &[u8; D]) -> u16 {
    let mut code = 0;
    for (i, &level) in levels.iter().enumerate() {
        code |= u16::from(level) << (16 / D * i);
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::codebook;

    #[test]
    fn points_are_found_and_their_neighbours_elsewhere() {
        let book = Codebook::<8>::new(&codebook::IQ2_XXS, 3, 2);
        for number in 0..256 {
            let found = book.find(&book.levels(number), &[0.0; 8], &[1.0; 8], Odd(1.0));
            assert_eq!((found.number, found.exact), (number, true));
        }
        // Nothing has these levels; with all weight on the first coordinate its value decides.
        let levels = [2, 1, 1, 1, 1, 1, 1, 2];
        let mut weights = [0.0; 8];
        weights[0] = 1.0;
        for level in [0u8, 2] {
            let x = [f32::from(2 * level + 1); 8];
            let found = book.find(&levels, &x, &weights, Odd(1.0));
            assert!(!found.exact);
            let near = book.levels(found.number);
            let distance: i32 =
                near.iter().zip(&levels).map(|(a, b)| (i32::from(*a) - i32::from(*b)).pow(2)).sum();
            assert!((1..=3).contains(&distance), "{near:?}");
        }
    }

    #[test]
    fn lists_hold_whole_distances() {
        let book = Codebook::<4>::new(&codebook::IQ3_XXS, 8, 2);
        let lists = book.entries.iter().filter(|e| matches!(e, Entry::Neighbours { .. })).count();
        assert_eq!(lists, 8usize.pow(4) - 256);
    }
}
