//! Rotary position embedding.
//!
//! Source: Su et al., RoFormer: Enhanced Transformer with Rotary Position Embedding, 2021.

/// The layout of the pairs of elements in a head that are rotated together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// Pairs are `(2i, 2i + 1)`: the layout of the paper, and of llama in GGUF.
    Adjacent,
    /// Pairs are `(i, i + dims / 2)`: the layout of Hugging Face's llama, and of NeoX in GGUF.
    Halves,
}

/// Returns the angles in radians by which one position rotates the pairs: `scale * base^(-2i / dims) / factors[i]`
/// for i in `0..dims / 2`.
///
/// `scale` is the inverse of a linear scaling factor, or 1 if there is none. `factors` are those of
/// `rope_freqs.weight`, by which Llama 3 slows down slow pairs; missing ones count as 1.
pub fn frequencies(base: f64, dims: usize, factors: &[f32], scale: f64) -> Vec<f64> {
    let factors = factors.iter().map(|&factor| f64::from(factor)).chain(std::iter::repeat(1.0));
    (0..dims / 2)
        .zip(factors)
        .map(|(i, factor)| scale * base.powf(-2.0 * i as f64 / dims as f64) / factor)
        .collect()
}

/// The parameters of YaRN, by which fast pairs rotate as trained, slow pairs rotate slower by a factor, and pairs
/// between them by a blend of both.
///
/// Source: Peng et al., YaRN: Efficient Context Window Extension of Large Language Models, 2023, section 3.2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Yarn {
    /// The factor by which the context has become longer.
    pub factor: f64,
    /// The length of the original context in tokens.
    pub original: f64,
    /// The number of rotations over the original context from which on a pair counts as fast.
    pub beta_fast: f64,
    /// The number of rotations over the original context up to which a pair counts as slow.
    pub beta_slow: f64,
    /// True if the ends of the blend are rounded to whole pairs.
    pub truncated: bool,
}

impl Yarn {
    /// Returns the angles of [`frequencies`], slowed down by YaRN.
    pub fn frequencies(&self, base: f64, dims: usize) -> Vec<f64> {
        let pair_of = |rotations: f64| {
            dims as f64 * (self.original / (rotations * std::f64::consts::TAU)).ln() / (2.0 * base.ln())
        };
        let (mut low, mut high) = (pair_of(self.beta_fast), pair_of(self.beta_slow));
        if self.truncated {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, high) = (low.max(0.0), high.min(dims as f64 - 1.0));
        let width = (high - low).max(0.001);
        let plain = frequencies(base, dims, &[], 1.0).into_iter().enumerate();
        plain
            .map(|(i, frequency)| {
                let slow = ((i as f64 - low) / width).clamp(0.0, 1.0);
                frequency * (1.0 - slow) + frequency / self.factor * slow
            })
            .collect()
    }
}

/// A table of the rotations at every position.
#[derive(Debug, Clone)]
pub struct Rope {
    /// Cosine and sine of each rotation, `[positions][pairs]`.
    rotations: Vec<(f32, f32)>,
    pairs: usize,
    layout: Pairs,
}

impl Rope {
    /// Makes the table for positions `0..positions`; `frequencies` holds one angle per pair. Angles are computed in
    /// f64. Rotated pairs are multiplied by `length`, which is 1 except with YaRN.
    pub fn new(frequencies: &[f64], positions: usize, layout: Pairs, length: f64) -> Self {
        let rotation = |position: usize| {
            frequencies.iter().map(move |frequency| {
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                ((length * cos) as f32, (length * sin) as f32)
            })
        };
        Self { rotations: (0..positions).flat_map(rotation).collect(), pairs: frequencies.len(), layout }
    }

    /// Rotates every head of `x` `[tokens][heads][dim]`, whose tokens have positions from `first` on. The first
    /// `2 * pairs` elements of each head are rotated, the others are left alone.
    ///
    /// # Panics
    ///
    /// When a position is past the table, or the lengths do not fit.
    pub fn rotate(&self, x: &mut [f32], heads: usize, dim: usize, first: usize) {
        self.rotate_heads(x, (heads, dim), first, |rotation| rotation);
    }

    /// Computes the gradient of [`rotate`](Self::rotate): `gradient` comes as that of the result and becomes that of
    /// `x`. Pairs are rotated back and multiplied by `length` once more.
    ///
    /// # Panics
    ///
    /// When a position is past the table, or the lengths do not fit.
    pub fn rotate_gradient(&self, gradient: &mut [f32], heads: usize, dim: usize, first: usize) {
        self.rotate_heads(gradient, (heads, dim), first, |(cos, sin)| (cos, -sin));
    }

    #[inline(always)]
    fn rotate_heads(
        &self,
        x: &mut [f32],
        (heads, dim): (usize, usize),
        first: usize,
        by: impl Fn((f32, f32)) -> (f32, f32) + Copy,
    ) {
        let width = (heads * dim).max(1);
        let tokens = x.len() / width;
        assert!(tokens * width == x.len() && dim >= 2 * self.pairs, "heads of {dim} do not fit");
        if self.pairs == 0 || dim == 0 {
            return;
        }
        let rotations = &self.rotations[first * self.pairs..(first + tokens) * self.pairs];
        for (x, rotations) in x.chunks_exact_mut(width).zip(rotations.chunks_exact(self.pairs)) {
            for head in x.chunks_exact_mut(dim) {
                match self.layout {
                    Pairs::Adjacent => rotate_adjacent(head, rotations, by),
                    Pairs::Halves => rotate_halves(head, rotations, by),
                }
            }
        }
    }
}

#[inline(always)]
fn rotate_adjacent(head: &mut [f32], rotations: &[(f32, f32)], by: impl Fn((f32, f32)) -> (f32, f32)) {
    for ([a, b], rotation) in head.as_chunks_mut().0.iter_mut().zip(rotations) {
        (*a, *b) = rotated(*a, *b, by(*rotation));
    }
}

#[inline(always)]
fn rotate_halves(head: &mut [f32], rotations: &[(f32, f32)], by: impl Fn((f32, f32)) -> (f32, f32)) {
    let (low, high) = head.split_at_mut(rotations.len());
    for ((a, b), rotation) in low.iter_mut().zip(high).zip(rotations) {
        (*a, *b) = rotated(*a, *b, by(*rotation));
    }
}

fn rotated(a: f32, b: f32, (cos, sin): (f32, f32)) -> (f32, f32) {
    (a * cos - b * sin, a * sin + b * cos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_fall_from_one() {
        assert_eq!(frequencies(10000.0, 4, &[], 1.0), [1.0, 0.01]);
        assert_eq!(frequencies(10000.0, 4, &[2.0, 8.0], 0.5), [0.25, 0.000_625]);
    }

    /// Two heads of 6 elements, of which 4 are rotated, are at positions 3 and 4. Pairs are complex numbers times
    /// `e^(i angle)`.
    #[test]
    fn pairs_rotate_by_position_times_frequency() {
        let frequencies = [0.5, 0.25];
        for (layout, pairs) in [(Pairs::Adjacent, [(0, 1), (2, 3)]), (Pairs::Halves, [(0, 2), (1, 3)])] {
            let x: Vec<f32> = (0..24).map(|i| i as f32 - 11.0).collect();
            let mut out = x.clone();
            Rope::new(&frequencies, 5, layout, 1.0).rotate(&mut out, 2, 6, 3);
            for (row, (out, x)) in out.chunks(6).zip(x.chunks(6)).enumerate() {
                let position = (3 + row / 2) as f64;
                for ((a, b), frequency) in pairs.iter().zip(frequencies) {
                    let (sin, cos) = (position * frequency).sin_cos();
                    let (re, im) = (f64::from(x[*a]), f64::from(x[*b]));
                    assert!((f64::from(out[*a]) - (re * cos - im * sin)).abs() < 1e-5);
                    assert!((f64::from(out[*b]) - (re * sin + im * cos)).abs() < 1e-5);
                }
                assert_eq!(out[4..], x[4..]);
            }
        }
    }

    #[test]
    fn yarn_is_plain_for_fast_pairs_and_stretched_for_slow_ones() {
        let yarn = Yarn { factor: 8.0, original: 4096.0, beta_fast: 32.0, beta_slow: 1.0, truncated: true };
        let (plain, stretched) = (frequencies(10000.0, 64, &[], 1.0), yarn.frequencies(10000.0, 64));
        let ratios: Vec<f64> = stretched.iter().zip(&plain).map(|(s, p)| s / p).collect();
        // Pair 10.46 would rotate 32 times in 4096 tokens, pair 22.5 once.
        assert!(ratios[..=10].iter().all(|r| (r - 1.0).abs() < 1e-12), "{ratios:?}");
        assert!(ratios[23..].iter().all(|r| (r - 0.125).abs() < 1e-12), "{ratios:?}");
        assert!((ratios[12] - (1.0 - 2.0 / 13.0 * 0.875)).abs() < 1e-12, "{ratios:?}");
        let exact = Yarn { truncated: false, ..yarn }.frequencies(10000.0, 64);
        assert!(exact[11] > stretched[11] && exact[22] < stretched[22]);
    }

    #[test]
    #[should_panic(expected = "out of range")]
    fn positions_past_the_table_are_refused() {
        Rope::new(&[1.0], 4, Pairs::Halves, 1.0).rotate(&mut [0.0; 4], 1, 2, 3);
    }
}
