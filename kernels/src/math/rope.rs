//! Rotary position embedding.
//!
//! Source: Su et al., RoFormer: Enhanced Transformer with Rotary Position Embedding, 2021.

/// Which elements of a head turn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// `(2i, 2i + 1)`: the layout of the paper, and of llama in GGUF.
    Adjacent,
    /// `(i, i + dims / 2)`: the layout of Hugging Face's llama, and of NeoX in GGUF.
    Halves,
}

/// The angles by which one step turns the pairs: `scale * base^(-2i / dims) / factors[i]` for i in `0..dims / 2`.
///
/// `scale` is the inverse of a linear scaling factor, else 1. `factors` are those of `rope_freqs.weight`, by which
/// Llama 3 stretches slow pairs; missing ones are 1.
pub fn frequencies(base: f64, dims: usize, factors: &[f32], scale: f64) -> Vec<f64> {
    let factors = factors.iter().map(|&factor| f64::from(factor)).chain(std::iter::repeat(1.0));
    (0..dims / 2)
        .zip(factors)
        .map(|(i, factor)| scale * base.powf(-2.0 * i as f64 / dims as f64) / factor)
        .collect()
}

/// Sines and cosines of the angles at every position.
#[derive(Debug, Clone)]
pub struct Rope {
    /// `[positions][pairs]` of (cosine, sine).
    turns: Vec<(f32, f32)>,
    pairs: usize,
    layout: Pairs,
}

impl Rope {
    /// The table for positions `0..positions`; `frequencies` holds one angle per pair. Angles are computed in f64.
    pub fn new(frequencies: &[f64], positions: usize, layout: Pairs) -> Self {
        let turn = |position: usize| {
            frequencies.iter().map(move |frequency| {
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                (cos as f32, sin as f32)
            })
        };
        Self { turns: (0..positions).flat_map(turn).collect(), pairs: frequencies.len(), layout }
    }

    /// Turns every head of `x` `[tokens][heads][dim]`, whose tokens have positions from `first` on. Of each head the
    /// first `2 * pairs` elements turn.
    ///
    /// # Panics
    ///
    /// When a position is past the table, or the lengths do not fit.
    pub fn rotate(&self, x: &mut [f32], heads: usize, dim: usize, first: usize) {
        let width = (heads * dim).max(1);
        let tokens = x.len() / width;
        assert!(tokens * width == x.len() && dim >= 2 * self.pairs, "heads of {dim} do not fit");
        if self.pairs == 0 || dim == 0 {
            return;
        }
        let turns = &self.turns[first * self.pairs..(first + tokens) * self.pairs];
        for (x, turns) in x.chunks_exact_mut(width).zip(turns.chunks_exact(self.pairs)) {
            for head in x.chunks_exact_mut(dim) {
                match self.layout {
                    Pairs::Adjacent => turn_adjacent(head, turns),
                    Pairs::Halves => turn_halves(head, turns),
                }
            }
        }
    }
}

fn turn_adjacent(head: &mut [f32], turns: &[(f32, f32)]) {
    for ([a, b], turn) in head.as_chunks_mut().0.iter_mut().zip(turns) {
        (*a, *b) = turned(*a, *b, *turn);
    }
}

fn turn_halves(head: &mut [f32], turns: &[(f32, f32)]) {
    let (low, high) = head.split_at_mut(turns.len());
    for ((a, b), turn) in low.iter_mut().zip(high).zip(turns) {
        (*a, *b) = turned(*a, *b, *turn);
    }
}

fn turned(a: f32, b: f32, (cos, sin): (f32, f32)) -> (f32, f32) {
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

    /// Two heads of 6 of which 4 turn, at positions 3 and 4: pairs as complex numbers times `e^(i angle)`.
    #[test]
    fn pairs_turn_by_position_times_frequency() {
        let frequencies = [0.5, 0.25];
        for (layout, pairs) in [(Pairs::Adjacent, [(0, 1), (2, 3)]), (Pairs::Halves, [(0, 2), (1, 3)])] {
            let x: Vec<f32> = (0..24).map(|i| i as f32 - 11.0).collect();
            let mut out = x.clone();
            Rope::new(&frequencies, 5, layout).rotate(&mut out, 2, 6, 3);
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
    #[should_panic(expected = "out of range")]
    fn positions_past_the_table_are_refused() {
        Rope::new(&[1.0], 4, Pairs::Halves).rotate(&mut [0.0; 4], 1, 2, 3);
    }
}
